/* SPDX-License-Identifier: Apache-2.0 */
/* Code of a switch over system calls, as compilers make it, and code that is something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "clients/os/linux/dispatch.h"

#define START 0xffffffff81000000ull

static uint64_t follow(const uint8_t *code, size_t len, uint32_t number, bool *ret_compared)
{
	struct dispatch dispatch = {.code = code, .len = len, .start = START};
	uint64_t target = 0;

	return dispatch_follow(&dispatch, number, &target, ret_compared) ? target : 0;
}

static void numbers_lead_where_the_code_jumps(void **state)
{
	static const uint8_t code[] = {
		0xf3, 0x0f, 0x1e, 0xfa,             /* 00 endbr64 */
		0x66, 0x0f, 0x1f, 0x00,             /* 04 nopw (%rax) */
		0x0f, 0x1f, 0x44, 0x00, 0x00,       /* 08 nopl 0(%rax,%rax,1) */
		0x81, 0xfe, 0x10, 0x01, 0x00, 0x00, /* 0d cmp $0x110,%esi */
		0x0f, 0x87, 0x07, 0x00, 0x00, 0x00, /* 13 ja 20 */
		0x83, 0xfe, 0x05,                   /* 19 cmp $5,%esi */
		0x74, 0x09,                         /* 1c je 27 */
		0xeb, 0x0c,                         /* 1e jmp 2c */
		0x89, 0xf0,                         /* 20 mov %esi,%eax */
		0xe9, 0xd9, 0x0f, 0x00, 0x00,       /* 22 jmp 1000 */
		0xe8, 0xd4, 0x1f, 0x00, 0x00,       /* 27 call 2000, which does not come back */
		0x85, 0xf6,                         /* 2c test %esi,%esi */
		0x75, 0x05,                         /* 2e jne 35 */
		0xe9, 0xcb, 0x2f, 0x00, 0x00,       /* 30 jmp 3000 */
		0xe9, 0xc6, 0xff, 0xff, 0xfe,       /* 35 jmp far below */
	};
	bool compared;

	assert_int_equal(follow(code, sizeof(code), 0x111, &compared), START + 0x1000);
	assert_true(compared);
	assert_int_equal(follow(code, sizeof(code), 5, &compared), START + 0x2000);
	assert_int_equal(follow(code, sizeof(code), 0, &compared), START + 0x3000);
	assert_int_equal(follow(code, sizeof(code), 7, &compared), START - 0x1000000);
}

static void what_leads_away_at_once_did_not_look(void **state)
{
	static const uint8_t code[] = {0x0f, 0x1f, 0x44, 0x00, 0x00, 0xe8, 0x00, 0x10, 0x00, 0x00,
		0x83, 0xfe, 0x05, 0x74, 0x70};
	bool compared = true;

	assert_int_equal(follow(code, sizeof(code), 5, &compared), START + 0x100a);
	assert_false(compared);
}

static void other_code_is_not_understood(void **state)
{
	static const uint8_t loop[] = {0xeb, 0xfe}, /* jmp to itself */
		indirect[] = {0xff, 0x24, 0xf5, 0, 0, 0, 0},
			     unknown_register[] = {0x83, 0xf9, 0x05, 0x74, 0x70}, /* cmp $5,%ecx */
		no_comparison[] = {0x74, 0x70}, called_within[] = {0xe8, 0, 0, 0, 0, 0x90},
			     cut[] = {0x81, 0xfe, 0x05}, nops[] = {0x66, 0x66, 0x66, 0x66},
			     parity[] = {0x83, 0xfe, 0x05, 0x7a, 0x70};
	static const struct {
		const uint8_t *code;
		size_t len;
	} others[] = {{loop, sizeof(loop)}, {indirect, sizeof(indirect)},
		{unknown_register, sizeof(unknown_register)},
		{no_comparison, sizeof(no_comparison)}, {called_within, sizeof(called_within)},
		{cut, sizeof(cut)}, {nops, sizeof(nops)}, {parity, sizeof(parity)}, {loop, 0},
		{loop, 1}};
	bool compared;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(follow(others[i].code, others[i].len, 5, &compared), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_lead_where_the_code_jumps),
		cmocka_unit_test(what_leads_away_at_once_did_not_look),
		cmocka_unit_test(other_code_is_not_understood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
