/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_KCR3_KCR3_H
#define BROKER_KCR3_KCR3_H

/*
 * Finds and proves the root of the guest kernel's address space from guest RAM. Pure over a
 * read function; runs on the thread pool because a scan takes time. All of guest RAM is
 * hostile input.
 *
 * Old kernels survive a warm reset in RAM with their tables intact, so "walks to its own
 * release string" alone accepts a dead root: when vCPU roots are known, the kernel half
 * (entries 256..511) of the candidate must equal that of one of them.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/pgwalk.h"
#include "proto/physmap.h"

enum kcr3_os { KCR3_OS_UNKNOWN = 0, KCR3_OS_LINUX, KCR3_OS_WINDOWS };

#define KCR3_RELEASE_MAX 65 /* __NEW_UTS_LEN + 1 */
#define KCR3_VCPUS_MAX 512

struct kcr3_memory {
	pgwalk_read_fn read; /* guest-physical */
	void *ctx;
	const struct physmap *map; /* what to scan */
	int fd; /* RAM file behind the map for hole skipping (SEEK_DATA), or -1. Its own open file
		 * description: the offset is moved */
};

/* What identifies a proven kernel; enough to prove it again cheaply. */
struct kcr3_proof {
	enum kcr3_os os;
	uint64_t kcr3;
	unsigned levels;                /* 4 or 5 */
	uint64_t note_gpa;              /* Linux: the VMCOREINFO text; Windows: the low stub */
	uint64_t banner_gva;            /* Linux: init_uts_ns name.release; Windows: kernel entry */
	char release[KCR3_RELEASE_MAX]; /* Linux release, or "" */
	uint64_t digest;                /* of the page that proves the kernel */
	uint64_t placement; /* digest of where this boot has put things at random; 0: nothing in it
			     * is random, and another boot may look the same */
};

/* Scans and proves. `vcpu_cr3` are current roots (CR3 as read, flags included); with none the
 * vCPU check is skipped, which is only acceptable for an image that nobody runs.
 * `*cancel` ends the scan early with VMSIG_ERR_TIMEOUT; it may be NULL.
 * 0; VMSIG_ERR_NOT_READY: no kernel found; VMSIG_ERR_IO; VMSIG_ERR_OUT_OF_RANGE: the RAM file
 * shrank; -ENOMEM. Unless it is 0, `why` gets a sentence. */
__attribute__((warn_unused_result)) int kcr3_find(const struct kcr3_memory *memory,
	const uint64_t *vcpu_cr3, size_t nvcpu, const atomic_bool *cancel,
	struct kcr3_proof *ret_proof, char *why, size_t why_size);

/* Proves a known root again without a scan: a few page reads. 0 or VMSIG_ERR_NOT_READY. */
__attribute__((warn_unused_result)) int kcr3_reprove(const struct kcr3_memory *memory,
	const struct kcr3_proof *proof, const uint64_t *vcpu_cr3, size_t nvcpu);

#endif
