/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions as data: what was asked for is in them, and what could not be added dooms them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/fleet/txn.h"

static void holds_what_was_asked_for(void **state)
{
	struct txn txn = {0};

	(void)state;
	txn_compare_number(&txn, "/vmsig/a", TXN_VERSION, TXN_EQUAL, 0);
	txn_compare_value(&txn, "/vmsig/b", TXN_NOT_EQUAL, "\0x", 2);
	txn_put(&txn, TXN_THEN, "/vmsig/a", "", 0, 7);
	txn_get(&txn, TXN_ELSE, "/vmsig/a");
	assert_true(txn_is_whole(&txn));
	assert_int_equal(txn.ncompares, 2);
	assert_string_equal((char *)txn.compares[0].key.data, "/vmsig/a");
	assert_int_equal(txn.compares[1].value.len, 2);
	assert_memory_equal(txn.compares[1].value.data, "\0x", 2);
	assert_int_equal(txn.branches[TXN_THEN].ops[0].lease, 7);
	assert_int_equal(txn.branches[TXN_ELSE].ops[0].kind, TXN_GET);
	txn_deinit(&txn);
	assert_int_equal(txn.ncompares, 0);
}

static void a_prefix_ends_before_the_next(void **state)
{
	struct txn txn = {0};

	(void)state;
	txn_get_prefix(&txn, TXN_THEN, "/vmsig/");
	txn_delete_prefix(&txn, TXN_THEN, "/a");
	assert_true(txn_is_whole(&txn));
	assert_string_equal((char *)txn.branches[TXN_THEN].ops[0].range_end.data, "/vmsig0");
	assert_string_equal((char *)txn.branches[TXN_THEN].ops[1].range_end.data, "/b");
	txn_deinit(&txn);
}

static void doomed_by_a_key(void **state)
{
	char key[TXN_KEY_MAX + 2];
	struct txn txn = {0};

	(void)state;
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	txn_compare_number(&txn, key, TXN_VERSION, TXN_EQUAL, 0);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	txn_put(&txn, TXN_THEN, "", "v", 1, 0);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	txn_get_prefix(&txn, TXN_THEN, "");
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	txn_get_prefix(&txn, TXN_THEN, "\xff");
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
}

static void doomed_by_a_value_as_a_number(void **state)
{
	struct txn txn = {0};

	(void)state;
	txn_compare_number(&txn, "k", TXN_VALUE, TXN_EQUAL, 0);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
}

static void doomed_by_too_much(void **state)
{
	char *large = calloc(1, TXN_VALUE_MAX + 1);
	struct txn txn = {0};

	(void)state;
	assert_non_null(large);
	for (unsigned i = 0; i < TXN_PARTS_MAX; i++)
		txn_compare_number(&txn, "k", TXN_VERSION, TXN_EQUAL, 0);
	assert_true(txn_is_whole(&txn));
	txn_compare_number(&txn, "k", TXN_VERSION, TXN_EQUAL, 0);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	txn_put(&txn, TXN_THEN, "k", large, TXN_VALUE_MAX + 1, 0);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	txn_compare_value(&txn, "k", TXN_EQUAL, large, TXN_VALUE_MAX + 1);
	assert_false(txn_is_whole(&txn));
	txn_deinit(&txn);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_what_was_asked_for),
		cmocka_unit_test(a_prefix_ends_before_the_next),
		cmocka_unit_test(doomed_by_a_key),
		cmocka_unit_test(doomed_by_a_value_as_a_number),
		cmocka_unit_test(doomed_by_too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
