/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_MEMWRITE_FAULT_H
#define BROKER_MEMWRITE_FAULT_H

/*
 * Memory accesses that may hit a RAM file which its owner has truncated: a SIGBUS inside of one is
 * caught and becomes an error. A SIGBUS anywhere else still kills.
 *
 * Bytes are copied by the processor and not by process_vm_readv/writev on ourselves, which cost a
 * system call each. A file ends at a page, so copies go page by page: what a fault interrupts is a
 * page that is gone, and the pages before it are complete.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Installs the SIGBUS handler; once per process. 0 or -errno. */
__attribute__((warn_unused_result)) int fault_setup(void);

/* Copy out of the guest; the page of a hole is made. 0 or VMSIG_ERR_OUT_OF_RANGE. */
__attribute__((warn_unused_result)) int fault_read(void *to, const void *guest, size_t len);
/* Copy into the guest; `old` gets what was there. *ret_done is how many bytes made it, also on
 * failure. 0 or VMSIG_ERR_OUT_OF_RANGE. */
__attribute__((warn_unused_result)) int fault_exchange(
	void *guest, const void *from, void *old, size_t len, size_t *ret_done);

/* One atomic access of `size` 1, 2, 4 or 8 bytes, naturally aligned. With `expect`, only if
 * the bits of `expect_mask` are as in *expect: VMSIG_ERR_COMPARE_FAILED. Bits outside `mask`
 * keep what the guest has put there. *ret_old is what was there. */
struct fault_store {
	size_t size;
	uint64_t value, mask;
	bool has_expect;
	uint64_t expect, expect_mask;
};
__attribute__((warn_unused_result)) int fault_store(
	void *guest, const struct fault_store *store, uint64_t *ret_old);

#endif
