/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_VCPU_H
#define BROKER_ADAPTERS_QEMU_VCPU_H

/*
 * Parses the text of QEMU's `info registers -a` for the page-table roots that vCPUs use
 * now. Pure; the text is foreign. A vCPU that is not in long mode with paging on (reset,
 * firmware, not started, a 32-bit kernel) has no root and is left out.
 */

#include <stddef.h>
#include <stdint.h>

struct vcpu_roots {
	uint64_t *cr3; /* as read, flags included; owned */
	size_t ncr3;
	size_t ncpus;   /* vCPUs seen, in whatever mode */
	size_t nlegacy; /* of these, with paging on outside of long mode */
};

/* 0; VMSIG_ERR_BAD_REQUEST: not a register dump of an x86 machine; -ENOMEM. At most
 * KCR3_VCPUS_MAX roots are kept. */
__attribute__((warn_unused_result)) int vcpu_parse(
	struct vcpu_roots *ret_roots, const char *text, size_t len);
void vcpu_deinit(struct vcpu_roots *roots);
/* Why there is no root, a sentence. */
void vcpu_say_none(const struct vcpu_roots *roots, char *why, size_t why_size);

#endif
