/* SPDX-License-Identifier: Apache-2.0 */
/* Text of others, for people and terminals: whole characters, no controls, in messages at any
 * depth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "proto/utf8.h"
#include "proto/wire/clean.h"
#include "proto/wire/vmsig.pb-c.h"

static void is_cleaned(const char *text, const char *want)
{
	char copy[64], here[64];

	utf8_clean(copy, sizeof(copy), text);
	assert_string_equal(copy, want);
	strcpy(here, text);
	utf8_clean(here, sizeof(here), here);
	assert_string_equal(here, want);
}

static void controls_and_what_is_no_character_are_question_marks(void **state)
{
	(void)state;
	is_cleaned("", "");
	is_cleaned("plain, \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8c",
		"plain, \xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8c");
	is_cleaned("a\x1b[31m\r\n\t\x7f", "a?[31m????");
	/* C1: what begins a command of a terminal as well as ESC [ does. */
	is_cleaned("\xc2\x9b"
		   "31m\xc2\x80\xc2\xa0",
		"?31m?\xc2\xa0");
	is_cleaned("\x9b\xff\xc3", "???");
	/* Overlong, a surrogate, beyond the last one, cut off. */
	is_cleaned("\xc0\xaf", "??");
	is_cleaned("\xed\xa0\x80", "???");
	is_cleaned("\xf4\x90\x80\x80", "????");
	is_cleaned("\xe2\x82", "??");
}

static void a_character_that_does_not_fit_is_left_out(void **state)
{
	char text[5] = "none", none = 'x';

	(void)state;
	utf8_clean(text, sizeof(text), "abc\xc3\xa9");
	assert_string_equal(text, "abc");
	utf8_clean(text, sizeof(text), "ab\xc3\xa9z");
	assert_string_equal(text, "ab\xc3\xa9");
	utf8_clean(text, 1, "a");
	assert_string_equal(text, "");
	utf8_clean(&none, 0, "a");
	assert_int_equal(none, 'x');
}

static void messages_are_clean_at_any_depth(void **state)
{
	char name[] = "web\x1b", tenant[] = "t\xff", label[] = "a=\xc2\x9b", detail[] = "ok";
	char *labels[] = {label};
	Vmsig__FleetLease lease = VMSIG__FLEET_LEASE__INIT, *leases[] = {&lease};
	Vmsig__FleetGuest guest = VMSIG__FLEET_GUEST__INIT, *guests[] = {&guest};
	Vmsig__FleetView view = VMSIG__FLEET_VIEW__INIT;
	Vmsig__Hosted hosted = VMSIG__HOSTED__INIT;
	Vmsig__AdminMessage message = VMSIG__ADMIN_MESSAGE__INIT;

	(void)state;
	lease.tenant = tenant;
	guest.name = name;
	guest.leases = leases;
	guest.n_leases = 1;
	view.guests = guests;
	view.n_guests = 1;
	message.body_case = VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW;
	message.fleet_view = &view;
	clean_texts(&message.base);
	assert_string_equal(name, "web?");
	assert_string_equal(tenant, "t?");
	hosted.labels = labels;
	hosted.n_labels = 1;
	hosted.detail = detail;
	clean_texts(&hosted.base);
	assert_string_equal(label, "a=?");
	assert_string_equal(detail, "ok");
	/* Another body of the union is none of text. */
	message.body_case = VMSIG__ADMIN_MESSAGE__BODY__NOT_SET;
	message.fleet_view = (Vmsig__FleetView *)(uintptr_t)1;
	clean_texts(&message.base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(controls_and_what_is_no_character_are_question_marks),
		cmocka_unit_test(a_character_that_does_not_fit_is_left_out),
		cmocka_unit_test(messages_are_clean_at_any_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
