/* SPDX-License-Identifier: Apache-2.0 */
/* Values as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/config/scalar.h"
#include "vmsig/vmsig_error.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void values_are_read_in_their_units(void **state)
{
	static const struct {
		enum decode_type type;
		const char *text;
		uint64_t value;
	} cases[] = {
		{DECODE_UINT32, "0", 0},
		{DECODE_UINT64, "0x2a000000", 0x2a000000},
		{DECODE_UINT64, "18446744073709551615", UINT64_MAX},
		{DECODE_SIZE, "4096", 4096},
		{DECODE_SIZE, "64KiB", 64u << 10},
		{DECODE_SIZE, "512MiB", 512u << 20},
		{DECODE_SIZE, "16TiB", 16ull << 40},
		{DECODE_MILLIS, "250ms", 250},
		{DECODE_MILLIS, "2s", 2000},
		{DECODE_MILLIS, "5min", 300000},
		{DECODE_MILLIS, "1h", 3600000},
		{DECODE_NANOS, "2s", 2000000000},
		{DECODE_NANOS, "7us", 7000},
		{DECODE_MODE, "0660", 0660},
		{DECODE_MODE, "666", 0666},
		{DECODE_BOOL, "true", 1},
		{DECODE_BOOL, "no", 0},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *example = NULL;
		uint64_t value = ~cases[i].value;

		if (scalar_parse(cases[i].type, cases[i].text, &value, &example) ||
			value != cases[i].value)
			fail_msg("'%s' gives %llu", cases[i].text, (unsigned long long)value);
	}
}

static void anything_else_is_refused_with_an_example(void **state)
{
	static const struct {
		enum decode_type type;
		const char *text;
	} cases[] = {
		{DECODE_UINT32, ""},
		{DECODE_UINT32, "-1"},
		{DECODE_UINT32, "+1"},
		{DECODE_UINT32, " 1"},
		{DECODE_UINT32, "1 "},
		{DECODE_UINT32, "ten"},
		{DECODE_UINT64, "18446744073709551616"},
		{DECODE_UINT64, "0x"},
		{DECODE_SIZE, "512MB"},
		{DECODE_SIZE, "512 MiB"},
		{DECODE_SIZE, "17179869184TiB"},
		{DECODE_MILLIS, "5"},
		{DECODE_MILLIS, "0x10ms"},
		{DECODE_MILLIS, "5sec"},
		{DECODE_NANOS, "18446744073709551615h"},
		{DECODE_MODE, "0888"},
		{DECODE_BOOL, "perhaps"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *example = NULL;
		uint64_t value = 4711;

		if (scalar_parse(cases[i].type, cases[i].text, &value, &example) !=
			VMSIG_ERR_BAD_REQUEST)
			fail_msg("'%s' is taken", cases[i].text);
		assert_int_equal(value, 4711);
		assert_non_null(example);
	}
}

static void values_print_in_the_largest_whole_unit(void **state)
{
	char text[32];

	scalar_format(DECODE_SIZE, 512u << 20, text, sizeof(text));
	assert_string_equal(text, "512MiB");
	scalar_format(DECODE_SIZE, (1u << 20) + 1, text, sizeof(text));
	assert_string_equal(text, "1048577");
	scalar_format(DECODE_MILLIS, 1500, text, sizeof(text));
	assert_string_equal(text, "1500ms");
	scalar_format(DECODE_NANOS, 30000000000, text, sizeof(text));
	assert_string_equal(text, "30s");
	scalar_format(DECODE_MODE, 0660, text, sizeof(text));
	assert_string_equal(text, "0660");
	scalar_format(DECODE_BOOL, 1, text, sizeof(text));
	assert_string_equal(text, "yes");
	scalar_format(DECODE_UINT32, 0, text, sizeof(text));
	assert_string_equal(text, "0");
}

static void names_are_plain_words(void **state)
{
	assert_true(scalar_is_name("web1"));
	assert_true(scalar_is_name("1.a_b-c"));
	assert_false(scalar_is_name(""));
	assert_false(scalar_is_name(".hidden"));
	assert_false(scalar_is_name("-x"));
	assert_false(scalar_is_name("a b"));
	assert_false(scalar_is_name("a/b"));
	assert_true(
		scalar_is_name("123456789012345678901234567890123456789012345678901234567890123"));
	assert_false(
		scalar_is_name("1234567890123456789012345678901234567890123456789012345678901234"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_read_in_their_units),
		cmocka_unit_test(anything_else_is_refused_with_an_example),
		cmocka_unit_test(values_print_in_the_largest_whole_unit),
		cmocka_unit_test(names_are_plain_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
