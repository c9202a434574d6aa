/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_KCR3_H
#define PROTO_GUEST_KCR3_H

/*
 * Finds and proves the root of the guest kernel's address space from guest RAM. Pure over a
 * read function. All of guest RAM is hostile input.
 *
 * A kernel is proven by its own word, never by the shape of its page tables: Linux by the
 * VMCOREINFO note and its release string, Windows by ntoskrnl.exe and its System process. And
 * old kernels survive a warm reset in RAM with their tables intact, so when vCPU roots are
 * known, the kernel half (entries 256..511) of the candidate must equal that of one of them.
 *
 * A search is done in short steps, so that many guests take turns on few threads and none can
 * keep one busy.
 *
 *   kcr3        the search
 *   strategy    a way to find a kernel
 *   search      what is said of the search
 *   linux       one
 *   windows     another
 *   sweep       all pages of RAM
 *   root        root tables
 *   space       the memory under a root
 *   span        the files under RAM
 *   vmcoreinfo  what a Linux says of itself
 *   ntimage     what Windows' kernel says of itself
 *   memo        what was judged already
 *   pgwalk      page tables
 *   physmap     where RAM lies in its file
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest/pgwalk.h"
#include "proto/guest/physmap.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_event.h"

#define KCR3_VCPUS_MAX 512

struct kcr3_memory {
	pgwalk_read_fn read; /* guest-physical */
	void *ctx;
	const struct physmap *map; /* what to scan */
	/* The RAM files behind the map for hole skipping (SEEK_DATA), NULL: all counts as data. Of
	 * open file descriptions of their own: the offsets are moved. */
	const struct span *files;
};

/* What identifies a proven kernel; enough to prove it again cheaply. */
struct kcr3_proof {
	uint64_t kcr3;
	unsigned levels;     /* 4 or 5 */
	vmsig_system system; /* which one, and by which proof */
	uint64_t note_gpa;   /* Linux: the VMCOREINFO text; Windows: the low stub, 0 without */
	uint64_t banner_gva; /* Linux: init_uts_ns name.release; Windows: ntoskrnl.exe's base */
	uint64_t digest;     /* of what proves the kernel */
	uint64_t placement;  /* digest of where this boot has put things at random; 0: nothing in it
			      * is random, and another boot may look the same */
};

struct kcr3_scan;

/* A search through all of RAM. `memory` is copied; its map, ctx and files, and `vcpu_cr3`, stay
 * the caller's until kcr3_scan_free(). `vcpu_cr3` are current roots (CR3 as read, flags
 * included); with none the vCPU check is skipped, which is only acceptable for an image that
 * nobody runs. `notes_from` is 0, or what kcr3_scan_notes_next() said of the search before.
 * 0 or -errno. */
__attribute__((warn_unused_result)) int kcr3_scan_new(struct kcr3_scan **ret_scan,
	const struct kcr3_memory *memory, const uint64_t *vcpu_cr3, size_t nvcpu,
	uint64_t notes_from);
/* Goes on by some milliseconds of work (about a MiB of RAM), whatever the guest has put there.
 * VMSIG_ERR_WOULD_BLOCK: there is more to do. 0: kcr3_scan_proof() has the kernel.
 * VMSIG_ERR_NOT_READY: no kernel found; VMSIG_ERR_IO; VMSIG_ERR_OUT_OF_RANGE: the RAM file
 * shrank; -ENOMEM. Not to be called again after anything but WOULD_BLOCK. */
__attribute__((warn_unused_result)) int kcr3_scan_step(struct kcr3_scan *scan);
const struct kcr3_proof *kcr3_scan_proof(const struct kcr3_scan *scan);
/* Why there is none, a sentence. */
const char *kcr3_scan_why(const struct kcr3_scan *scan);
/* Where the next search is to go on judging notes: a guest may hold more than one search
 * judges, and the true one must not stay hidden behind them. 0: all were judged. */
uint64_t kcr3_scan_notes_next(const struct kcr3_scan *scan);
/* Accepts NULL, returns NULL. */
struct kcr3_scan *kcr3_scan_free(struct kcr3_scan *scan);

/* All steps of a search at once. `*cancel` ends it early with VMSIG_ERR_TIMEOUT; it may be
 * NULL. Returns what the last step did; unless it is 0, `why` gets a sentence. */
__attribute__((warn_unused_result)) int kcr3_find(const struct kcr3_memory *memory,
	const uint64_t *vcpu_cr3, size_t nvcpu, const atomic_bool *cancel,
	struct kcr3_proof *ret_proof, char *why, size_t why_size);

/* Proves a known root again without a scan: a few page reads. 0 or VMSIG_ERR_NOT_READY. */
__attribute__((warn_unused_result)) int kcr3_reprove(const struct kcr3_memory *memory,
	const struct kcr3_proof *proof, const uint64_t *vcpu_cr3, size_t nvcpu);

#endif
