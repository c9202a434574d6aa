/* SPDX-License-Identifier: Apache-2.0 */
/* kallsyms of all shapes, and of what is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/symbols.h"
#include "tests/unit/os/kallsyms.h"
#include "vmsig/vmsig_error.h"

#define GVA 0xffffffff82000000ull
#define BASE 0xffffffff81000000ull
#define FULL (64u << 20)

struct lab {
	struct linux_part part;
	struct linux_image image;
	struct linux_symbols symbols;
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab->part = (struct linux_part){
		.gva = GVA, .len = KALLSYMS_IMAGE, .bytes = calloc(1, KALLSYMS_IMAGE)};
	assert_non_null(lab->part.bytes);
	lab->image = (struct linux_image){.parts = &lab->part, .count = 1, .size = KALLSYMS_IMAGE};
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	linux_symbols_deinit(&lab->symbols);
	free(lab->part.bytes);
	free(lab);
	return 0;
}

static void check_shape(struct lab *lab, enum kallsyms_shape shape)
{
	char name[256];

	memset(lab->part.bytes, 0, lab->part.len);
	kallsyms_write(shape, lab->part.bytes, GVA, BASE);
	assert_int_equal(linux_symbols_find(&lab->symbols, &lab->image), 0);
	assert_int_equal(lab->symbols.count, KALLSYMS_COUNT);
	for (unsigned i = 0; i < KALLSYMS_COUNT; i++) {
		kallsyms_name(shape, i, name);
		assert_int_equal(linux_symbols_type(&lab->symbols, i), name[0]);
		assert_string_equal(linux_symbols_name(&lab->symbols, i), name + 1);
		assert_int_equal(lab->symbols.addrs[i], kallsyms_addr(shape, i, BASE));
	}
	linux_symbols_deinit(&lab->symbols);
}

static void every_shape_is_read(void **state)
{
	for (enum kallsyms_shape shape = 0; shape < KALLSYMS_SHAPES; shape++)
		check_shape(*state, shape);
}

static void names_and_addresses_are_found(void **state)
{
	struct lab *lab = *state;
	size_t index;

	kallsyms_write(KALLSYMS_6_12, lab->part.bytes, GVA, BASE);
	assert_int_equal(linux_symbols_find(&lab->symbols, &lab->image), 0);
	assert_int_equal(linux_symbols_addr(&lab->symbols, "symbol_77.cold"), BASE + 77 * 1024);
	assert_int_equal(linux_symbols_addr(&lab->symbols, "symbol_77"), 0);
	assert_true(linux_symbols_before(&lab->symbols, BASE + 77 * 1024 + 1023, &index));
	assert_int_equal(index, 77);
	assert_false(linux_symbols_before(&lab->symbols, BASE, &index));
	assert_false(linux_symbols_before(&lab->symbols, UINT64_MAX, &index));
}

/* A table of names whose marks are wrong is none; nor is one that is cut at any place. */
static void what_does_not_fit_is_no_table(void **state)
{
	struct lab *lab = *state;

	kallsyms_write(KALLSYMS_6_12, lab->part.bytes, GVA, BASE);
	for (size_t len = 0; len < KALLSYMS_IMAGE; len += 1021) {
		int r;

		lab->part.len = len;
		r = linux_symbols_find(&lab->symbols, &lab->image);
		if (!r)
			assert_int_equal(lab->symbols.count, KALLSYMS_COUNT);
		else
			assert_int_equal(r, VMSIG_ERR_UNSUPPORTED);
		linux_symbols_deinit(&lab->symbols);
	}
}

/* One byte at a time: symbols are not found, or they are as many as there were. */
static void a_changed_byte_breaks_nothing(void **state)
{
	struct lab *lab = *state;
	size_t end = KALLSYMS_IMAGE;

	kallsyms_write(KALLSYMS_7_0, lab->part.bytes, GVA, BASE);
	while (end && !lab->part.bytes[end - 1])
		end--;
	for (size_t at = 4096; at < end; at += 97) {
		lab->part.bytes[at] ^= 0xff;
		if (linux_symbols_find(&lab->symbols, &lab->image) == 0) {
			assert_in_range(lab->symbols.count, 2000, LINUX_SYMBOLS_MAX);
			linux_symbols_deinit(&lab->symbols);
		}
		lab->part.bytes[at] ^= 0xff;
	}
}

static void write_words(uint8_t *at)
{
	uint16_t index[256];

	for (unsigned i = 0; i < 256; i++) {
		at[2 * i] = i ? (uint8_t)i : 'z';
		index[i] = (uint16_t)(2 * i);
	}
	memcpy(at + 512, index, sizeof(index));
}

/* Before each table of words its names would be looked for, megabytes back. */
static void memory_full_of_words_does_not_hold_us_up(void **state)
{
	struct lab *lab = *state;

	free(lab->part.bytes);
	lab->part.len = lab->image.size = FULL;
	lab->part.bytes = calloc(1, FULL);
	assert_non_null(lab->part.bytes);
	for (size_t at = 0; at < FULL; at += 1024)
		write_words(lab->part.bytes + at);
	assert_int_equal(linux_symbols_find(&lab->symbols, &lab->image), VMSIG_ERR_UNSUPPORTED);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_shape_is_read),
		T(names_and_addresses_are_found),
		T(what_does_not_fit_is_no_table),
		T(a_changed_byte_breaks_nothing),
		T(memory_full_of_words_does_not_hold_us_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
