/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of gdb's protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "clients/common/rsp.h"

static enum rsp_event feed(struct rsp *rsp, const char *bytes)
{
	enum rsp_event event = RSP_NONE;

	for (; *bytes; bytes++) {
		event = rsp_take(rsp, (uint8_t)*bytes);
		if (bytes[1])
			assert_int_equal(event, RSP_NONE);
	}
	return event;
}

static void packets_come_out_whole(void **state)
{
	struct rsp rsp = {0};

	assert_int_equal(feed(&rsp, "+$m1000,40#be"), RSP_PACKET);
	assert_string_equal(rsp.data, "m1000,40");
	assert_int_equal(feed(&rsp, "$#00"), RSP_PACKET);
	assert_int_equal(rsp.len, 0);
	assert_int_equal(feed(&rsp, "\x03"), RSP_INTERRUPT);
	assert_int_equal(feed(&rsp, "-"), RSP_AGAIN);
}

static void damaged_ones_are_asked_for_again(void **state)
{
	struct rsp rsp = {0};

	assert_int_equal(feed(&rsp, "$m1000,40#b8"), RSP_BAD);
	assert_int_equal(feed(&rsp, "$g#6"), RSP_NONE);
	assert_int_equal(feed(&rsp, "x"), RSP_BAD);
	assert_int_equal(feed(&rsp, "$g#x"), RSP_BAD);
	assert_int_equal(feed(&rsp, "$g#67"), RSP_PACKET);
}

static void too_long_ones_come_out_empty(void **state)
{
	static struct rsp rsp;
	uint8_t sum = 0;

	assert_int_equal(feed(&rsp, "$"), RSP_NONE);
	for (unsigned i = 0; i < RSP_PACKET_MAX + 1; i++, sum++)
		assert_int_equal(rsp_take(&rsp, 1), RSP_NONE);
	assert_int_equal(feed(&rsp, "#"), RSP_NONE);
	assert_int_equal(rsp_take(&rsp, (uint8_t) "0123456789abcdef"[sum >> 4]), RSP_NONE);
	assert_int_equal(rsp_take(&rsp, (uint8_t) "0123456789abcdef"[sum & 15]), RSP_PACKET);
	assert_int_equal(rsp.len, 0);
	assert_string_equal(rsp.data, "");
}

static void what_is_sent_again_is_known(void **state)
{
	static const char bytes[] = "$m10,4#2e$m10,4#2e";
	const uint8_t *second = (const uint8_t *)bytes + 9;
	struct rsp rsp = {0};

	assert_int_equal(feed(&rsp, "$m10,4#2e"), RSP_PACKET);
	assert_true(rsp_is_again(&rsp, second, 9));
	assert_false(rsp_is_again(&rsp, second, 8));
	assert_false(rsp_is_again(&rsp, second, 0));
	assert_false(rsp_is_again(&rsp, (const uint8_t *)"$m10,5#2f", 9));
	assert_false(rsp_is_again(&rsp, (const uint8_t *)"$m10,44#62", 10));
	assert_false(rsp_is_again(&rsp, (const uint8_t *)"+$m10,4#2e", 10));
}

static void frames_escape_what_has_a_meaning(void **state)
{
	struct rsp rsp = {0};
	char frame[64];

	frame[rsp_frame("OK", 2, frame)] = 0;
	assert_string_equal(frame, "$OK#9a");
	frame[rsp_frame("a#b", 3, frame)] = 0;
	assert_string_equal(frame, "$a}\003b#43");
	assert_int_equal(feed(&rsp, frame), RSP_PACKET);
}

static void numbers_are_pairs(void **state)
{
	uint64_t first, second;

	assert_true(rsp_pair("ffffffff81000000,40", &first, &second));
	assert_int_equal(first, 0xffffffff81000000ull);
	assert_int_equal(second, 0x40);
	assert_false(rsp_pair("", &first, &second));
	assert_false(rsp_pair("-1,4", &first, &second));
	assert_false(rsp_pair("10", &first, &second));
	assert_false(rsp_pair("10,", &first, &second));
	assert_false(rsp_pair("10,4x", &first, &second));
	assert_false(rsp_pair("1ffffffffffffffff,4", &first, &second));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_come_out_whole),
		cmocka_unit_test(damaged_ones_are_asked_for_again),
		cmocka_unit_test(too_long_ones_come_out_empty),
		cmocka_unit_test(what_is_sent_again_is_known),
		cmocka_unit_test(frames_escape_what_has_a_meaning),
		cmocka_unit_test(numbers_are_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
