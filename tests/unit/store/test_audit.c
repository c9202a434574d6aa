/* SPDX-License-Identifier: Apache-2.0 */
/* The stored audit log, as its verification sees it: appended, rolled back, pruned, attacked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/store/audit.h"
#include "broker/store/store.h"
#include "proto/chain/auditchain.h"
#include "tests/support/scratch.h"
#include "tests/support/tamper.h"
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
	const struct store_options options = {
		.dir = lab->dir, .audit_bytes = 8 << 20, .strict = true};
	char error[256];

	if (store_open_with(&lab->store, &options, error, sizeof(error)))
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
	scratch_make(lab->dir);
	lab_open(lab);
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

/* What is committed can be read from here on, and the snapshot has it. */
static void settle(struct lab *lab)
{
	struct journal *journal = store_journal(lab->store);
	uint64_t all = journal_committed(journal);

	while (journal_drained(journal) < all) {
		journal_hurry(journal);
		store_turn(lab->store);
		usleep(100);
	}
}

static void save(struct lab *lab)
{
	uint64_t before = store_saved(lab->store);
	store_want_snapshot(lab->store);
	while (store_saved(lab->store) == before) {
		if (store_errand_begin(lab->store)) {
			store_errand_run(lab->store);
			store_errand_end(lab->store);
		}
		store_turn(lab->store);
		usleep(100);
	}
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
	settle(lab);
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

		assert_int_equal(
			audit_page(store_journal(lab->store), last, head.id, 1000, &page), 0);
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
	append_commit(lab, 3);
	append(lab, 5);
	store_rollback(lab->store);
	append_commit(lab, 4);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 7);
	assert_intact(lab, &head);
}

/* ---- retention ---- */

static uint64_t first_of(struct lab *lab)
{
	struct audit_head head;

	audit_head(lab->audit, &head);
	return head.first;
}

/* As if the log were too large, until nothing more may go; how often something went. */
static unsigned prune(struct lab *lab)
{
	struct journal *journal = store_journal(lab->store);
	struct journal_cut cut;
	unsigned n = 0;
	bool more;

	for (; journal_prunable(journal, 0, 0, store_saved(lab->store), &cut); n++) {
		assert_int_equal(audit_prune(lab->audit, 0, FOREVER, &more), 0);
		assert_true(more);
		/* A thread drops them. */
		while (first_of(lab) != cut.id + 1) {
			store_turn(lab->store);
			usleep(100);
		}
		settle(lab);
	}
	assert_int_equal(audit_prune(lab->audit, 0, FOREVER, &more), 0);
	assert_false(more);
	return n;
}

/* More than two segments of it, of which the oldest go. The head before that is left. */
static void fill_and_prune(struct lab *lab, struct audit_head *ret_before)
{
	struct audit_head head;

	for (unsigned i = 0; i < 60; i++)
		append_commit(lab, 1000);
	save(lab);
	audit_head(lab->audit, ret_before);
	assert_true(prune(lab) > 0);
	audit_head(lab->audit, &head);
	assert_in_range(head.first, 2, ret_before->id);
	assert_in_range(head.id, ret_before->id + 1, UINT64_MAX);
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
	assert_int_equal(prune(lab), 0);
	audit_head(lab->audit, &head);
	assert_int_equal(head.id, 1000);
	assert_int_equal(head.first, 1);
	assert_intact(lab, &head);
}

/* ---- attacks on the file, while no broker runs ---- */

static void attack(struct lab *lab, enum tamper tamper, uint64_t id)
{
	lab_close(lab);
	tamper_with(lab->dir, tamper, id);
	lab_open(lab);
}

static void attacks_are_found(struct lab *lab, bool pruned, enum tamper tamper)
{
	struct audit_head noted = {0}, head;

	if (pruned)
		fill_and_prune(lab, &noted);
	append_commit(lab, 50);
	assert_intact(lab, &noted);
	audit_head(lab->audit, &head);
	attack(lab, tamper, head.id - 7);
	if (verify(lab, &nothing) == 0)
		fail_msg("attack %d is not found", (int)tamper);
}

static void each_attack_on_the_file_is_found(void **state)
{
	for (unsigned i = 0; i < 2 * TAMPER_CUT; i++) {
		void *lab;

		assert_int_equal(setup(&lab), 0);
		attacks_are_found(lab, i % 2, (enum tamper)(i / 2));
		assert_int_equal(teardown(&lab), 0);
	}
}

/* The broker remembers the head. */
static void a_cut_is_found_by_who_noted_a_head(void **state)
{
	struct lab *lab = *state;
	struct audit_loss loss;
	struct audit_head noted;

	append_commit(lab, 50);
	audit_head(lab->audit, &noted);
	attack(lab, TAMPER_CUT, 45);
	assert_true(audit_lost(lab->audit, &loss));
	assert_int_equal(loss.id, 50);
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
