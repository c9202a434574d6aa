/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU prints of vCPUs' registers, and nonsense in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/qemu/vcpu.h"
#include "vmsig/vmsig_error.h"

static void test_long_mode_only(void **state)
{
	static const char text[] =
		"\nCPU#0\nRAX=0\nCR0=80050033 CR2=00 CR3=000000000262e002 CR4=00770ef0\n"
		"EFER=0000000000000d01\n\nCPU#1\r\n"
		"CR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000\r\nEFER=0000000000000000\r\n";
	struct vcpu_roots roots;

	assert_int_equal(vcpu_parse(&roots, text, strlen(text)), 0);
	assert_int_equal(roots.ncpus, 2);
	assert_int_equal(roots.ncr3, 1);
	assert_int_equal(roots.cr3[0], 0x262e002);
	vcpu_deinit(&roots);
}

/* Debian's linux-image-686-pae: paging is on, and there is no long mode. */
static void test_32_bit(void **state)
{
	static const char text[] =
		"CPU#0\nCR0=80050033 CR2=b7f4d000 CR3=0e0a7000 CR4=00000690\n"
		"EFER=0000000000000000\nCPU#1\nCR0=60000010 CR3=00000000\nEFER=0000000000000000\n";
	static const char firmware[] = "CPU#0\nCR0=60000010 CR3=00000000\nEFER=0000000000000000\n";
	struct vcpu_roots roots;
	char why[200];

	assert_int_equal(vcpu_parse(&roots, text, strlen(text)), 0);
	assert_int_equal(roots.ncr3, 0);
	assert_int_equal(roots.nlegacy, 1);
	vcpu_say_none(&roots, why, sizeof(why));
	assert_non_null(strstr(why, "32-bit kernel; vmsig serves x86-64 kernels only"));
	vcpu_deinit(&roots);
	assert_int_equal(vcpu_parse(&roots, firmware, strlen(firmware)), 0);
	assert_int_equal(roots.nlegacy, 0);
	vcpu_say_none(&roots, why, sizeof(why));
	assert_non_null(strstr(why, "firmware or boot loader"));
	vcpu_deinit(&roots);
}

static void test_capture(void **state)
{
	FILE *file = fopen(TEST_DATA "/mtree/q35-512m.regs", "r");
	static char text[64 << 10];
	struct vcpu_roots roots;
	size_t len;

	assert_non_null(file);
	len = fread(text, 1, sizeof(text), file);
	fclose(file);
	assert_int_equal(vcpu_parse(&roots, text, len), 0);
	assert_int_equal(roots.ncpus, 2);
	assert_int_equal(roots.ncr3, 0); /* taken in the firmware */
	vcpu_deinit(&roots);
}

static void test_nonsense(void **state)
{
	static const char *const bad[] = {"", "CPU", "CPU#0\n", "CPU#0\nCR0=80050033 CR3=1\n",
		"CPU#0\nCR0=zz CR3=1 EFER=500\n", " x0=0 pc=0\n"};
	struct vcpu_roots roots;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vcpu_parse(&roots, bad[i], strlen(bad[i])), VMSIG_ERR_BAD_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_mode_only),
		cmocka_unit_test(test_32_bit),
		cmocka_unit_test(test_capture),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
