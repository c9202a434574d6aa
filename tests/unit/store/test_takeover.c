/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state directory of the version before the journal (tests/data/state: a broker that was
 * killed, with two leases, writes under both, and 22 audit records): its log goes on in the
 * journal, whole and proven, and what it knew is known.
 */
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

#include "broker/journal/shared.h"
#include "broker/store/audit.h"
#include "broker/store/lease_store.h"
#include "broker/store/ledger.h"
#include "broker/store/store.h"
#include "proto/chain/auditchain.h"
#include "tests/support/scratch.h"
#include "vmsig/vmsig_error.h"

#define RECORDS 22u
#define HEAD "2e0970d53b25a6bc8d6e36a7d65f3b553a05944dcff7085db117eaf9651af9a6"
#define LAST_TOKEN 1795729546565835u

struct lab {
	char dir[64];
	char error[512];
	struct store *store;
	struct audit *audit;
};

static int lab_try(struct lab *lab)
{
	int r = store_open(&lab->store, lab->dir, lab->error, sizeof(lab->error));

	if (!r)
		assert_int_equal(audit_new(&lab->audit, lab->store), 0);
	return r;
}

static void lab_open(struct lab *lab)
{
	if (lab_try(lab))
		fail_msg("%s", lab->error);
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
	strcpy(lab->dir, "/tmp/vmsig-takeover-XXXXXX");
	scratch_make(lab->dir);
	scratch_run("cp " STATE_BEFORE "/* %s/ && chmod -R u+w %s", lab->dir, lab->dir);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	lab_close(lab);
	scratch_remove(lab->dir);
	free(lab);
	return 0;
}

/* Changes the database before it is taken over. */
static void before(struct lab *lab, const char *sql)
{
	char path[PATH_MAX], *error = NULL;
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/vmsig.db", lab->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s: %s", sql, error);
	sqlite3_close(db);
}

/* As if the host had not been booted since. */
static void same_boot(struct lab *lab)
{
	char boot_id[SHARED_BOOT_ID_MAX], sql[256];

	assert_int_equal(shared_boot_id(boot_id), 0);
	snprintf(sql, sizeof(sql), "UPDATE meta SET value = '%s' WHERE key = 'boot_id'", boot_id);
	before(lab, sql);
}

static void append(struct lab *lab, unsigned n)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	struct journal *journal = store_journal(lab->store);

	record.kind = VMSIG__AUDIT_RECORD__KIND__START;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(audit_append(lab->audit, &record), 0);
	assert_int_equal(store_commit(lab->store), 0);
	while (journal_drained(journal) < journal_committed(journal)) {
		journal_hurry(journal);
		usleep(100);
	}
}

/* The whole log, with a head that somebody had noted; how many records it has. */
static int verify(struct lab *lab, uint64_t id, const char *hex, size_t *ret_n)
{
	uint8_t hash[AUDITCHAIN_HASH] = {0};
	struct auditchain chain;
	struct audit_head head;
	struct audit_page page;
	int r;

	for (size_t i = 0; i < AUDITCHAIN_HASH && hex; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &hash[i]), 1);
	audit_head(lab->audit, &head);
	assert_int_equal(auditchain_init(&chain), 0);
	auditchain_start(&chain, head.first - 1, head.anchor);
	auditchain_note(&chain, id, hash);
	assert_int_equal(
		audit_page(store_journal(lab->store), head.first - 1, head.id, 0, &page), 0);
	*ret_n = page.n;
	for (size_t i = 0; i < page.n; i++)
		(void)!auditchain_add(&chain, page.rows[i].id, page.rows[i].body.data,
			page.rows[i].body.len, page.rows[i].hash.data);
	audit_page_free(&page);
	r = auditchain_finish(&chain, &id, hash);
	snprintf(lab->error, sizeof(lab->error), "%s", auditchain_error(&chain));
	auditchain_deinit(&chain);
	return r;
}

static void the_log_goes_on(void **state)
{
	struct lab *lab = *state;
	struct audit_loss loss;
	size_t n;

	lab_open(lab);
	assert_int_equal(store_taken_over(lab->store), RECORDS);
	assert_false(audit_lost(lab->audit, &loss));
	if (verify(lab, RECORDS, HEAD, &n))
		fail_msg("%s", lab->error);
	assert_int_equal(n, RECORDS);
	append(lab, 3);
	lab_close(lab);
	/* Once. */
	lab_open(lab);
	assert_int_equal(store_taken_over(lab->store), 0);
	if (verify(lab, RECORDS, HEAD, &n))
		fail_msg("%s", lab->error);
	assert_int_equal(n, RECORDS + 3);
}

static void a_pruned_log_begins_where_it_did(void **state)
{
	struct lab *lab = *state;
	struct audit_head head;
	char hex[2 * STORE_HASH + 1] = "";
	size_t n;

	before(lab, "UPDATE meta SET value = (SELECT lower(hex(hash)) FROM audit WHERE id = 7) "
		    "WHERE key = 'audit_anchor'; DELETE FROM audit WHERE id <= 7");
	lab_open(lab);
	audit_head(lab->audit, &head);
	assert_int_equal(head.first, 8);
	assert_int_equal(head.id, RECORDS);
	/* No record of it says so; a head that was noted does. */
	assert_int_equal(verify(lab, RECORDS, HEAD, &n), VMSIG_ERR_BAD_REQUEST);
	for (size_t i = 0; i < STORE_HASH; i++)
		snprintf(hex + 2 * i, 3, "%02x", head.anchor[i]);
	if (verify(lab, 7, hex, &n))
		fail_msg("%s", lab->error);
	assert_int_equal(n, RECORDS - 7);
}

static unsigned nleases;

static int count_lease(void *arg, const struct lease_view *lease)
{
	assert_int_equal(lease->id, 2);
	assert_string_equal(lease->tenant, "alice");
	nleases++;
	return 0;
}

static void check_answers(struct lab *lab)
{
	const struct ledger_key key = {.lease = 2, .writer = 1, .sequence = 3};
	struct ledger_entry entry = {0};
	struct ledger *ledger;
	uint64_t highest;

	assert_int_equal(ledger_new(&ledger, lab->store), 0);
	assert_int_equal(ledger_find(ledger, &key, &entry), 0);
	assert_true(entry.intent > 0);
	free(entry.reply);
	assert_int_equal(ledger_highest(ledger, 1, 1, &highest), 0);
	assert_int_equal(highest, 6);
	ledger_free(ledger);
}

/* A lease that is held goes on, and its holder is answered. */
static void leases_and_answers_are_known(void **state)
{
	static const struct lease_store_events events;
	struct lab *lab = *state;
	struct lease_store *leases;
	uint64_t next = 0;

	same_boot(lab);
	lab_open(lab);
	assert_int_equal(lease_store_new(&leases, lab->store, &events, NULL), 0);
	nleases = 0;
	assert_int_equal(leases->ops->load(leases, count_lease, NULL), 0);
	assert_int_equal(nleases, 1);
	assert_int_equal(leases->ops->next_id(leases, &next), 0);
	assert_true(next > 2);
	leases->ops->free(leases);
	check_answers(lab);
}

static void epochs_rise_and_tokens_do(void **state)
{
	struct lab *lab = *state;
	struct store_endpoint row;
	char tenant[LEASE_NAME_MAX + 1];
	uint64_t token;
	static const struct lease_store_events events;
	struct lease_store *leases;

	/* The committed directory is a copy: what it says of epochs may be of another moment. */
	lab_open(lab);
	assert_int_equal(store_endpoint(lab->store, "w1", &row), 0);
	assert_int_equal(row.id, 1);
	assert_true(row.epoch >= 3 + STORE_SKIP);
	assert_int_equal(store_endpoint(lab->store, "w2", &row), 0);
	assert_int_equal(row.id, 2);
	assert_true(row.epoch >= 7 + STORE_SKIP);
	assert_int_equal(lease_store_new(&leases, lab->store, &events, NULL), 0);
	assert_int_equal(leases->ops->find(leases, 2, tenant, &token), 0);
	assert_int_equal(token, LAST_TOKEN);
	leases->ops->free(leases);
}

/* What does not fit is not chained anew as if it did, and stays where it was. */
static void a_log_that_was_tampered_with_is_not_mended(void **state)
{
	struct lab *lab = *state;
	size_t n;

	before(lab, "UPDATE audit SET body = CAST(body || x'00' AS BLOB) WHERE id = 5");
	lab_open(lab);
	assert_int_equal(verify(lab, 0, NULL, &n), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(n, RECORDS - 5);
	lab_close(lab);
	before(lab, "SELECT 1 / (count(*) = 22) FROM audit_before");
}

/* An interrupted one begins anew; a database that was restored beside a journal takes nothing. */
static void it_is_done_once(void **state)
{
	struct lab *lab = *state;
	size_t n;

	scratch_run("mkdir %s/journal && touch %s/takeover", lab->dir, lab->dir);
	scratch_run("echo rubbish > %s/journal/0000000000000001.seg", lab->dir);
	lab_open(lab);
	if (verify(lab, RECORDS, HEAD, &n))
		fail_msg("%s", lab->error);
	lab_close(lab);
	scratch_run("cp " STATE_BEFORE "/* %s/ && chmod -R u+w %s", lab->dir, lab->dir);
	assert_int_equal(lab_try(lab), VMSIG_ERR_INTERNAL);
	assert_non_null(strstr(lab->error, "move one of them away"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_log_goes_on),
		T(a_pruned_log_begins_where_it_did),
		T(leases_and_answers_are_known),
		T(epochs_rise_and_tokens_do),
		T(a_log_that_was_tampered_with_is_not_mended),
		T(it_is_done_once),
	};

	return cmocka_run_group_tests_name("takeover", tests, NULL, NULL);
}
