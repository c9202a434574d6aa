/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes back is used again, and not more of it is kept than said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "clients/lib/spares.h"

#define WRITES 64

static void what_was_given_comes_back(void **state)
{
	struct spares spares = {0};
	void *memory[WRITES], *again;

	for (unsigned i = 0; i < WRITES; i++) {
		memory[i] = spares_take(&spares, 4400);
		assert_non_null(memory[i]);
		memset(memory[i], (int)i, 4400);
	}
	for (unsigned i = 0; i < WRITES; i++)
		spares_give(&spares, memory[i]);
	assert_true(spares.bytes >= WRITES * 4400ul);
	again = spares_take(&spares, 4300);
	assert_ptr_equal(again, memory[WRITES - 1]);
	spares_give(&spares, again);
	spares_deinit(&spares);
	assert_int_equal(spares.bytes, 0);
}

static void one_that_is_too_small_makes_room(void **state)
{
	struct spares spares = {0};
	void *memory = spares_take(&spares, 8);

	assert_non_null(memory);
	spares_give(&spares, memory);
	memory = spares_take(&spares, 60000);
	assert_non_null(memory);
	memset(memory, 1, 60000);
	assert_int_equal(spares.bytes, 0);
	assert_null(spares.list);
	spares_give(&spares, memory);
	spares_give(&spares, NULL);
	assert_true(spares.bytes >= 60000);
	spares_deinit(&spares);
}

static void no_more_is_kept_than_said(void **state)
{
	struct spares spares = {0};
	void *memory[WRITES], *large = spares_take(&spares, SPARES_MAX + 1);

	assert_non_null(large);
	spares_give(&spares, large);
	assert_int_equal(spares.bytes, 0);
	for (unsigned i = 0; i < WRITES; i++) {
		memory[i] = spares_take(&spares, SPARES_MAX / 16);
		assert_non_null(memory[i]);
	}
	for (unsigned i = 0; i < WRITES; i++)
		spares_give(&spares, memory[i]);
	assert_int_equal(spares.bytes, SPARES_MAX);
	assert_null(spares_take(&spares, SIZE_MAX));
	spares_deinit(&spares);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_given_comes_back),
		cmocka_unit_test(one_that_is_too_small_makes_room),
		cmocka_unit_test(no_more_is_kept_than_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
