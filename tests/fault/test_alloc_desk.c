/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory at every allocation of the write plane, one after the other: it starts or says
 * that it did not, each write has a true answer or none, nothing leaks, and the desk that is
 * opened afterwards tells the same. Of a lease that ends nobody is told before the end is stored,
 * and then everybody is.
 */
#include <string.h>

#include "tests/fault/alloc.h"
#include "tests/unit/write/lab.h"
#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u
#define MOST 2000 /* allocations of the scenario, generously */
#define WRITES 4u
#define TURNS 20

/* What was told about the command; -1: nothing. */
static int code_of(const struct lab *lab, uint64_t id)
{
	for (size_t i = 0; i < lab->nevents; i++) {
		const struct lab_event *event = &lab->events[i];

		if (event->id == id && (event->kind == LAB_WRITTEN || event->kind == LAB_REJECTED))
			return event->code;
	}
	return -1;
}

/* Answers that came are true, whatever failed: one of two transmissions was applied, or none. */
static void check_write(struct lab *lab, uint64_t first, uint64_t second, uint64_t i)
{
	int a = code_of(lab, first), b = code_of(lab, second);
	uint64_t word = lab_word(lab, ADDR + 8 * i);

	if (a == 0 || b == 0)
		assert_int_equal(word, i + 1);
	else if (a > 0 && b > 0)
		assert_int_equal(word, 0);
}

static void turns(struct lab *lab)
{
	for (int i = 0; i < TURNS; i++) {
		lab_turn(lab);
		if (lab->quiesced)
			lab->quiesced(lab->quiesced_arg, 0);
		lab_pass(250 * LAB_MS);
	}
}

static void write_all(struct lab *lab, uint64_t *ret_ids)
{
	for (uint64_t i = 0; i < WRITES; i++)
		ret_ids[i] = i == 1 ? lab_write_quiesced(lab, i + 1, ADDR + 8 * i, i + 1)
				    : lab_write(lab, i + 1, ADDR + 8 * i, i + 1);
}

/* A life with a lease, writes, their repetition, a release and what is asked for behind it. */
static void live(struct lab *lab)
{
	uint64_t ids[WRITES], again[WRITES];

	(void)!lab_acquire(lab, false);
	turns(lab);
	if (!lab->lease)
		return;
	write_all(lab, ids);
	lab_turn(lab);
	write_all(lab, again);
	(void)!lab_release(lab);
	(void)!lab_acquire(lab, true);
	turns(lab);
	for (uint64_t i = 0; i < WRITES; i++)
		check_write(lab, ids[i], again[i], i);
}

static void open_again(struct lab *lab)
{
	uint64_t ids[WRITES], lease = lab->lease, there[WRITES];

	for (uint64_t i = 0; i < WRITES; i++)
		there[i] = lab_word(lab, ADDR + 8 * i);

	lab_close(lab);
	assert_int_equal(lab_open(lab), 0);
	if (!lease)
		return;
	write_all(lab, ids);
	turns(lab);
	/* What was applied is not applied again, and known. */
	for (uint64_t i = 0; i < WRITES; i++) {
		if (there[i])
			assert_int_equal(code_of(lab, ids[i]), 0);
		else
			check_write(lab, ids[i], ids[i], i);
	}
}

/* Whether one failed, which was the n-th. */
static bool live_without(size_t n)
{
	struct lab *lab = lab_new();
	long before = alloc_balance();
	bool failed;
	int r;

	alloc_fail_at(n);
	r = lab_open(lab);
	if (!r)
		live(lab);
	failed = alloc_failed();
	alloc_fail_at(0);
	assert_true(!r || failed);
	open_again(lab);
	lab_close(lab);
	if (alloc_balance() != before)
		fail_msg("without allocation %zu there are %ld left", n, alloc_balance() - before);
	lab_free(lab);
	return failed;
}

static void each_allocation_fails_once(void **state)
{
	size_t n = 0;

	while (live_without(++n))
		assert_true(n < MOST);
	/* The store's, the leases', the commands': it is no empty loop. */
	assert_true(n > 50);
}

static bool has_lease(struct lab *lab, uint64_t lease)
{
	struct lease_view view;

	return desk_lease_find(lab->desk, lease, &view);
}

/* It is over for its holder, as far as he was told. */
static bool is_told(struct lab *lab, uint64_t lease, uint64_t request)
{
	return lab_count(lab, LAB_ENDED, lease) > 0 ||
	       (lab_count(lab, LAB_RELEASED, request) > 0 &&
		       lab_told(lab, LAB_RELEASED, request).code == 0);
}

static void end_stored(struct lab *lab)
{
	const uint64_t lease = lab->lease;

	lab_store_works(lab, true);
	turns(lab);
	/* One that found no memory at all is sent again. */
	if (has_lease(lab, lease))
		assert_int_equal(lab_release(lab), 0);
	turns(lab);
	assert_int_equal(lab_count(lab, LAB_ENDED, lease), 1);
	lab_kill(lab);
	assert_false(has_lease(lab, lease));
}

/* The store fails meanwhile. Whether an allocation failed, which was the n-th. */
static bool end_without(size_t n, bool killed)
{
	struct lab *lab = lab_new();
	uint64_t lease;
	bool failed;

	assert_int_equal(lab_open(lab), 0);
	lab_lease(lab);
	lease = lab->lease;
	lab_store_works(lab, false);
	alloc_fail_at(n);
	(void)!lab_release(lab);
	turns(lab);
	failed = alloc_failed();
	alloc_fail_at(0);
	assert_false(is_told(lab, lease, lab->next_request));
	if (killed) {
		lab_store_works(lab, true);
		lab_kill(lab);
		assert_true(has_lease(lab, lease));
	} else {
		end_stored(lab);
	}
	lab_close(lab);
	lab_free(lab);
	return failed;
}

static void an_end_is_told_when_it_is_stored(void **state)
{
	size_t n = 0;

	while (end_without(++n, false))
		assert_true(n < MOST);
	/* What nobody was told of comes back. */
	(void)!end_without(1, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(an_end_is_told_when_it_is_stored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
