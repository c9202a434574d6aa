/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_OS_H
#define CLIENTS_OS_OS_H

/*
 * What is in a guest (vmsig_os.h): the public calls, over what each system's folder knows. Stands
 * on the public holder's calls (vmsig_mem.h) alone; the broker never links it.
 *
 *   os       the public calls
 *   content  those about what a system has beside processes
 *   check    those that compare what it says with what else there is
 *   finding  what they find
 *   names    lists of named addresses
 *   grow     arrays
 */

#include <stdint.h>

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

struct vmsig_os_handle {
	uint32_t kind;  /* enum vmsig_os */
	vmsig_mem *own; /* opened for it; NULL: `mem` is the caller's */
	struct linux_kernel linux_kernel;
};

#endif
