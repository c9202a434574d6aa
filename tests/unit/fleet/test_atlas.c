/* SPDX-License-Identifier: Apache-2.0 */
/* The whole fleet as it is read out of a store: in pages, and whatever that says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/fleet/atlas.h"
#include "broker/fleet/deed.h"

#define KEYS_MAX 512
#define BIG 1 /* a value that makes a page of many too long */

/* A store, whose keys are sorted. */
struct pair {
	char key[128], value[DEED_TEXT_MAX];
	int big;
};

static struct pair pairs[KEYS_MAX];
static size_t npairs;
static unsigned asked;

static struct pair *put(const char *key, const char *value)
{
	struct pair *pair = &pairs[npairs++];

	assert_true(npairs < KEYS_MAX);
	assert_true(npairs == 1 || strcmp(pair[-1].key, key) < 0);
	snprintf(pair->key, sizeof(pair->key), "%s", key);
	snprintf(pair->value, sizeof(pair->value), "%s", value);
	pair->big = 0;
	return pair;
}

static void put_leaf(const char *uuid, const char *leaf, const char *value)
{
	char key[128];

	snprintf(key, sizeof(key), "/vmsig/f/vm/%s/%s", uuid, leaf);
	put(key, value);
}

static void put_mark(const char *uuid, const char *host, enum deed_status status)
{
	struct deed deed = {.change = 1, .status = status, .reserved = 4096, .token = 9};
	char text[DEED_TEXT_MAX];

	snprintf(deed.holder.host, sizeof(deed.holder.host), "%s", host);
	snprintf(deed.holder.boot, sizeof(deed.holder.boot), "boot");
	snprintf(deed.holder.nonce, sizeof(deed.holder.nonce), "nonce");
	deed_write(&deed, text);
	put_leaf(uuid, "mark", text);
}

/* The entries of one page; owned by the answer. */
static void fill(struct txn_answer *answer, const struct txn_request *request)
{
	struct txn_result *page = calloc(1, sizeof(*page));

	answer->results = page;
	answer->n = 1;
	page->entries = calloc(request->limit, sizeof(*page->entries));
	for (size_t i = 0; i < npairs && page->n < request->limit; i++) {
		struct txn_entry *entry = &page->entries[page->n];

		if (strncmp(pairs[i].key, request->prefix, strlen(request->prefix)) != 0 ||
			(request->after && strcmp(pairs[i].key, request->after) <= 0))
			continue;
		if (pairs[i].big && request->limit > 2)
			answer->outcome = TXN_UNAVAILABLE;
		entry->key =
			(struct txn_bytes){(uint8_t *)strdup(pairs[i].key), strlen(pairs[i].key)};
		entry->value = (struct txn_bytes){
			(uint8_t *)strdup(pairs[i].value), strlen(pairs[i].value)};
		page->n++;
	}
}

static enum atlas_progress step(struct atlas *atlas)
{
	struct txn_answer answer = {.outcome = TXN_OK};
	struct txn_request request;
	enum atlas_progress progress;

	atlas_ask(atlas, &request);
	assert_int_equal(request.kind, TXN_PAGE);
	asked++;
	fill(&answer, &request);
	progress = atlas_take(atlas, &answer);
	txn_answer_deinit(&answer);
	return progress;
}

static struct atlas *read_all(void)
{
	struct atlas *atlas = atlas_new("f");
	enum atlas_progress progress;

	assert_non_null(atlas);
	asked = 0;
	do
		progress = step(atlas);
	while (progress == ATLAS_GOES_ON);
	assert_int_equal(progress, ATLAS_COMPLETE);
	return atlas;
}

static int forget(void **state)
{
	npairs = 0;
	return 0;
}

static void what_hosts_have_is_there(void **state)
{
	const struct atlas_guest *guest;
	struct atlas *atlas;
	size_t n;

	(void)state;
	put("/vmsig/e/vm/x/mark", "another fleet's");
	put_leaf("a", "lease/0000000000000001",
		"tenant ops\nepoch 7\nlease 42\nuid 1000\nttl_ms 30000\n");
	put_leaf("a", "lease/0000000000000002", "tenant old\nepoch 7\n");
	put_mark("a", "host1", DEED_HELD);
	put_leaf("a", "owner", "vmsig-owner 1\nhost host1\nname web 1\n");
	put_mark("b", "host2", DEED_RELEASED);
	put_mark("c", "host3", DEED_HELD);
	put_mark("d", "host4", DEED_RELEASED);
	atlas = read_all();
	guest = atlas_guests(atlas, &n);
	assert_int_equal(n, 2);
	assert_string_equal(guest->uuid, "a");
	assert_string_equal(guest->host, "host1");
	assert_string_equal(guest->name, "web 1");
	assert_true(guest->heard && !guest->offered);
	assert_int_equal(guest->epoch, 4096);
	assert_int_equal(guest->nleases, 2);
	assert_int_equal(guest->leases[0].id, 42);
	assert_string_equal(guest->leases[0].tenant, "ops");
	assert_int_equal(guest->leases[0].uid, 1000);
	assert_int_equal(guest->leases[0].epoch, 7);
	assert_int_equal(guest->leases[0].ttl_ms, 30000);
	assert_string_equal(guest->leases[1].tenant, "old");
	assert_string_equal(guest[1].host, "host3");
	assert_false(guest[1].heard);
	assert_ptr_equal(atlas_find(atlas, "c"), &guest[1]);
	assert_null(atlas_find(atlas, "b"));
	assert_false(atlas_more(atlas));
	atlas_free(atlas);
}

static void one_name_may_begin_as_another_one(void **state)
{
	struct atlas *atlas;

	(void)state;
	put_mark("a-b", "host1", DEED_HELD);
	put_mark("a", "host2", DEED_HELD);
	atlas = read_all();
	assert_string_equal(atlas_find(atlas, "a")->host, "host2");
	assert_string_equal(atlas_find(atlas, "a-b")->host, "host1");
	atlas_free(atlas);
}

static void many_come_in_pages(void **state)
{
	struct atlas *atlas;
	char uuid[16];
	size_t n;

	(void)state;
	for (unsigned i = 0; i < 128; i++) {
		snprintf(uuid, sizeof(uuid), "%03u", i);
		put_mark(uuid, "host1", DEED_HELD);
		put_leaf(uuid, "owner", "name vm\n");
	}
	atlas = read_all();
	atlas_guests(atlas, &n);
	assert_int_equal(n, 128);
	/* Four full pages, and one that says that there is no more. */
	assert_int_equal(asked, 5);
	assert_string_equal(atlas_find(atlas, "127")->name, "vm");
	atlas_free(atlas);
}

static void a_page_that_is_too_long_is_read_in_small_ones(void **state)
{
	struct atlas *atlas;
	size_t n;

	(void)state;
	put("/vmsig/f/vm/a/baggage", "much")->big = BIG;
	put_mark("a", "host1", DEED_OFFERED);
	put_mark("b", "host1", DEED_HELD);
	atlas = read_all();
	assert_true(atlas_guests(atlas, &n)->offered);
	assert_int_equal(n, 2);
	atlas_free(atlas);
}

static void a_store_that_does_not_answer_is_asked_twice(void **state)
{
	const struct txn_answer nothing = {.outcome = TXN_UNAVAILABLE};
	struct atlas *atlas = atlas_new("f");

	(void)state;
	assert_int_equal(atlas_take(atlas, &nothing), ATLAS_GOES_ON);
	assert_int_equal(atlas_take(atlas, &nothing), ATLAS_FAILED);
	atlas_free(atlas);
}

static void what_no_store_says_ends_it(void **state)
{
	static const char *const bad[] = {"/vmsig/f/vm/a/mark", "/vmsig/g/vm/z/mark", "x", "/"};
	struct atlas *atlas;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct txn_entry entry = {.key = {(uint8_t *)(uintptr_t)bad[i], strlen(bad[i])}};
		struct txn_result page = {.kind = TXN_GET, .entries = &entry, .n = 1};
		const struct txn_answer answer = {.outcome = TXN_OK, .results = &page, .n = 1};

		npairs = 0;
		for (unsigned j = 0; j < 64; j++) {
			char uuid[16];

			snprintf(uuid, sizeof(uuid), "b%02u", j);
			put_mark(uuid, "host1", DEED_HELD);
		}
		atlas = atlas_new("f");
		assert_int_equal(step(atlas), ATLAS_GOES_ON);
		assert_int_equal(atlas_take(atlas, &answer), ATLAS_FAILED);
		atlas_free(atlas);
	}
}

static void what_makes_no_sense_is_left_out(void **state)
{
	static const char long_name[] = "name 0123456789012345678901234567890123456789012345678901"
					"2345678901234567890\n";
	struct atlas *atlas;
	size_t n;

	(void)state;
	put("/vmsig/f/vm/0123456789012345678901234567890123456/mark", "too long");
	put_leaf("a", "mark", "vmsig-deed 2\n");
	put_leaf("a", "owner", "vmsig-owner 1\n");
	put_leaf("b", "lease/", "tenant");
	put_mark("b", "host1", DEED_HELD);
	put_leaf("b", "owner", long_name);
	put("/vmsig/f/vm/c", "no leaf");
	atlas = read_all();
	assert_string_equal(atlas_guests(atlas, &n)->uuid, "b");
	assert_int_equal(n, 1);
	assert_string_equal(atlas_guests(atlas, &n)->name, "");
	assert_string_equal(atlas_guests(atlas, &n)->leases[0].tenant, "");
	atlas_free(atlas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_hosts_have_is_there, forget),
		cmocka_unit_test_setup(one_name_may_begin_as_another_one, forget),
		cmocka_unit_test_setup(many_come_in_pages, forget),
		cmocka_unit_test_setup(a_page_that_is_too_long_is_read_in_small_ones, forget),
		cmocka_unit_test_setup(a_store_that_does_not_answer_is_asked_twice, forget),
		cmocka_unit_test_setup(what_no_store_says_ends_it, forget),
		cmocka_unit_test_setup(what_makes_no_sense_is_left_out, forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
