/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to writes, by leases and writers, which clients choose: others' are found in as few steps
 * whatever they are called, and how many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "broker/store/answers.h"

#define LEASES 4096u
#define WRITERS 1024u /* of one lease, at most */
#define DEEP 64u      /* of so many leases about none in 10^12 is deeper */

static struct answers answers;

static int setup(void **state)
{
	(void)state;
	answers = (struct answers){0};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	answers_deinit(&answers);
	assert_null(answers.leases.root);
	assert_int_equal(answers.bytes, 0);
	return 0;
}

static void put(uint64_t lease, uint64_t writer, uint64_t sequence, bool done)
{
	static const uint8_t digest[LEDGER_DIGEST];
	const struct ledger_key key = {.lease = lease, .writer = writer, .sequence = sequence};
	struct ledger_answer *old = NULL;
	struct ledger_answer *answer = answer_new(sequence, digest, 7, done, NULL, 0);

	assert_non_null(answer);
	assert_int_equal(answers_put(&answers, &key, answer, &old), 0);
	free(old);
}

static unsigned steps(uint64_t lease)
{
	const struct idtree_node *node = answers.leases.root;
	unsigned n = 1;

	for (; node && node->id != lease; n++)
		node = lease < node->id ? node->low : node->high;
	assert_non_null(node);
	return n;
}

/* The inverse of what gives a number its rank in a tree: all of these fall into one line. */
static uint64_t unshuffle(uint64_t x)
{
	x = (x ^ x >> 31 ^ x >> 62) * 0x319642b2d24d8ec3;
	x = (x ^ x >> 27 ^ x >> 54) * 0x96de1b173f119089;
	return x ^ x >> 30 ^ x >> 60;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Each rank above the one before it: of numbers that rise the tree is a list. */
static void choose(uint64_t writers[static WRITERS])
{
	for (unsigned i = 0; i < WRITERS; i++)
		writers[i] = unshuffle((uint64_t)i << 40);
	qsort(writers, WRITERS, sizeof(*writers), by_number);
}

static void names_of_writers_cost_nobody_else_a_step(void **state)
{
	uint64_t writers[WRITERS];
	unsigned before;

	(void)state;
	choose(writers);
	for (uint64_t lease = 1; lease <= LEASES; lease++)
		put(lease, 1, 1, true);
	before = steps(1);
	for (unsigned i = 0; i < WRITERS; i++)
		put(LEASES, writers[i], 1, true);
	assert_int_equal(steps(1), before);
	for (uint64_t lease = 1; lease <= LEASES; lease++)
		assert_in_range(steps(lease), 1, DEEP);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_int_equal(answers_highest(&answers, LEASES, writers[i]), 1);
}

static int count(void *arg, const struct ledger_key *key, const struct ledger_answer *answer)
{
	unsigned *n = arg;

	(void)key, (void)answer;
	return ++*n == WRITERS;
}

static void the_lowest_and_the_highest_writer_are_like_others(void **state)
{
	static const uint64_t writers[] = {0, 5, UINT64_MAX};
	const struct ledger_answer *answer;
	struct ledger_key cursor = {0};
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		put(1, writers[i], 2, true);
		put(9, writers[i], 3, false);
		put(9, writers[i], 1, false);
		put(UINT64_MAX, writers[i], 4, false);
	}
	for (unsigned i = 0; i < 9; i++) {
		assert_true(answers_next_open(&answers, &cursor, &answer));
		assert_int_equal(cursor.lease, i < 6 ? 9 : UINT64_MAX);
		assert_int_equal(cursor.writer, i < 6 ? writers[i / 2] : writers[i - 6]);
		assert_int_equal(cursor.sequence, i < 6 ? 1 + 2 * (i % 2) : 4);
		assert_int_equal(answer->sequence, cursor.sequence);
	}
	assert_false(answers_next_open(&answers, &cursor, &answer));
	assert_int_equal(answers_each(&answers, count, &n), 0);
	assert_int_equal(n, 12);
	n = 0;
	assert_int_equal(answers_each_of(&answers, 9, count, &n), 0);
	assert_int_equal(n, 6);
}

static void a_lease_that_comes_back_has_its_writers(void **state)
{
	struct answer_lease *gone;
	uint64_t bytes;

	(void)state;
	for (uint64_t writer = 0; writer < 100; writer++)
		put(3, writer, 1, true);
	put(4, 0, 1, true);
	bytes = answers.bytes;
	gone = answers_detach(&answers, 3);
	assert_non_null(gone);
	assert_int_equal(answers_highest(&answers, 3, 50), 0);
	assert_int_equal(answers_highest(&answers, 4, 0), 1);
	answers_attach(&answers, gone);
	assert_int_equal(answers.bytes, bytes);
	assert_int_equal(answers_highest(&answers, 3, 50), 1);
	assert_null(answers_detach(&answers, 5));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_of_writers_cost_nobody_else_a_step),
		TEST(the_lowest_and_the_highest_writer_are_like_others),
		TEST(a_lease_that_comes_back_has_its_writers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
