/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store knows is the same after a restart, whatever was changed, rolled back, and saved
 * into the snapshot on the way: random changes, against what was known before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "vmsig/vmsig_error.h"

#define SEEDS 4
#define STEPS 3000
#define ENDPOINTS 5
#define LEASES 12
#define WRITERS 3

struct lab {
	char dir[64];
	struct store *store;
	unsigned seed;
	uint64_t next_lease;
};

static unsigned pick(struct lab *lab, unsigned n)
{
	return (unsigned)rand_r(&lab->seed) % n;
}

static void lab_open(struct lab *lab)
{
	char error[512];

	if (store_open(&lab->store, lab->dir, error, sizeof(error)))
		fail_msg("%s", error);
}

/* ---- what is known, as text ---- */

struct lines {
	char **list;
	size_t n;
};

static void add(struct lines *lines, const char *line)
{
	lines->list = realloc(lines->list, (lines->n + 1) * sizeof(*lines->list));
	assert_non_null(lines->list);
	lines->list[lines->n] = strdup(line);
	assert_non_null(lines->list[lines->n++]);
}

static int add_answer(void *arg, const struct ledger_key *key, const struct ledger_answer *answer)
{
	char line[512];

	snprintf(line, sizeof(line), "answer %lu %lu %lu %lu %02x %d %.*s", key->lease, key->writer,
		key->sequence, answer->intent, answer->digest[0], answer->done, (int)answer->len,
		answer->reply);
	add(arg, line);
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct lines known(const struct store_tables *tables)
{
	struct lines lines = {0};
	char line[512];

	for (const struct table_endpoint *e = tables->endpoints; e; e = e->hh.next) {
		/* A token that was taken back may stay away, and need not. */
		snprintf(line, sizeof(line), "endpoint %u %s %u %s", e->id, e->name, e->epoch,
			e->session);
		add(&lines, line);
	}
	for (const struct table_lease *l = tables_lease_first(tables); l;
		l = tables_lease_after(tables, l)) {
		snprintf(line, sizeof(line),
			"lease %lu %u %u %lu %s %u %u %lu %lu %lu %lu %lu %zu %lx", l->node.id,
			l->endpoint, l->epoch, l->token, l->tenant, l->uid, l->priority, l->ttl_ns,
			l->granted_ns, l->deadline_ns, l->hold_until_ns, l->ended,
			l->ended ? 0 : l->nranges, l->ended ? 0 : l->ranges[l->nranges - 1].last);
		add(&lines, line);
	}
	answers_each(&tables->answers, add_answer, &lines);
	snprintf(line, sizeof(line), "meta %lu %u %u %lu %s", tables->next_lease,
		tables->last_endpoint, tables->epoch_floor, tables->total, tables->boot_id);
	add(&lines, line);
	qsort(lines.list, lines.n, sizeof(*lines.list), by_text);
	return lines;
}

static void lines_free(struct lines *lines)
{
	for (size_t i = 0; i < lines->n; i++)
		free(lines->list[i]);
	free(lines->list);
}

/* Takes both. */
static void same(struct lines before, struct lines after, const char *what)
{
	for (int k = 0; k < 2; k++) {
		struct lines *x = k ? &after : &before, *y = k ? &before : &after;
		for (size_t i = 0; i < x->n; i++) {
			int f = 0;
			for (size_t j = 0; j < y->n; j++)
				f |= !strcmp(x->list[i], y->list[j]);
			if (!f)
				print_message("%c %s\n", k ? '+' : '-', x->list[i]);
		}
	}
	for (size_t i = 0; i < before.n && i < after.n; i++) {
		if (strcmp(before.list[i], after.list[i]) != 0)
			fail_msg("%s: '%s' became '%s'", what, before.list[i], after.list[i]);
	}
	assert_int_equal(before.n, after.n);
	lines_free(&before);
	lines_free(&after);
}

/* ---- changes ---- */

static uint64_t some_lease(struct lab *lab)
{
	uint64_t back = pick(lab, LEASES);

	return lab->next_lease > back ? lab->next_lease - back : 1;
}

static struct ledger_key some_key(struct lab *lab)
{
	struct ledger_key key = {.lease = some_lease(lab), .writer = pick(lab, WRITERS)};

	/* Some share a slot. */
	key.sequence = pick(lab, 20) + LEDGER_WINDOW * pick(lab, 3);
	return key;
}

static void grant(struct lab *lab)
{
	struct lease_range ranges[3] = {{1, 2}, {5, 9}, {100, 100 + pick(lab, 9)}};
	const struct change change = {.kind = CHANGE_GRANT,
		.key.lease = ++lab->next_lease,
		.endpoint = 1 + pick(lab, ENDPOINTS),
		.epoch = pick(lab, 9),
		.number = lab->next_lease,
		.ttl_ns = pick(lab, 1000),
		.granted_ns = 5,
		.deadline_ns = 1 + pick(lab, 1000),
		.hold_until_ns = UINT64_MAX / 2,
		.uid = 7,
		.priority = pick(lab, 5),
		.ranges = ranges,
		.nranges = 1 + pick(lab, 3),
		.bytes = "alice",
		.len = 5};

	assert_int_equal(store_change(lab->store, &change), 0);
}

static void change_lease(struct lab *lab, enum change_kind kind)
{
	const struct change change = {
		.kind = kind, .key.lease = some_lease(lab), .number = 1 + pick(lab, 1000)};

	assert_int_equal(store_change(lab->store, &change), 0);
}

static void change_answer(struct lab *lab, enum change_kind kind)
{
	const uint8_t digest[LEDGER_DIGEST] = {(uint8_t)pick(lab, 256)};
	const struct change change = {.kind = kind,
		.key = some_key(lab),
		.number = pick(lab, 1000),
		.digest = digest,
		.bytes = "a reply of some length",
		.len = pick(lab, 22)};

	assert_int_equal(store_change(lab->store, &change), 0);
}

static void change_endpoint(struct lab *lab)
{
	uint32_t id = 1 + pick(lab, ENDPOINTS);
	const struct table_endpoint *row = tables_endpoint(&lab->store->tables, id);
	const struct change epoch = {
		.kind = CHANGE_EPOCH, .endpoint = id, .epoch = row->epoch + pick(lab, 3)};
	const struct change session = {.kind = CHANGE_SESSION,
		.endpoint = id,
		.epoch = row->epoch,
		.bytes = "session",
		.len = pick(lab, 8)};

	assert_int_equal(store_change(lab->store, pick(lab, 2) ? &epoch : &session), 0);
}

static void change_something(struct lab *lab)
{
	static const enum change_kind leases[] = {CHANGE_RENEW, CHANGE_END, CHANGE_END};
	static const enum change_kind answers[] = {
		CHANGE_INTEND, CHANGE_INTEND, CHANGE_SETTLE, CHANGE_SETTLE, CHANGE_FORGET};
	const struct change ids = {.kind = CHANGE_IDS, .number = pick(lab, 100000)};
	const struct change drop = {.kind = CHANGE_DROP, .key.lease = some_lease(lab)};
	unsigned what = pick(lab, 100);

	if (what < 60)
		change_answer(lab, answers[pick(lab, 5)]);
	else if (what < 75)
		change_lease(lab, leases[pick(lab, 3)]);
	else if (what < 85)
		grant(lab);
	else if (what < 95)
		change_endpoint(lab);
	else
		assert_int_equal(store_change(lab->store, what < 98 ? &drop : &ids), 0);
}

static void errands(struct lab *lab)
{
	store_want_snapshot(lab->store);
	for (int i = 0; i < 4; i++) {
		if (store_errand_begin(lab->store)) {
			store_errand_run(lab->store);
			store_errand_end(lab->store);
		}
		store_turn(lab->store);
		usleep(1000);
	}
}

static void step(struct lab *lab)
{
	unsigned n = pick(lab, 6), end = pick(lab, 100);

	if (end < 2) {
		struct lines before = known(&lab->store->tables);

		for (unsigned i = 0; i < n; i++)
			change_something(lab);
		store_rollback(lab->store);
		same(before, known(&lab->store->tables), "a rollback");
		return;
	}
	for (unsigned i = 0; i < n; i++)
		change_something(lab);
	if (end < 30) {
		store_rollback(lab->store);
		return;
	}
	assert_int_equal(store_commit(lab->store), 0);
	if (end == 99)
		errands(lab);
}

static void restart(struct lab *lab)
{
	struct lines before = known(&lab->store->tables);

	store_close(lab->store);
	lab_open(lab);
	same(before, known(&lab->store->tables), "a restart");
}

static void all_is_known_after_a_restart(void **state)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct lab lab = {.dir = "/tmp/vmsig-tables-XXXXXX", .seed = seed};
		struct store_endpoint row;
		char text[96];

		assert_non_null(mkdtemp(lab.dir));
		lab_open(&lab);
		for (unsigned i = 0; i < ENDPOINTS; i++) {
			snprintf(text, sizeof(text), "endpoint %u", i);
			assert_int_equal(store_endpoint(lab.store, text, &row), 0);
		}
		for (unsigned i = 1; i <= STEPS; i++) {
			step(&lab);
			if (i % (STEPS / 8) == 0)
				restart(&lab);
		}
		store_close(lab.store);
		snprintf(text, sizeof(text), "rm -r %s", lab.dir);
		assert_int_equal(system(text), 0);
	}
}

/* Bodies are foreign input: any prefix, and any byte that is another, is refused or is one. */
static void damaged_bodies_are_refused(void **state)
{
	struct lease_range range = {.start = 1, .last = 2}, ranges[LEASE_RANGES_MAX];
	const struct change change = {.kind = CHANGE_GRANT,
		.key.lease = 1,
		.ranges = &range,
		.nranges = 1,
		.bytes = "alice",
		.len = 5};
	uint8_t body[256];
	size_t len = change_size(&change);
	struct change out;

	assert_true(len <= sizeof(body));
	change_encode(&change, body);
	assert_int_equal(change_decode(&out, ranges, body, len), 0);
	assert_memory_equal(out.bytes, "alice", 5);
	for (size_t cut = 0; cut < len - 5; cut++)
		assert_int_not_equal(change_decode(&out, ranges, body, cut), 0);
	for (size_t i = 0; i < len; i++) {
		body[i] ^= 0xff;
		(void)!change_decode(&out, ranges, body, len);
		body[i] ^= 0xff;
	}
	body[0] = CHANGES;
	assert_int_equal(change_decode(&out, ranges, body, len), VMSIG_ERR_UNSUPPORTED);
}

/* The layouts are frozen: journals of former versions have them. */
static void bodies_are_what_they_were(void **state)
{
	static const uint8_t digest[LEDGER_DIGEST] = {0xd1};
	const struct change intend = {.kind = CHANGE_INTEND,
		.key = {.lease = 1, .writer = 2, .sequence = 3},
		.number = 4,
		.digest = digest};
	static const uint8_t expected[] = {8, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0,
		0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xd1};
	const struct change session = {
		.kind = CHANGE_SESSION, .endpoint = 0x0102, .epoch = 7, .bytes = "key", .len = 3};
	static const uint8_t text[] = {3, 2, 1, 0, 0, 7, 0, 0, 0, 'k', 'e', 'y'};
	uint8_t body[128];

	assert_int_equal(change_size(&intend), 65);
	change_encode(&intend, body);
	assert_memory_equal(body, expected, sizeof(expected));
	assert_int_equal(change_size(&session), sizeof(text));
	change_encode(&session, body);
	assert_memory_equal(body, text, sizeof(text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_known_after_a_restart),
		cmocka_unit_test(damaged_bodies_are_refused),
		cmocka_unit_test(bodies_are_what_they_were),
	};

	return cmocka_run_group_tests_name("tables", tests, NULL, NULL);
}
