/* SPDX-License-Identifier: Apache-2.0 */
/* The checker of histories, on histories that are in order and on each kind that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/history.h"

#define MOST 6

enum { M = VMSIG_EV_MEMCTX, I = VMSIG_EV_MEMCTX_INVALIDATED, S = VMSIG_EV_ENDPOINT_STATE };

struct event {
	uint32_t kind, epoch;
	enum vmsig_endpoint_state state;
};

/* `wrong` begins what the checker says about the last event; NULL: all are in order. */
static const struct {
	struct event events[MOST];
	const char *wrong;
} histories[] = {
	{{{M, 1}, {I, 2}, {M, 2}}, NULL},
	{{{S, 1, VMSIG_STATE_BOOTING}, {M, 1}, {I, 4}, {M, 4}}, NULL},
	{{{M, 1}, {M, 1}}, NULL},
	{{{I, 2}, {M, 2}, {I, 3}, {I, 4}, {M, 4}}, NULL},
	{{{M, 1}, {S, 3, VMSIG_STATE_GONE}, {M, 4}}, NULL},
	{{{M, 1}, {I, 2}, {S, 2, VMSIG_STATE_BOOTING}, {M, 2}}, NULL},
	{{{M, 1}, {M, 2}}, "R4: a newer context before"},
	{{{M, 2}, {M, 1}}, "R4: something of an older"},
	{{{M, 1}, {I, 2}, {M, 1}}, "R4: something of an older"},
	{{{M, 1}, {I, 2}, {M, 2}, {I, 2}}, "R4: an invalidation that names no newer"},
	{{{M, 3}, {I, 3}}, "R4: an invalidation that names no newer"},
	{{{M, 3}, {I, 2}}, "R4: something of an older"},
	{{{M, 1}, {S, 2, VMSIG_STATE_BOOTING}}, "R4: a state of a newer epoch"},
	{{{M, 1}, {I, 2}, {S, 1, VMSIG_STATE_BOOTING}}, "R4: something of an older"},
	{{{M, 1}, {S, 3, VMSIG_STATE_GONE}, {M, 2}}, "R4: something of an older"},
};

static struct core_delivery delivery_of(const struct event *event)
{
	struct core_delivery delivery = {
		.kind = event->kind, .epoch = event->epoch, .state = event->state};

	if (event->kind == M) {
		delivery.pod.epoch = event->epoch;
		delivery.pod.flags = VMSIG_MEMCTX_RDONLY;
		delivery.nfiles = 1;
		delivery.state = VMSIG_STATE_READY;
	}
	return delivery;
}

static void check(const struct event *events, const char *wrong)
{
	struct history history = {0};
	const char *said = NULL;

	for (size_t i = 0; i < MOST && events[i].kind; i++) {
		struct core_delivery delivery = delivery_of(&events[i]);

		assert_null(said);
		said = history_add(&history, &delivery);
	}
	if (!wrong)
		assert_null(said);
	else if (!said || strncmp(said, wrong, strlen(wrong)) != 0)
		fail_msg("'%s' was expected, '%s' was said", wrong, said ? said : "nothing");
}

static void orders_are_told_apart(void **state)
{
	for (size_t i = 0; i < sizeof(histories) / sizeof(histories[0]); i++)
		check(histories[i].events, histories[i].wrong);
}

static void a_context_is_complete(void **state)
{
	const struct event event = {M, 5, VMSIG_STATE_READY};
	struct core_delivery unstamped = delivery_of(&event), writable = unstamped;
	struct core_delivery without = unstamped;
	struct history history = {0};

	unstamped.pod.epoch = 4;
	assert_non_null(strstr(history_add(&history, &unstamped), "R3"));
	writable.pod.flags = 0;
	assert_non_null(strstr(history_add(&history, &writable), "R1"));
	without.nfiles = 0;
	assert_non_null(strstr(history_add(&history, &without), "R2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(orders_are_told_apart),
		cmocka_unit_test(a_context_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
