/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_PROFILE_H
#define CLIENTS_OS_LINUX_PROFILE_H

/*
 * What was learnt of kernels, kept for the next handle in this process: of the same build at the
 * same place, it is the same. It is when all that it was learnt from is the same, byte by byte: one
 * guest must not say how another one is looked at. What was found in a guest's objects is never
 * kept, as these are its own. Handles may be opened by several threads.
 */

#include "clients/os/linux/kernel.h"

/* Those that nobody uses stay, so many of them: some twenty megabytes each. */
#define LINUX_PROFILES_KEPT 2u

/* Takes what was learnt of the kernel over, if it may be kept; the kernel has it still.
 * VMSIG_ERR_NO_MEMORY: it is the kernel's alone as before. */
__attribute__((warn_unused_result)) int linux_profile_keep(struct linux_kernel *kernel);
/* Gives the kernel what was learnt of one like it. False: nothing was, or it is another. */
bool linux_profile_find(struct linux_kernel *kernel);
/* Of a kernel that has one. */
void linux_profile_release(struct linux_kernel *kernel);

#endif
