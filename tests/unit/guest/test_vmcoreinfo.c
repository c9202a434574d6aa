/* SPDX-License-Identifier: Apache-2.0 */
/* VMCOREINFO texts, of several ages and of nobody's kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/vmcoreinfo.h"
#include "vmsig/vmsig_error.h"

#define RELEASE "OSRELEASE=6.1.0-test\n"
#define ROOT "SYMBOL(swapper_pg_dir)=ffffffff82e10000\n"
#define UTS "SYMBOL(init_uts_ns)=ffffffff82e1a4c0\n"
#define NAME "OFFSET(uts_namespace.name)=4\n"
#define PHYS "NUMBER(phys_base)=-14680064\n"
#define LEVELS "NUMBER(pgtable_l5_enabled)=1\n"
#define SME "NUMBER(sme_mask)=140737488355328\n"
#define WHOLE RELEASE ROOT UTS NAME PHYS

/* In an allocation of exactly its size: a sanitizer sees the first byte too much. */
static int parse_bytes(const char *text, size_t size, struct vmcoreinfo *ret_info)
{
	char *copy = malloc(size ? size : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, text, size);
	r = vmcoreinfo_parse(copy, size, ret_info);
	free(copy);
	return r;
}

static int parse(const char *text, struct vmcoreinfo *ret_info)
{
	return parse_bytes(text, strlen(text), ret_info);
}

static void all_keys_are_read(void **state)
{
	struct vmcoreinfo info;

	(void)state;
	assert_int_equal(
		parse(RELEASE "BUILD-ID=00ff\n\nPAGESIZE=4096\n" ROOT UTS NAME PHYS LEVELS SME,
			&info),
		0);
	assert_string_equal(info.release, "6.1.0-test");
	assert_int_equal(info.swapper_pg_dir, 0xffffffff82e10000ull);
	assert_int_equal(info.init_uts_ns, 0xffffffff82e1a4c0ull);
	assert_int_equal(info.uts_name, 4);
	assert_int_equal(info.phys_base, -14680064);
	assert_int_equal(info.sme_mask, 1ull << 47);
	assert_int_equal(info.levels, 5);
	assert_int_equal(parse(WHOLE, &info), 0);
	assert_int_equal(info.sme_mask, 0);
	assert_int_equal(info.levels, 0);
	assert_int_equal(info.len, strlen(WHOLE));
}

/* Each key came at some time; a note of before is none the worse. */
static void what_older_kernels_lack_is_made_up_for(void **state)
{
	struct vmcoreinfo info;

	(void)state;
	/* 5.10: the name of a uts_namespace lies behind a kref. */
	assert_int_equal(
		parse(RELEASE ROOT UTS PHYS LEVELS SME "KERNELOFFSET=a000000\n", &info), 0);
	assert_int_equal(info.uts_name, 4);
	assert_int_equal(info.levels, 5);
	assert_int_equal(info.kernel_offset, 0xa000000);
	/* 4.14: nothing but the symbols and phys_base. */
	assert_int_equal(parse(RELEASE ROOT UTS PHYS, &info), 0);
	assert_int_equal(info.uts_name, 4);
	assert_int_equal(info.levels, 0);
	assert_int_equal(info.sme_mask, 0);
	assert_int_equal(info.kernel_offset, 0);
	/* 5.11 and later say it, also that it is 0. */
	assert_int_equal(parse(RELEASE ROOT UTS PHYS "OFFSET(uts_namespace.name)=0\n", &info), 0);
	assert_int_equal(info.uts_name, 0);
	assert_int_equal(parse(WHOLE "NUMBER(pgtable_l5_enabled)=0\n", &info), 0);
	assert_int_equal(info.levels, 4);
}

static void every_required_key_is_required(void **state)
{
	static const char *const texts[] = {"", "OSRELEASE=", "OSRELEASE", "\n" WHOLE,
		"OSRELEASE=\n" ROOT UTS NAME PHYS, ROOT UTS NAME PHYS, RELEASE UTS NAME PHYS,
		RELEASE ROOT NAME PHYS, RELEASE ROOT UTS NAME, ROOT RELEASE UTS NAME PHYS};
	struct vmcoreinfo info = {.len = 77};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(parse(texts[i], &info), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(info.len, 77);
}

static void a_key_that_stands_twice_voids_the_text(void **state)
{
	static const char *const lines[] = {RELEASE, ROOT, UTS, NAME, PHYS, LEVELS, SME};
	struct vmcoreinfo info;
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", WHOLE LEVELS SME, lines[i]);
		assert_int_equal(parse(text, &info), VMSIG_ERR_BAD_REQUEST);
	}
}

static void what_is_no_number_voids_the_text(void **state)
{
	static const char *const values[] = {"", "-", "-1", "+1", " 1", "1 ", "0x1", "1g",
		"fffffffffffffffff", "00000000000000000000000000000001", "1=1"};
	struct vmcoreinfo info;
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(text, sizeof(text), "%sSYMBOL(swapper_pg_dir)=%s\n", RELEASE UTS NAME PHYS,
			values[i]);
		assert_int_equal(parse(text, &info), VMSIG_ERR_BAD_REQUEST);
	}
	assert_int_equal(parse(RELEASE ROOT UTS PHYS "OFFSET(uts_namespace.name)=1f\n", &info),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(parse(RELEASE ROOT UTS NAME "NUMBER(phys_base)=--1\n", &info),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		parse(RELEASE ROOT UTS NAME "NUMBER(phys_base)=9223372036854775808\n", &info),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		parse(RELEASE ROOT UTS NAME "NUMBER(phys_base)=-9223372036854775808\n", &info), 0);
	assert_true(info.phys_base == INT64_MIN);
}

static void the_release_is_bounded(void **state)
{
	struct vmcoreinfo info;
	char text[512], name[80];

	(void)state;
	memset(name, 'r', sizeof(name));
	name[64] = '\0';
	snprintf(text, sizeof(text), "OSRELEASE=%s\n" ROOT UTS NAME PHYS, name);
	assert_int_equal(parse(text, &info), 0);
	assert_int_equal(strlen(info.release), 64);
	name[64] = 'r';
	name[65] = '\0';
	snprintf(text, sizeof(text), "OSRELEASE=%s\n" ROOT UTS NAME PHYS, name);
	assert_int_equal(parse(text, &info), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(parse("OSRELEASE=6 1\n" ROOT UTS NAME PHYS, &info), VMSIG_ERR_BAD_REQUEST);
}

/* Wherever the text ends: all before it or nothing, never half a number. */
static void a_cut_text_is_never_read_wrong(void **state)
{
	static const char text[] = WHOLE LEVELS;
	struct vmcoreinfo info;

	(void)state;
	for (size_t size = 0; size < sizeof(text); size++) {
		int r = parse_bytes(text, size, &info);

		assert_int_equal(r, size < strlen(WHOLE) ? VMSIG_ERR_BAD_REQUEST : 0);
		if (!r)
			assert_int_equal(info.levels, size == strlen(text) ? 5 : 0);
	}
}

/* A text that fills its page has no NUL; what lies behind it is not the kernel's. */
static void the_text_ends_where_no_text_is(void **state)
{
	static const char zero[] = WHOLE "NUMBER(pgtable_l5\0_enabled)=1\n" ROOT;
	static const char other[] = WHOLE "NUMBER(pgtable_l5_enabled)=1\x80\n" ROOT;
	struct vmcoreinfo info;

	(void)state;
	assert_int_equal(parse_bytes(zero, sizeof(zero), &info), 0);
	assert_int_equal(info.len, strlen(WHOLE));
	assert_int_equal(parse_bytes(other, sizeof(other), &info), 0);
	assert_int_equal(info.len, strlen(WHOLE));
	assert_int_equal(info.levels, 0);
}

static void a_text_beyond_the_bound_is_not_read(void **state)
{
	static char text[2 * VMCOREINFO_MAX];
	struct vmcoreinfo info;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, WHOLE, strlen(WHOLE));
	memcpy(text + VMCOREINFO_MAX - 1, "\n\n" ROOT, strlen("\n\n" ROOT));
	assert_int_equal(parse_bytes(text, sizeof(text), &info), 0);
	assert_int_equal(info.len, VMCOREINFO_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_keys_are_read),
		cmocka_unit_test(what_older_kernels_lack_is_made_up_for),
		cmocka_unit_test(every_required_key_is_required),
		cmocka_unit_test(a_key_that_stands_twice_voids_the_text),
		cmocka_unit_test(what_is_no_number_voids_the_text),
		cmocka_unit_test(the_release_is_bounded),
		cmocka_unit_test(a_cut_text_is_never_read_wrong),
		cmocka_unit_test(the_text_ends_where_no_text_is),
		cmocka_unit_test(a_text_beyond_the_bound_is_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
