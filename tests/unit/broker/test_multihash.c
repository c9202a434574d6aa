/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of many messages at a time, against OpenSSL's of one: of all lengths about the end of a
 * block, of each number of messages, and of lengths that have nothing to do with each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "broker/multihash.h"

#define LONGEST 9000u

struct lab {
	struct multihash *multihash;
	uint8_t data[MULTIHASH_LANES][LONGEST];
	uint8_t hashes[MULTIHASH_LANES][MULTIHASH_SIZE];
	struct multihash_message messages[MULTIHASH_LANES];
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	uint64_t word = 1;

	if (!lab)
		return -1;
	for (size_t i = 0; i < MULTIHASH_LANES; i++) {
		for (size_t at = 0; at < LONGEST; at++) {
			word = word * 6364136223846793005u + 1442695040888963407u;
			lab->data[i][at] = (uint8_t)(word >> 56);
		}
		lab->messages[i].ret_hash = lab->hashes[i];
	}
	lab->multihash = multihash_new();
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	multihash_free(lab->multihash);
	free(lab);
	return 0;
}

static void message_set(struct lab *lab, size_t i, size_t from, size_t len)
{
	lab->messages[i].data = lab->data[i] + from;
	lab->messages[i].len = len;
}

/* Not only where it pays. */
static void check(struct lab *lab, size_t n)
{
	memset(lab->hashes, 0, sizeof(lab->hashes));
	assert_true(multihash_make(lab->multihash, lab->messages, n));
	for (size_t i = 0; i < MULTIHASH_LANES; i++) {
		uint8_t expected[SHA256_DIGEST_LENGTH] = {0};

		if (i < n)
			SHA256(lab->messages[i].data, lab->messages[i].len, expected);
		assert_memory_equal(lab->hashes[i], expected, sizeof(expected));
	}
}

static void each_length_has_the_hash_of_openssl(void **state)
{
	struct lab *lab = *state;

	for (size_t len = 0; len < 300; len++) {
		for (size_t i = 0; i < MULTIHASH_LANES; i++)
			message_set(lab, i, i, (len + i) % 300);
		check(lab, MULTIHASH_LANES);
	}
}

static void each_number_of_messages_has_it(void **state)
{
	struct lab *lab = *state;

	for (size_t i = 0; i < MULTIHASH_LANES; i++)
		message_set(lab, i, 0, 4096);
	for (size_t n = 1; n <= MULTIHASH_LANES; n++)
		check(lab, n);
}

static void lengths_need_not_have_to_do_with_each_other(void **state)
{
	struct lab *lab = *state;
	uint64_t word = 7;

	for (unsigned round = 0; round < 300; round++) {
		for (size_t i = 0; i < MULTIHASH_LANES; i++) {
			word = word * 6364136223846793005u + 1442695040888963407u;
			message_set(lab, i, (size_t)(word >> 60), (size_t)(word >> 33) % 8900);
		}
		check(lab, 1 + round % MULTIHASH_LANES);
	}
}

/* One that is long keeps all lanes busy with nothing. */
static void few_or_unequal_ones_are_left_to_openssl(void **state)
{
	struct lab *lab = *state;

	for (size_t i = 0; i < MULTIHASH_LANES; i++)
		message_set(lab, i, 0, 4096);
	assert_true(multihash_pays(lab->multihash, lab->messages, MULTIHASH_LANES));
	assert_false(multihash_pays(lab->multihash, lab->messages, 1));
	assert_false(multihash_pays(lab->multihash, lab->messages, 0));
	for (size_t i = 1; i < MULTIHASH_LANES; i++)
		message_set(lab, i, 0, 8);
	assert_false(multihash_pays(lab->multihash, lab->messages, MULTIHASH_LANES));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	struct multihash *multihash = multihash_new();
	const struct CMUnitTest tests[] = {
		TEST(each_length_has_the_hash_of_openssl),
		TEST(each_number_of_messages_has_it),
		TEST(lengths_need_not_have_to_do_with_each_other),
		TEST(few_or_unequal_ones_are_left_to_openssl),
	};

	if (!multihash) {
		print_message("this CPU or this build makes one hash at a time\n");
		return 0;
	}
	multihash_free(multihash);
	return cmocka_run_group_tests_name("multihash", tests, NULL, NULL);
}
