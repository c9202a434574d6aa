/* SPDX-License-Identifier: Apache-2.0 */
/* The stored audit log, as its verification sees it: appended, rolled back, pruned, attacked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/audit.h"
#include "broker/store/store.h"
#include "proto/chain/auditchain.h"
#include "vmsig/vmsig_error.h"

#define FOREVER UINT64_MAX

struct lab {
	char dir[64];
	struct store *store;
	struct audit *audit;
	char error[AUDITCHAIN_ERROR_MAX + 1]; /* of the last verification */
};

static void lab_open(struct lab *lab)
{
	char error[256];

	if (store_open(&lab->store, lab->dir, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(audit_new(&lab->audit, lab->store), 0);
}

static void lab_close(struct lab *lab)
{
	lab->audit = audit_free(lab->audit);
	lab->store = store_close(lab->store);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	strcpy(lab->dir, "/tmp/vmsig-audit-XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	lab_open(lab);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = {"vmsig.db", "vmsig.db-wal", "vmsig.db-shm", "lock"};
	struct lab *lab = *state;
	char path[PATH_MAX];

	lab_close(lab);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", lab->dir, files[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(lab->dir), 0);
	free(lab);
	return 0;
}

static void append(struct lab *lab, unsigned n)
{
	static char tenant[] = "acme";
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__REFUSED;
	record.tenant = tenant;
	assert_int_equal(store_begin(lab->store), 0);
	while (n--)
		assert_int_equal(audit_append(lab->audit, &record), 0);
}

static void commit(struct lab *lab)
{
	assert_int_equal(store_commit(lab->store), 0);
	audit_committed(lab->audit);
}

static void append_commit(struct lab *lab, unsigned n)
{
	append(lab, n);
	commit(lab);
}

static uint64_t chain_add(struct auditchain *chain, const struct audit_page *page, uint64_t last)
{
	for (size_t i = 0; i < page->n; i++) {
		const Vmsig__AuditRow *row = &page->rows[i];

		assert_int_equal(row->hash.len, AUDITCHAIN_HASH);
		last = row->id;
		if (auditchain_add(chain, row->id, row->body.data, row->body.len, row->hash.data))
			break;
	}
	return last;
}

/* As vmsigctl does, with a head that was noted, or without (id 0). */
static int verify(struct lab *lab, const struct audit_head *noted)
{
	uint8_t hash[AUDITCHAIN_HASH];
	struct auditchain chain;
	struct audit_head head;
	struct audit_page page;
	uint64_t last, id;
	int r;

	audit_head(lab->audit, &head);
	assert_int_equal(auditchain_init(&chain), 0);
	auditchain_start(&chain, head.first - 1, head.anchor);
	auditchain_note(&chain, noted->id, noted->hash);
	for (last = head.first - 1;;) {
		uint64_t before = last;

		assert_int_equal(audit_page(lab->audit, last, 1000, &page), 0);
		last = chain_add(&chain, &page, last);
		audit_page_free(&page);
		if (last == before)
			break;
	}
	r = auditchain_finish(&chain, &id, hash);
	if (!r) {
		assert_int_equal(id, head.id);
		assert_memory_equal(hash, head.hash, AUDITCHAIN_HASH);
	}
	snprintf(lab->error, sizeof(lab->error), "%s", auditchain_error(&chain));
	auditchain_deinit(&chain);
	return r;
}

static void assert_intact(struct lab *lab, const struct audit_head *noted)
{
	if (verify(lab, noted))
		fail_msg("%s", lab->error);
}

static const struct audit_head nothing;

static void what_is_appended_verifies(void **state)
{
	struct lab *lab = *state;
	struct audit_head head;

	assert_intact(lab, &nothing);
	append_commit(lab, 1);
	append_commit(lab, 70);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 71);
	append_commit(lab, 29);
	assert_intact(lab, &head);
	lab_close(lab);
	lab_open(lab);
	append_commit(lab, 10);
	assert_intact(lab, &head);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 110);
}

static void what_is_rolled_back_leaves_no_gap(void **state)
{
	struct lab *lab = *state;
	struct audit_head head;

	append(lab, 5);
	store_rollback(lab->store);
	audit_rolled_back(lab->audit);
	append_commit(lab, 3);
	append(lab, 5);
	store_rollback(lab->store);
	audit_rolled_back(lab->audit);
	append_commit(lab, 4);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 7);
	assert_intact(lab, &head);
}

/* ---- retention ---- */

/* As if the database were too large: so many batches are dropped. */
static unsigned prune(struct lab *lab, unsigned batches)
{
	bool more = true;
	unsigned n = 0;

	while (more && n < batches) {
		assert_int_equal(audit_prune(lab->audit, 0, FOREVER, &more), 0);
		n += more;
	}
	return n;
}

/* Enough for three batches. The head before them is left. */
static void fill_and_prune(struct lab *lab, struct audit_head *ret_before)
{
	struct audit_head head;

	append_commit(lab, 10000);
	audit_head(lab->audit, ret_before);
	assert_int_equal(prune(lab, 3), 3);
	audit_head(lab->audit, &head);
	assert_in_range(head.first, 2, ret_before->id);
	assert_in_range(head.id, ret_before->id + 2, UINT64_MAX);
}

static void a_pruned_log_is_intact(void **state)
{
	struct lab *lab = *state;
	struct audit_head noted, anchor;

	fill_and_prune(lab, &noted);
	assert_intact(lab, &nothing);
	assert_intact(lab, &noted);
	/* What was noted when its record was there is proven by the record that dropped it. */
	audit_head(lab->audit, &anchor);
	anchor.id = anchor.first - 1;
	memcpy(anchor.hash, anchor.anchor, AUDITCHAIN_HASH);
	assert_intact(lab, &anchor);
	fill_and_prune(lab, &noted);
	lab_close(lab);
	lab_open(lab);
	append_commit(lab, 3);
	assert_intact(lab, &noted);
}

static void a_dropped_head_that_nothing_proves_is_not_found(void **state)
{
	struct lab *lab = *state;
	struct audit_head early, noted;

	append_commit(lab, 5);
	audit_head(lab->audit, &early);
	fill_and_prune(lab, &noted);
	assert_int_equal(verify(lab, &early), VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(lab->error, "record 5 is missing"));
}

static void retention_spares_the_newest(void **state)
{
	struct lab *lab = *state;
	struct audit_head head;

	append_commit(lab, 1000);
	assert_int_equal(prune(lab, 3), 0);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 1000);
	assert_int_equal(head.first, 1);
	assert_intact(lab, &head);
}

/* ---- attacks on the file, while no broker runs ---- */

static void attack(struct lab *lab, const char *sql)
{
	char *error = NULL;

	if (sqlite3_exec(store_db(lab->store), sql, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s: %s", sql, error);
	assert_in_range(sqlite3_changes(store_db(lab->store)), 1, 10000);
	lab_close(lab);
	lab_open(lab);
}

/* The newest row has to keep its hash for the broker to go on from. */
static const char *const attacks[] = {
	"UPDATE audit SET body = CAST(body || x'00' AS BLOB) WHERE id = (SELECT max(id) - 7 FROM "
	"audit)",
	"UPDATE audit SET body = x'' WHERE id = (SELECT max(id) - 7 FROM audit)",
	"UPDATE audit SET body = (SELECT body FROM audit ORDER BY id LIMIT 1) "
	"WHERE id = (SELECT max(id) - 7 FROM audit)",
	"UPDATE audit SET hash = zeroblob(32) WHERE id = (SELECT max(id) - 7 FROM audit)",
	"UPDATE audit SET hash = zeroblob(32) WHERE id = (SELECT max(id) FROM audit)",
	"UPDATE audit SET body = x'0801' WHERE id = (SELECT max(id) FROM audit)",
	"DELETE FROM audit WHERE id = (SELECT max(id) - 7 FROM audit)",
	"DELETE FROM audit WHERE id < (SELECT max(id) - 7 FROM audit)",
	"DELETE FROM audit WHERE id = (SELECT min(id) FROM audit)",
	"UPDATE audit SET id = id + 1 WHERE id = (SELECT max(id) FROM audit)",
	"INSERT INTO audit SELECT max(id) + 1, body, hash FROM audit",
	"UPDATE meta SET value = CASE substr(value, 1, 1) WHEN '0' THEN '1' ELSE '0' END || "
	"substr(value, 2) WHERE key = 'audit_anchor'",
};

static void attacks_are_found(struct lab *lab, bool pruned, const char *sql)
{
	struct audit_head noted = {0};

	if (pruned)
		fill_and_prune(lab, &noted);
	else
		append_commit(lab, 50);
	assert_intact(lab, &noted);
	attack(lab, sql);
	if (verify(lab, &nothing) == 0)
		fail_msg("this is not found: %s", sql);
}

static void each_attack_on_the_file_is_found(void **state)
{
	for (size_t i = 0; i < 2 * sizeof(attacks) / sizeof(attacks[0]); i++) {
		const char *sql = attacks[i / 2];
		void *lab;

		/* A whole log has no anchor. */
		if (i % 2 == 0 && strstr(sql, "audit_anchor"))
			continue;
		assert_int_equal(setup(&lab), 0);
		attacks_are_found(lab, i % 2, sql);
		assert_int_equal(teardown(&lab), 0);
	}
}

static void a_cut_is_found_by_who_noted_a_head(void **state)
{
	struct lab *lab = *state;
	struct audit_head noted;

	append_commit(lab, 50);
	audit_head(lab->audit, &noted);
	attack(lab, "DELETE FROM audit WHERE id > 45");
	assert_intact(lab, &nothing);
	assert_int_equal(verify(lab, &noted), VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(lab->error, "record 50 is missing"));
	/* The broker goes on from there: another record 50. */
	append_commit(lab, 10);
	assert_intact(lab, &nothing);
	assert_int_equal(verify(lab, &noted), VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(lab->error, "record 50 has another hash"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(what_is_appended_verifies),
		TEST(what_is_rolled_back_leaves_no_gap),
		TEST(a_pruned_log_is_intact),
		TEST(a_dropped_head_that_nothing_proves_is_not_found),
		TEST(retention_spares_the_newest),
		cmocka_unit_test(each_attack_on_the_file_is_found),
		TEST(a_cut_is_found_by_who_noted_a_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
