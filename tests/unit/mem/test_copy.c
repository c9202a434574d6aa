/* SPDX-License-Identifier: Apache-2.0 */
/* The copy of a page: every byte of it and no other, wherever it begins and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "clients/mem/copy.h"

#define LEN_MAX 4200u
#define AROUND 64u /* bytes on both sides that have to stay as they are */

static uint8_t from[AROUND + LEN_MAX], to[AROUND + LEN_MAX + AROUND];

static void copies(mem_copy_fn copy, size_t source, size_t target, size_t len)
{
	memset(to, 0xa5, sizeof(to));
	mem_copy(copy, to + AROUND + target, from + source, len);
	assert_memory_equal(to + AROUND + target, from + source, len);
	for (size_t i = 0; i < AROUND + target; i++)
		assert_int_equal(to[i], 0xa5);
	for (size_t i = AROUND + target + len; i < sizeof(to); i++)
		assert_int_equal(to[i], 0xa5);
}

static void every_length_is_copied_and_no_more(void **state)
{
	mem_copy_fn copy = mem_copy_find();

	for (size_t len = 0; len <= LEN_MAX; len++)
		copies(copy, 0, 0, len);
}

static void it_begins_anywhere(void **state)
{
	mem_copy_fn copy = mem_copy_find();

	for (size_t source = 0; source < AROUND; source++) {
		for (size_t target = 0; target < AROUND; target += 7)
			copies(copy, source, target, 4096);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_is_copied_and_no_more),
		cmocka_unit_test(it_begins_anywhere),
	};

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 151 + (i >> 8));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
