/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, names and sentences of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>

#include "vmsig/vmsig_error.h"

static void every_error_has_a_name_and_a_sentence(void **state)
{
#define CHECK(name, number, retry, text)                                                           \
	assert_string_equal(vmsig_error_name(number), #name);                                      \
	assert_string_equal(vmsig_error_name(-(number)), #name);                                   \
	assert_string_equal(vmsig_error_text(number), text);                                       \
	assert_int_equal(vmsig_error_retryable(number), retry);
	VMSIG_ERROR_LIST(CHECK)
#undef CHECK
}

static void unknown_numbers_are_safe(void **state)
{
	static const int odd[] = {-100000, 99999, INT_MAX, INT_MIN};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		assert_string_equal(vmsig_error_name(odd[i]), "UNKNOWN");
		assert_non_null(vmsig_error_text(odd[i]));
		assert_false(vmsig_error_retryable(odd[i]));
	}
}

static void wire_numbers_are_stable(void **state)
{
	assert_int_equal(VMSIG_ERR_READ_ONLY, 1);
	assert_int_equal(VMSIG_ERR_STALE_EPOCH, 8);
	assert_int_equal(VMSIG_ERR_UNKNOWN_OUTCOME, 17);
	assert_int_equal(VMSIG_ERR_INTERNAL, 22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_has_a_name_and_a_sentence),
		cmocka_unit_test(unknown_numbers_are_safe),
		cmocka_unit_test(wire_numbers_are_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
