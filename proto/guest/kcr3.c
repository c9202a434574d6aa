/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/kcr3.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/strategy.h"
#include "vmsig/vmsig_error.h"

#define STEP (1 << 20) /* bytes read in one step: about a millisecond */
#define CALL_COST 1024 /* what a read costs beside its bytes, in bytes */
#define WHY_MAX 256    /* bytes of the sentence */

static const struct kcr3_strategy *const strategies[] = {
	[VMSIG_OS_LINUX] = &kcr3_linux,
	[VMSIG_OS_WINDOWS] = &kcr3_windows,
};
#define STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))

struct kcr3_scan {
	struct kcr3_search search;
	struct kcr3_memory memory; /* the caller's; the search has one that charges */
	size_t strategy;           /* the one that is tried */
	void *state;               /* its own; NULL: not started */
	struct kcr3_proof proof;
	char why[WHY_MAX];
};

/* pgwalk_read_fn */
static int charged_read(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	struct kcr3_scan *scan = ctx;

	scan->search.left -= (int64_t)len + CALL_COST;
	return scan->memory.read(scan->memory.ctx, gpa, buf, len);
}

int kcr3_scan_new(struct kcr3_scan **ret_scan, const struct kcr3_memory *memory,
	const uint64_t *vcpu_cr3, size_t nvcpu, uint64_t notes_from)
{
	struct kcr3_scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return -ENOMEM;
	scan->memory = *memory;
	scan->strategy = VMSIG_OS_LINUX;
	scan->search = (struct kcr3_search){.memory = *memory,
		.vcpu_cr3 = vcpu_cr3,
		.nvcpu = nvcpu,
		.notes_from = notes_from,
		.why = scan->why,
		.why_size = sizeof(scan->why)};
	scan->search.memory.read = charged_read;
	scan->search.memory.ctx = scan;
	search_say(&scan->search, "no kernel found in guest RAM yet");
	*ret_scan = scan;
	return 0;
}

static int strategy_step(struct kcr3_scan *scan)
{
	const struct kcr3_strategy *strategy = strategies[scan->strategy];
	int r;

	if (!scan->state) {
		scan->state = calloc(1, strategy->state_size);
		r = scan->state ? strategy->start(&scan->search, scan->state) : -ENOMEM;
		if (r)
			return r;
	}
	return strategy->step(&scan->search, scan->state, &scan->proof);
}

static void strategy_end(struct kcr3_scan *scan)
{
	if (scan->state)
		strategies[scan->strategy]->end(scan->state);
	free(scan->state);
	scan->state = NULL;
}

int kcr3_scan_step(struct kcr3_scan *scan)
{
	int r;

	scan->search.left = STEP;
	r = strategy_step(scan);
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return r;
	strategy_end(scan);
	if (r == VMSIG_ERR_NOT_READY && scan->strategy + 1 < STRATEGIES) {
		scan->strategy++;
		return VMSIG_ERR_WOULD_BLOCK;
	}
	if (r && r != VMSIG_ERR_NOT_READY)
		search_say(&scan->search, "the search for a kernel ended early: %s",
			r < 0 ? strerror(-r) : vmsig_error_text(r));
	return r;
}

const struct kcr3_proof *kcr3_scan_proof(const struct kcr3_scan *scan)
{
	return &scan->proof;
}

const char *kcr3_scan_why(const struct kcr3_scan *scan)
{
	return scan->why;
}

uint64_t kcr3_scan_notes_next(const struct kcr3_scan *scan)
{
	return scan->search.notes_next;
}

struct kcr3_scan *kcr3_scan_free(struct kcr3_scan *scan)
{
	if (!scan)
		return NULL;
	strategy_end(scan);
	free(scan);
	return NULL;
}

int kcr3_find(const struct kcr3_memory *memory, const uint64_t *vcpu_cr3, size_t nvcpu,
	const atomic_bool *cancel, struct kcr3_proof *ret_proof, char *why, size_t why_size)
{
	struct kcr3_scan *scan;
	int r = kcr3_scan_new(&scan, memory, vcpu_cr3, nvcpu, 0);

	if (r) {
		snprintf(why, why_size, "out of memory");
		return r;
	}
	do {
		r = cancel && atomic_load(cancel) ? VMSIG_ERR_TIMEOUT : kcr3_scan_step(scan);
	} while (r == VMSIG_ERR_WOULD_BLOCK);
	if (r)
		snprintf(why, why_size, "%s", scan->why);
	else
		*ret_proof = scan->proof;
	kcr3_scan_free(scan);
	return r;
}

int kcr3_reprove(const struct kcr3_memory *memory, const struct kcr3_proof *proof,
	const uint64_t *vcpu_cr3, size_t nvcpu)
{
	char why[1];
	const struct kcr3_search search = {.memory = *memory,
		.vcpu_cr3 = vcpu_cr3,
		.nvcpu = nvcpu,
		.why = why,
		.why_size = sizeof(why)};

	if (proof->system.os >= STRATEGIES || !strategies[proof->system.os])
		return VMSIG_ERR_NOT_READY;
	return strategies[proof->system.os]->reprove(&search, proof) ? VMSIG_ERR_NOT_READY : 0;
}
