/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_IMAGES_H
#define CLIENTS_OS_LINUX_IMAGES_H

/* The programs and libraries that a process of a Linux guest has mapped, as vmsig_os.h gives them
 * out. */

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

#define LINUX_IMAGES_MAX (1u << 16) /* of one process; some have a thousand */

/* Paths are allocated. What was taken before an error is in the list. */
__attribute__((warn_unused_result)) int linux_images_list(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_image_list *ret_list);
/* Forgets all. */
void linux_images_clear(vmsig_image_list *list);
/* The file that a process was started from. VMSIG_ERR_NOT_MAPPED: it has none, as a thread of the
 * kernel's. */
__attribute__((warn_unused_result)) int linux_images_program(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_file *ret_file);

#endif
