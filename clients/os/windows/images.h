/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_IMAGES_H
#define CLIENTS_OS_WINDOWS_IMAGES_H

/* Programs and libraries of a process: those that the loader in it lists, which who runs there may
 * change, and what else the kernel has mapped as an image. */

#include "clients/os/windows/kernel.h"

/* In ascending order. Paths are allocated. VMSIG_ERR_UNSUPPORTED: where processes have their
 * loader's list is not known. */
__attribute__((warn_unused_result)) int windows_images_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_image_list *ret_list);
/* Forgets all. */
void windows_images_clear(vmsig_image_list *list);

#endif
