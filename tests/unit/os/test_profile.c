/* SPDX-License-Identifier: Apache-2.0 */
/* What was learnt of a kernel serves others of the same build, and no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/learn.h"
#include "clients/os/linux/profile.h"
#include "tests/unit/os/objects.h"

#define BANNER (OBJECTS_MAP + 0x80000)
#define NAMES (OBJECTS_MAP + 0x90000)
#define NAMES_LEN 0x18000u
#define TYPES (OBJECTS_MAP + 0xb0000)
#define TYPES_LEN 0x12345u

/* Symbols of its own, as a kernel has them that was just learnt. */
static struct linux_symbols some_symbols(void)
{
	static const char text[] = "Dlinux_banner";
	struct linux_symbols symbols = {.addrs = calloc(1, sizeof(*symbols.addrs)),
		.names = calloc(1, sizeof(*symbols.names)),
		.count = 1,
		.text = strdup(text),
		.at = NAMES,
		.len = NAMES_LEN};

	assert_non_null(symbols.addrs);
	symbols.addrs[0] = BANNER;
	return symbols;
}

static struct linux_kernel like(const struct objects *objects)
{
	return (struct linux_kernel){
		.mem = objects->memory.kernel.mem, .root = objects->memory.kernel.root};
}

static void make(struct objects *objects, const char *banner)
{
	assert_true(objects_make(objects));
	memcpy(objects_bytes(objects, BANNER), banner, strlen(banner) + 1);
}

static struct linux_kernel learnt(const struct objects *objects)
{
	struct linux_kernel kernel = like(objects);

	kernel.symbols = some_symbols();
	kernel.fields.types = TYPES;
	kernel.fields.types_len = TYPES_LEN;
	return kernel;
}

static void the_same_kernel_is_learnt_once(void **state)
{
	struct objects one, other;
	struct linux_kernel kernel, again, different;

	make(&one, "Linux version 6.1");
	make(&other, "Linux version 6.2");
	kernel = learnt(&one);
	again = like(&one);
	different = like(&other);
	assert_false(linux_profile_find(&again));
	assert_int_equal(linux_profile_keep(&kernel), 0);
	assert_true(linux_profile_find(&again));
	assert_ptr_equal(again.symbols.text, kernel.symbols.text);
	assert_false(linux_profile_find(&different));
	/* It stays, for as long as somebody has it and for a while after. */
	linux_deinit(&kernel);
	assert_string_equal(again.symbols.text, "Dlinux_banner");
	linux_deinit(&again);
	assert_true(linux_profile_find(&kernel));
	linux_deinit(&kernel);
	/* The guest was started anew with another kernel. */
	objects_put(&one, NAMES + 8, 1);
	assert_false(linux_profile_find(&again));
	objects_free(&one);
	objects_free(&other);
}

/* Of everything that was learnt from each byte counts. */
static void one_byte_more_is_another_kernel(void **state)
{
	static const uint64_t places[] = {BANNER + 20, NAMES, NAMES + 0x10000,
		NAMES + NAMES_LEN - 1, TYPES, TYPES + 0x10000, TYPES + TYPES_LEN - 1};
	struct linux_kernel kernel, again;
	struct objects one;

	make(&one, "Linux version 6.1");
	kernel = learnt(&one);
	assert_int_equal(linux_profile_keep(&kernel), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint8_t *byte = objects_bytes(&one, places[i]);

		again = like(&one);
		*byte ^= 1;
		assert_false(linux_profile_find(&again));
		*byte ^= 1;
		assert_true(linux_profile_find(&again));
		linux_deinit(&again);
	}
	linux_deinit(&kernel);
	objects_free(&one);
}

/* A guest's objects are its own, and say nothing of another guest. */
static void what_was_inferred_is_not_kept(void **state)
{
	struct linux_kernel kernel, again;
	struct objects one;

	make(&one, "Linux version 6.3");
	kernel = learnt(&one);
	again = like(&one);
	kernel.inferred = true;
	assert_int_equal(linux_profile_keep(&kernel), 0);
	assert_null(kernel.profile);
	assert_false(linux_profile_find(&again));
	linux_deinit(&kernel);
	objects_free(&one);
}

static void few_are_kept(void **state)
{
	struct objects objects[LINUX_PROFILES_KEPT + 1];
	char banner[] = "Linux version A";
	struct linux_kernel kernel;

	for (unsigned i = 0; i <= LINUX_PROFILES_KEPT; i++) {
		banner[14] = (char)('A' + i);
		make(&objects[i], banner);
		kernel = learnt(&objects[i]);
		assert_int_equal(linux_profile_keep(&kernel), 0);
		linux_deinit(&kernel);
	}
	for (unsigned i = 0; i <= LINUX_PROFILES_KEPT; i++) {
		kernel = like(&objects[i]);
		assert_int_equal(linux_profile_find(&kernel), i > 0);
		if (kernel.profile)
			linux_deinit(&kernel);
		objects_free(&objects[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_kernel_is_learnt_once),
		cmocka_unit_test(one_byte_more_is_another_kernel),
		cmocka_unit_test(what_was_inferred_is_not_kept),
		cmocka_unit_test(few_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
