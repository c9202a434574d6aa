/* SPDX-License-Identifier: Apache-2.0 */
/* Leases that come with a guest from another host, under the numbers that are given here next: who
 * asks for a lease of another guest is told to ask again, and nobody else hears of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

#include "broker/store/baggage.h"
#include "tests/unit/write/lab.h"
#include "vmsig/vmsig_error.h"

#define PLANTED 4u

/* They are over as soon as they are here. */
static void plant(struct lab *lab, uint64_t first)
{
	static const struct lease_range range = {.start = 0, .last = 0xfff};
	struct baggage baggage = {.max = 64u << 10};
	struct store_endpoint other;

	assert_int_equal(store_endpoint(lab->store, "w2", &other), 0);
	for (uint64_t id = first; id < first + PLANTED; id++) {
		const struct lease_view lease = {.id = id,
			.token = 1,
			.epoch = 1,
			.tenant = "mallory",
			.ranges = &range,
			.nranges = 1,
			.ttl_ns = LAB_MS,
			.deadline_ns = lab_now()};

		assert_int_equal(baggage_add(&baggage, lab->store, &lease, lab_now(), NULL, 0), 0);
	}
	assert_int_equal(lab_unpack(lab,
				 &(struct baggage_intake){
					 .endpoint = other.id, .token_max = 1, .epoch_max = 1},
				 baggage.data, baggage.len),
		0);
	free(baggage.data);
	lab_turn(lab);
}

static void numbers_that_are_taken_stop_nobody(void **state)
{
	struct lab *lab = *state;
	uint64_t request, released, waits;

	lab_lease(lab);
	plant(lab, lab->lease + 1);
	/* It waits for the one that is held, and has it next. */
	assert_int_equal(lab_acquire(lab, false), 0);
	waits = lab->next_request;
	request = lab_write(lab, 1, 0x1000, 7);
	assert_int_equal(lab_release(lab), 0);
	released = lab->next_request;
	for (unsigned i = 0; i < 4; i++)
		lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, request).code, 0);
	assert_int_equal(lab_told(lab, LAB_RELEASED, released).code, 0);
	assert_int_equal(lab_count(lab, LAB_GRANTED, waits), 0);
	lab_lease(lab);
	request = lab_write(lab, 1, 0x1000, 8);
	lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, request).code, 0);
	assert_int_equal(lab_word(lab, 0x1000), 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			numbers_that_are_taken_stop_nobody, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
