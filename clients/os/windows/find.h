/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_FIND_H
#define CLIENTS_OS_WINDOWS_FIND_H

/* Where the kernel's image is. */

#include "clients/os/windows/kernel.h"

/* Where Windows maps its kernel: what its loader maps, in one entry of the root (as proto/guest has
 * it, too). */
#define WINDOWS_IMAGES_FIRST 0xfffff80000000000ull
#define WINDOWS_IMAGES_LAST 0xfffff87fffffffffull

/* Fills kernel->image. VMSIG_ERR_UNSUPPORTED: there is none under kernel->root. */
__attribute__((warn_unused_result)) int windows_find(struct windows_kernel *kernel);

#endif
