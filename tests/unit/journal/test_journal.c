/* SPDX-License-Identifier: Apache-2.0 */
/* The journal as its callers have it: batches, ends, bounds, segments. */
#include "tests/unit/journal/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/journal/crc32c.h"
#include "broker/journal/segment.h"
#include "vmsig/vmsig_error.h"

/* ---- what is there again ---- */

static void test_sum(void **state)
{
	/* The check value of the polynomial. */
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, "12345", 5), "6789", 4), 0xe3069283);
}

static void test_closed(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	assert_true(journal_found(lab->journal)->fresh);
	lab_start(lab);
	lab_append(lab, 50);
	lab_close(lab);

	lab_open(lab);
	assert_false(journal_found(lab->journal)->fresh);
	assert_true(journal_found(lab->journal)->closed);
	assert_int_equal(lab_replay(lab, 1), 50);
	lab_verify(lab);
	lab_start(lab);
	lab_append(lab, 10);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 60);
	assert_int_equal(lab_replay(lab, 55), 60);
	lab_verify(lab);
}

static void test_killed_before_a_segment_has_it(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	lab_append(lab, 20);
	lab_leave(lab);

	lab_open(lab);
	assert_false(journal_found(lab->journal)->closed);
	assert_int_equal(journal_found(lab->journal)->ring_entries, 20);
	assert_int_equal(journal_found(lab->journal)->dropped_entries, 0);
	assert_int_equal(lab_replay(lab, 1), 20);
	lab_append(lab, 5);
	lab_start(lab);
	lab_await_drained(lab);
	lab_verify(lab);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 25);
}

static void test_batch_is_all_or_nothing(void **state)
{
	struct lab *lab = *state;
	struct journal_keys keys = {0};
	uint8_t *body;

	lab_open(lab);
	lab_append(lab, 3);
	assert_int_equal(journal_append(lab->journal, JOURNAL_AUDIT, &keys, 100, &body), 0);
	assert_true(journal_is_open(lab->journal));
	assert_int_equal(journal_next_number(lab->journal), 5);
	assert_int_equal(journal_next_id(lab->journal), 4);
	journal_rollback(lab->journal);
	assert_false(journal_is_open(lab->journal));
	assert_int_equal(journal_next_number(lab->journal), 4);
	assert_int_equal(journal_next_id(lab->journal), 3);
	lab_append(lab, 2);
	/* One that was not committed when the broker is killed. */
	assert_int_equal(journal_append(lab->journal, JOURNAL_AUDIT, &keys, 100, &body), 0);
	lab_leave(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 5);
}

static void test_bounds(void **state)
{
	struct lab *lab = *state;
	uint8_t *body;

	lab_open(lab);
	assert_int_equal(journal_append(lab->journal, JOURNAL_STATE, NULL, LAB_RING / 4, &body),
		VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(
		journal_append(lab->journal, JOURNAL_STATE, NULL, JOURNAL_BODY_MAX + 1, &body),
		VMSIG_ERR_OUT_OF_RANGE);
	assert_false(journal_is_open(lab->journal));
	/* No thread takes anything away. */
	while (lab_append_one(lab))
		continue;
	assert_int_equal(journal_pressure(lab->journal), JOURNAL_PRESSURE_FULL);
	assert_non_null(journal_refusal(lab->journal, 0));
	assert_int_equal(lab_replay(lab, 1), journal_committed(lab->journal));
	lab_start(lab);
	lab_await_drained(lab);
	assert_null(journal_refusal(lab->journal, 1000));
	assert_int_equal(journal_pressure(lab->journal), JOURNAL_PRESSURE_NONE);
	lab_verify(lab);
}

/* No more than a quarter of the ring, and nobody is refused meanwhile. */
static void test_next_segment_is_waited_for(void **state)
{
	struct lab *lab = *state;
	uint64_t bytes = 0;
	uint8_t *body;

	lab->options.reserve_bytes = 1024;
	lab_open(lab);
	/* Nothing is allocated before it is started. */
	for (; !journal_refusal(lab->journal, LAB_LEN_MAX); bytes += LAB_LEN_MAX) {
		assert_int_equal(
			journal_append(lab->journal, JOURNAL_STATE, NULL, LAB_LEN_MAX, &body), 0);
		memset(body, 0, LAB_LEN_MAX);
		journal_commit(lab->journal);
	}
	assert_true(bytes > LAB_RING / 8);
	assert_true(bytes < LAB_RING / 4);
	assert_non_null(strstr(journal_refusal(lab->journal, LAB_LEN_MAX), "not allocated yet"));
	lab_start(lab);
	lab_await_drained(lab);
	assert_null(journal_refusal(lab->journal, LAB_LEN_MAX));
}

static void test_many_segments(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	lab_start(lab);
	lab_append_all(lab, LAB_MANY);
	lab_await_drained(lab);
	assert_true(lab->drained > 0);
	assert_true(journal_bytes(lab->journal) >= 4 * LAB_SEGMENT);
	lab_verify(lab);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), LAB_MANY);
	assert_int_equal(lab_replay(lab, LAB_MANY / 2), LAB_MANY);
	lab_verify(lab);
}

static void test_index_is_made_anew(void **state)
{
	struct lab *lab = *state;
	char command[128];

	lab_open(lab);
	lab_start(lab);
	lab_append_all(lab, LAB_MANY);
	lab_close(lab);
	snprintf(command, sizeof(command), "rm %s/journal/*.idx", lab->state);
	assert_int_equal(system(command), 0);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), LAB_MANY);
	lab_verify(lab);
}

/* ---- syncs ---- */

static void test_sync_is_told(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 7);
	lab_await_synced(lab);
	assert_int_equal(lab->synced_number, 7);
	assert_int_equal(lab->synced_result, 0);
	/* Nothing is left to do, and it is told all the same. */
	lab->synced = 0;
	assert_int_equal(journal_sync(lab->journal), 7);
	assert_int_equal(lab->synced, 0);
	journal_turn(lab->journal);
	assert_int_equal(lab->synced, 1);
}

/* ---- reading ---- */

static bool fits(uint64_t number, const struct journal_query *query)
{
	struct journal_keys keys;

	lab_keys(number, &keys);
	return lab_type(number) == JOURNAL_AUDIT && keys.time_ns >= query->from_ns &&
	       (!query->to_ns || keys.time_ns <= query->to_ns) &&
	       (!query->endpoint || keys.endpoint == query->endpoint) &&
	       (!query->tenant || keys.tenant == query->tenant) &&
	       (!query->kinds || query->kinds >> keys.kind & 1);
}

static uint64_t id_of(uint64_t number)
{
	return number - number / 3;
}

/* All pages together are what a look at every number gives. */
static void check_query(struct lab *lab, struct journal_query query)
{
	static uint64_t expected[LAB_MANY], found[LAB_MANY];
	size_t n = 0, m = 0;
	struct journal_page page;
	bool more;

	for (uint64_t number = 1; number <= LAB_MANY; number++)
		if (fits(number, &query) && id_of(number) > query.after &&
			(!query.until || id_of(number) <= query.until))
			expected[n++] = id_of(number);
	do {
		assert_int_equal(journal_read(lab->journal, &query, &page), 0);
		assert_true(!query.limit || page.n <= query.limit);
		if (query.newest)
			memmove(found + page.n, found, m * sizeof(*found));
		for (size_t i = 0; i < page.n; i++)
			found[query.newest ? i : m + i] = page.rows[i].id;
		m += page.n;
		more = page.more;
		*(query.newest ? &query.until : &query.after) = page.next;
		journal_page_free(&page);
	} while (more);
	assert_int_equal(m, n);
	assert_memory_equal(found, expected, n * sizeof(*found));
}

static void test_queries(void **state)
{
	struct lab *lab = *state;
	struct journal_keys keys;

	lab_open(lab);
	lab_start(lab);
	lab_append_all(lab, LAB_MANY);
	lab_await_drained(lab);
	lab_keys(7, &keys);
	for (unsigned newest = 0; newest < 2; newest++)
		for (unsigned limit = 0; limit < 120; limit += 7) {
			struct journal_query query = {.newest = newest, .limit = limit};

			check_query(lab, query);
			query.endpoint = keys.endpoint;
			check_query(lab, query);
			query.tenant = keys.tenant;
			check_query(lab, query);
			query.kinds = 1u << 3 | 1u << 7;
			check_query(lab, query);
			query = (struct journal_query){.newest = newest, .bytes = 1 + 100 * limit};
			query.from_ns = 300000;
			query.to_ns = 1500000;
			check_query(lab, query);
			query.after = 400;
			query.until = 700;
			check_query(lab, query);
		}
}

/* ---- retention ---- */

static void test_retention(void **state)
{
	struct lab *lab = *state;
	struct journal_head before, after;
	struct journal_cut cut;
	uint64_t bytes;

	lab_open(lab);
	lab_start(lab);
	lab_append_all(lab, LAB_MANY);
	lab_await_drained(lab);
	bytes = journal_bytes(lab->journal);
	journal_head(lab->journal, &before);
	assert_false(journal_prunable(lab->journal, bytes, 0, UINT64_MAX, &cut));
	/* What the owner still needs stays. */
	assert_false(journal_prunable(lab->journal, 0, 0, 0, &cut));
	assert_true(journal_prunable(lab->journal, bytes / 2, 0, LAB_MANY / 4, &cut));
	assert_true(cut.number <= LAB_MANY / 4);
	assert_true(journal_prunable(lab->journal, bytes, 500 * 1000, UINT64_MAX, &cut));
	assert_true(cut.number < 500);
	assert_true(journal_prunable(lab->journal, bytes / 2, 0, UINT64_MAX, &cut));
	journal_prune(lab->journal, &cut);
	for (unsigned i = 0; journal_bytes(lab->journal) > bytes / 2 && i < 60000; i++)
		usleep(1000);
	journal_head(lab->journal, &after);
	assert_int_equal(after.id, before.id);
	assert_int_equal(after.first, cut.id + 1);
	assert_memory_equal(after.anchor, cut.hash, JOURNAL_HASH);
	lab_verify(lab);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, cut.number + 1), LAB_MANY);
	assert_int_equal(journal_replay(lab->journal, 0, lab_ignore, NULL), VMSIG_ERR_INTERNAL);
	assert_non_null(strstr(journal_error(lab->journal), "retention"));
	lab_verify(lab);
}

static void test_base(void **state)
{
	struct lab *lab = *state;
	struct journal_head head;

	lab->options.base_id = 41;
	memset(lab->options.base_hash, 7, JOURNAL_HASH);
	lab_open(lab);
	assert_int_equal(journal_next_id(lab->journal), 42);
	lab_append(lab, 5);
	lab_start(lab);
	lab_await_drained(lab);
	journal_head(lab->journal, &head);
	assert_int_equal(head.first, 42);
	assert_memory_equal(head.anchor, lab->options.base_hash, JOURNAL_HASH);
	lab_verify(lab);
	lab_close(lab);
	lab->options.base_id = 0;
	lab_open(lab);
	lab_verify(lab);
}

/* ---- the format ---- */

/* In tests/data/journal is what another version has written. */
static void test_golden(void **state)
{
	struct lab *lab = *state;
	static uint8_t golden[LAB_SEGMENT], now[LAB_SEGMENT];
	char command[512];
	ssize_t n, m;
	int fd;

	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 24);
	lab_close(lab);
	fd = open(lab_segment(lab, 1), O_RDONLY | O_CLOEXEC);
	m = pread(fd, now, sizeof(now), 0);
	close(fd);
	fd = open(GOLDEN "/0000000000000001.seg", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = pread(fd, golden, sizeof(golden), 0);
	close(fd);
	assert_in_range(n, SEGMENT_HEADER + 24 * 48, m);
	assert_memory_equal(golden, "VMSIGJNL\1\0\0\0\0\x10\0\0", 16);
	assert_memory_equal(golden + 32, "\1\0\0\0\0\0\0\0", 8);
	assert_memory_equal(golden + SEGMENT_HEADER, now + SEGMENT_HEADER, n - SEGMENT_HEADER);
	for (ssize_t i = n; i < m; i++)
		assert_int_equal(now[i], 0);

	snprintf(command, sizeof(command), "rm %s/journal/* && cp " GOLDEN "/*.seg %s/journal/",
		lab->state, lab->state);
	assert_int_equal(system(command), 0);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 24);
	lab_verify(lab);
	lab_start(lab);
	lab_append(lab, 10);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 34);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sum),
		cmocka_unit_test_setup_teardown(test_closed, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_killed_before_a_segment_has_it, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_batch_is_all_or_nothing, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_bounds, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_next_segment_is_waited_for, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_many_segments, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_index_is_made_anew, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_sync_is_told, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_queries, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_retention, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_base, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_golden, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
