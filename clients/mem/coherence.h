/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_COHERENCE_H
#define CLIENTS_MEM_COHERENCE_H

/*
 * A reader's side of the coherence page: a sequence lock whose writer is the broker, plus
 * the epoch.
 *
 * Ordering: begin() loads sequence and epoch with acquire, so no byte is read before them;
 * end() issues an acquire fence, so no byte is read after it loads them again. A write that
 * overlapped has either been seen as odd by begin() or has changed what end() sees.
 *
 * Somebody has to look after the page: what end() finds without a living broker is an error,
 * never old data. begin() asks for the owner, end() for the owner and the time.
 *
 * The epoch decides, not the state: BOOTING and READY of the same epoch are alike. INVALID
 * says that the epoch has just ended, which is the same as seeing another one. GONE is an
 * error of its own, because waiting for a new context of a running guest is of no use.
 * UNREACHABLE is one too: the broker cannot vouch for the epoch until it has contact again,
 * and then the same context may be good as before. UNATTENDED is a broker's farewell.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/mem/clock.h"
#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_event.h"

struct mem_coherence {
	const vmsig_coherence *page; /* NULL: none attached, everything is coherent */
	uint32_t epoch;              /* the epoch that reads must be of */
	uint32_t state;              /* as of attaching or of the last change told by wait */
	mem_clock_fn clock;          /* NULL without a page */
};

#define COHERENCE_INIT ((struct mem_coherence){0})

/* Maps the page. VMSIG_ERR_BAD_REQUEST: not a coherence page of `endpoint` (0: of any), or
 * one that could shrink under the mapping; VMSIG_ERR_IO; -ENOMEM. */
__attribute__((warn_unused_result)) int mem_coherence_init(
	struct mem_coherence *coherence, int fd, uint32_t epoch, uint32_t endpoint);
void mem_coherence_deinit(struct mem_coherence *coherence);

/* Waits for an even sequence, for a bounded time. 0 or VMSIG_ERR_TORN. */
__attribute__((warn_unused_result)) int mem_coherence_wait_even(
	const struct mem_coherence *coherence, uint64_t *ret_sequence);
/* As vmsig_mem_wait(). */
__attribute__((warn_unused_result)) int mem_coherence_wait(
	struct mem_coherence *coherence, int timeout_ms);

/* VMSIG_ERR_NO_BROKER: it has ended or died. */
__attribute__((warn_unused_result)) static inline int mem_coherence_owned(
	const struct mem_coherence *coherence)
{
	uint32_t owner = __atomic_load_n(&coherence->page->owner, __ATOMIC_ACQUIRE);

	return owner && !(owner & VMSIG_COHERENCE_OWNER_DIED) ? 0 : VMSIG_ERR_NO_BROKER;
}

/* VMSIG_ERR_NO_BROKER: it stands still. The coarse clock is behind by a tick at most, which is
 * nothing against the span that a broker vouches for. */
__attribute__((warn_unused_result)) static inline int mem_coherence_vouched(
	const struct mem_coherence *coherence)
{
	uint64_t until = __atomic_load_n(&coherence->page->vouched_ns, __ATOMIC_ACQUIRE);

	return mem_clock_now(coherence->clock) <= until ? 0 : VMSIG_ERR_NO_BROKER;
}

/* 0, VMSIG_ERR_STALE_EPOCH, VMSIG_ERR_GONE, VMSIG_ERR_NO_BROKER or VMSIG_ERR_NOT_READY
 * (unreachable). */
__attribute__((warn_unused_result)) static inline int mem_coherence_check(
	const struct mem_coherence *coherence)
{
	uint32_t epoch = __atomic_load_n(&coherence->page->epoch, __ATOMIC_ACQUIRE);
	uint32_t state = __atomic_load_n(&coherence->page->state, __ATOMIC_ACQUIRE);

	if (epoch != coherence->epoch || state == VMSIG_STATE_INVALID)
		return VMSIG_ERR_STALE_EPOCH;
	if (state == VMSIG_STATE_GONE)
		return VMSIG_ERR_GONE;
	if (state == VMSIG_STATE_UNATTENDED)
		return VMSIG_ERR_NO_BROKER;
	if (state == VMSIG_STATE_UNREACHABLE && mem_coherence_owned(coherence) == 0)
		return VMSIG_ERR_NOT_READY;
	return mem_coherence_owned(coherence);
}

/* Adds VMSIG_ERR_TORN: a write went on for too long. */
__attribute__((warn_unused_result)) static inline int mem_coherence_begin(
	const struct mem_coherence *coherence, uint64_t *ret_sequence)
{
	uint64_t sequence;

	if (!coherence->page)
		return 0;
	sequence = __atomic_load_n(&coherence->page->sequence, __ATOMIC_ACQUIRE);
	if (sequence & 1) {
		int r = mem_coherence_wait_even(coherence, &sequence);

		if (r)
			return r;
	}
	*ret_sequence = sequence;
	return mem_coherence_check(coherence);
}

static inline void mem_coherence_fence(void)
{
/* GCC says that its thread sanitizer does not model fences. The processor still needs it. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#pragma GCC diagnostic pop
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Adds VMSIG_ERR_TORN: a write overlapped. */
__attribute__((warn_unused_result)) static inline int mem_coherence_end(
	const struct mem_coherence *coherence, uint64_t sequence)
{
	int r;

	if (!coherence->page)
		return 0;
	mem_coherence_fence();
	r = mem_coherence_check(coherence);
	if (!r)
		r = mem_coherence_vouched(coherence);
	if (r)
		return r;
	if ((sequence & 1) ||
		__atomic_load_n(&coherence->page->sequence, __ATOMIC_RELAXED) != sequence)
		return VMSIG_ERR_TORN;
	return 0;
}

/* Whether mem_coherence_end() says 0, for the reads that everything is made for: asked for in one
 * look. False says nothing; then the other one tells. */
__attribute__((warn_unused_result)) static inline bool mem_coherence_plain(
	const struct mem_coherence *coherence, uint64_t sequence)
{
	const vmsig_coherence *page = coherence->page;
	uint32_t state, owner;

	mem_coherence_fence();
	if (mem_coherence_vouched(coherence))
		return false;
	state = __atomic_load_n(&page->state, __ATOMIC_ACQUIRE);
	owner = __atomic_load_n(&page->owner, __ATOMIC_ACQUIRE);
	return (state == VMSIG_STATE_READY || state == VMSIG_STATE_BOOTING) && owner &&
	       !(owner & VMSIG_COHERENCE_OWNER_DIED) && !(sequence & 1) &&
	       __atomic_load_n(&page->epoch, __ATOMIC_ACQUIRE) == coherence->epoch &&
	       __atomic_load_n(&page->sequence, __ATOMIC_RELAXED) == sequence;
}

#endif
