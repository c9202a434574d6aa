/* SPDX-License-Identifier: Apache-2.0 */
/* The write calls of a holder, which say no (R8). */
#include "vmsig/vmsig_mem.h"

#include <errno.h>

/* R8: there is nothing to check, and no state in which the answer differs. */
static int refuse(void)
{
	errno = EROFS;
	return -VMSIG_ERR_READ_ONLY;
}

int vmsig_gva_write(vmsig_mem *mem, uint64_t cr3, uint64_t gva, const void *buf, size_t len)
{
	return refuse();
}

int vmsig_phys_write(vmsig_mem *mem, uint64_t gpa, const void *buf, size_t len)
{
	return refuse();
}
