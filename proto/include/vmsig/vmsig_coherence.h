/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_COHERENCE_H
#define VMSIG_COHERENCE_H

/*
 * Layout of an endpoint's coherence page: one page of shared memory that only the broker
 * writes and every holder of a MEMCTX maps read-only.
 *
 * A coherent read is: load epoch and sequence, read guest memory, load both again. Equal
 * epochs, equal and even sequences mean that the bytes are of that epoch and that no
 * CMD_MEMWRITE was applied meanwhile. vmsig_mem_read_begin()/_end() in libvmsig do this.
 *
 * All of that holds only as long as somebody sees to it. `owner` is a robust futex word
 * (futex(2), robust_list in the kernel's documentation): a thread's id while the broker lives;
 * the kernel itself sets VMSIG_COHERENCE_OWNER_DIED in it when the broker dies, however it dies,
 * and a broker that ends leaves 0 there and VMSIG_STATE_UNATTENDED in `state`. `vouched_ns` is the
 * moment of CLOCK_MONOTONIC until which a living broker has promised to look after the page; it
 * moves on several times in that span, so that a broker that was stopped or hangs is found out, and
 * the page is right again by itself when it goes on. A reader looks at both after it has read.
 *
 * `change` is a futex word: the broker increments it and wakes it after every change of
 * epoch or state, and FUTEX_WAIT works on a read-only shared mapping.
 */

#include <stddef.h>
#include <stdint.h>

#include "vmsig_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMSIG_COHERENCE_MAGIC 0x484f434749534d56ull /* "VMSIGCOH", little-endian */
#define VMSIG_COHERENCE_VERSION 2u
#define VMSIG_COHERENCE_SIZE 4096u             /* bytes of the shared file */
#define VMSIG_COHERENCE_OWNER_DIED 0x40000000u /* FUTEX_OWNER_DIED of linux/futex.h */

/* All words that change are read and written atomically; they are plain integers here so
 * that C++ and foreign-function users can include the header. */
typedef struct {
	uint64_t magic;    /* VMSIG_COHERENCE_MAGIC */
	uint32_t version;  /* VMSIG_COHERENCE_VERSION; a reader refuses others */
	uint32_t endpoint; /* id of the endpoint */
	uint32_t epoch;    /* current epoch */
	uint32_t state;    /* enum vmsig_endpoint_state */
	uint64_t sequence; /* odd while a CMD_MEMWRITE is being applied */
	uint32_t change;   /* futex word */
	uint32_t owner;    /* robust futex word; 0: nobody looks after the page */
	uint64_t vouched_ns;
} vmsig_coherence;

VMSIG_STATIC_ASSERT(sizeof(vmsig_coherence) == 48, "the page's layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, magic) == 0, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, version) == 8, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, endpoint) == 12, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, epoch) == 16, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, state) == 20, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, sequence) == 24, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, change) == 32, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, owner) == 36, "layout crosses processes");
VMSIG_STATIC_ASSERT(offsetof(vmsig_coherence, vouched_ns) == 40, "layout crosses processes");

#ifdef __cplusplus
}
#endif

#endif
