/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints and epochs across restarts, losses and damage: an epoch never comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/journal/journal.h"
#include "broker/store/store.h"
#include "tests/support/scratch.h"
#include "vmsig/vmsig_error.h"

static bool broken; /* the journal takes nothing */

int __real_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);
int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body);

int __wrap_journal_append(struct journal *journal, enum journal_type type,
	const struct journal_keys *keys, size_t len, uint8_t **ret_body)
{
	return broken ? VMSIG_ERR_IO : __real_journal_append(journal, type, keys, len, ret_body);
}

struct lab {
	char dir[64];
	char error[256];
	struct store *store;
};

static void lab_open(struct lab *lab)
{
	if (store_open(&lab->store, lab->dir, lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
}

static void lab_reopen(struct lab *lab)
{
	lab->store = store_close(lab->store);
	broken = false;
	lab_open(lab);
}

/* The snapshot has all that is known. */
static void lab_save(struct lab *lab)
{
	uint64_t all = journal_committed(store_journal(lab->store));

	store_want_snapshot(lab->store);
	while (store_saved(lab->store) < all) {
		if (store_errand_begin(lab->store)) {
			store_errand_run(lab->store);
			store_errand_end(lab->store);
		}
		store_turn(lab->store);
		usleep(100);
	}
}

/* Changes the snapshot while no broker runs. */
static void lab_exec(struct lab *lab, const char *sql)
{
	char path[PATH_MAX];
	sqlite3 *db;

	lab->store = store_close(lab->store);
	snprintf(path, sizeof(path), "%s/vmsig.db", lab->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	strcpy(lab->dir, "/tmp/vmsig-store-XXXXXX");
	scratch_make(lab->dir);
	lab_open(lab);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	store_close(lab->store);
	broken = false;
	scratch_remove(lab->dir);
	free(lab);
	return 0;
}

static struct store_endpoint row(struct lab *lab, const char *name)
{
	struct store_endpoint endpoint = {0};

	assert_int_equal(store_endpoint(lab->store, name, &endpoint), 0);
	return endpoint;
}

static void ids_are_stable_and_epochs_survive(void **state)
{
	struct lab *lab = *state;
	uint32_t a = row(lab, "a").id, b = row(lab, "b").id;

	assert_true(a != 0 && a != b);
	assert_int_equal(row(lab, "a").epoch, 0);
	assert_int_equal(store_persist_epoch(lab->store, a, 7), 0);
	assert_int_equal(store_persist_session(lab->store, a, 7, "key"), 0);
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").id, a);
	assert_int_equal(row(lab, "b").id, b);
	assert_int_equal(row(lab, "a").epoch, 7);
	assert_string_equal(row(lab, "a").session, "key");
}

static void epochs_never_fall_and_a_new_one_voids_the_fingerprint(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id;

	assert_int_equal(store_persist_epoch(lab->store, id, 9), 0);
	assert_int_equal(store_persist_session(lab->store, id, 9, "key"), 0);
	assert_int_equal(store_persist_epoch(lab->store, id, 3), 0);
	assert_int_equal(row(lab, "a").epoch, 9);
	assert_string_equal(row(lab, "a").session, "");
	/* A fingerprint of an epoch that is over is not kept. */
	assert_int_equal(store_persist_session(lab->store, id, 8, "old"), 0);
	assert_string_equal(row(lab, "a").session, "");
}

static void a_removed_endpoints_id_is_not_used_again(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id;

	lab_save(lab);
	lab_exec(lab, "DELETE FROM endpoint");
	lab_open(lab);
	assert_true(row(lab, "b").id > id);
}

static void another_boot_skips_epochs_ahead(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id, epoch;

	assert_int_equal(store_persist_epoch(lab->store, id, 5), 0);
	assert_int_equal(store_persist_session(lab->store, id, 5, "key"), 0);
	lab_exec(lab, "UPDATE meta SET value = 'another' WHERE key = 'boot_id'");
	lab_open(lab);
	epoch = row(lab, "a").epoch;
	assert_true(epoch >= 5 + STORE_SKIP);
	assert_string_equal(row(lab, "a").session, "");
	assert_int_equal(row(lab, "new").epoch, 0);
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").epoch, epoch);
}

/* A journal that is full: the number must not come back after a restart. */
static void a_lost_commit_skips_epochs_ahead(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id;

	assert_int_equal(store_persist_epoch(lab->store, id, 5), 0);
	broken = true;
	assert_int_equal(store_persist_epoch(lab->store, id, 6), VMSIG_ERR_IO);
	assert_true(strlen(store_error(lab->store)) > 0);
	lab_reopen(lab);
	assert_true(row(lab, "a").epoch > 6);
}

/* However many were lost, and also the first one of all. */
static void the_number_that_was_lost_is_kept(void **state)
{
	struct lab *lab = *state;
	uint32_t a = row(lab, "a").id, b = row(lab, "b").id;

	assert_int_equal(store_persist_epoch(lab->store, a, 5), 0);
	broken = true;
	assert_int_equal(store_persist_epoch(lab->store, b, 1), VMSIG_ERR_IO);
	assert_int_equal(store_persist_epoch(lab->store, a, 9 * STORE_SKIP), VMSIG_ERR_IO);
	assert_int_equal(store_persist_epoch(lab->store, b, 2), VMSIG_ERR_IO);
	lab_reopen(lab);
	assert_true(row(lab, "a").epoch >= 9 * STORE_SKIP);
	assert_true(row(lab, "b").epoch >= 2);
	/* Once. */
	a = row(lab, "a").epoch;
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").epoch, a);
}

static void lab_note(struct lab *lab, const char *note)
{
	char path[PATH_MAX];
	int fd;

	lab->store = store_close(lab->store);
	snprintf(path, sizeof(path), "%s/lock", lab->dir);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, note, strlen(note)), strlen(note));
	close(fd);
	lab_open(lab);
}

static void a_damaged_note_skips_epochs_ahead(void **state)
{
	static const char *const notes[] = {
		"1", "9999999999\n", "4294967295\n", "-000000001\n", "rubbish, and more of it"};
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id, epoch = 5;

	assert_int_equal(store_persist_epoch(lab->store, id, epoch), 0);
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		lab_note(lab, notes[i]);
		assert_true(row(lab, "a").epoch >= epoch + STORE_SKIP);
		epoch = row(lab, "a").epoch;
	}
}

/* A disk that is full: what happens is kept in memory until there is room, and nothing is lost. */
static void a_full_disk_is_survived(void **state)
{
	struct lab *lab = *state;
	struct rlimit before, full = {.rlim_cur = 4096};
	uint32_t id = row(lab, "a").id;
	struct store_endpoint other;

	assert_int_equal(store_persist_epoch(lab->store, id, 5), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	full.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	assert_int_equal(store_persist_epoch(lab->store, id, 6), 0);
	assert_int_equal(row(lab, "a").epoch, 6);
	other = row(lab, "new");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(store_persist_epoch(lab->store, id, 7), 0);
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").epoch, 7);
	assert_int_equal(row(lab, "new").id, other.id);
}

static void a_directory_of_others_is_refused(void **state)
{
	struct lab *lab = *state;
	struct store *second = NULL;
	struct stat st;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/vmsig.db", lab->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	lab->store = store_close(lab->store);
	assert_int_equal(chmod(lab->dir, 0770), 0);
	assert_int_equal(store_open(&second, lab->dir, lab->error, sizeof(lab->error)), -EPERM);
	assert_non_null(strstr(lab->error, "0770"));
	assert_null(second);
}

static void a_directory_has_one_owner(void **state)
{
	struct lab *lab = *state;
	struct store *second = NULL;

	assert_int_equal(
		store_open(&second, lab->dir, lab->error, sizeof(lab->error)), VMSIG_ERR_BUSY);
	assert_non_null(strstr(lab->error, lab->dir));
	assert_null(second);
}

static void a_newer_schema_is_refused(void **state)
{
	struct lab *lab = *state;
	struct store *second = NULL;

	lab_exec(lab, "PRAGMA user_version = 99");
	assert_int_equal(store_open(&second, lab->dir, lab->error, sizeof(lab->error)),
		VMSIG_ERR_UNSUPPORTED);
	assert_non_null(strstr(lab->error, "99"));
}

static void a_damaged_row_is_refused(void **state)
{
	struct lab *lab = *state;
	struct store_endpoint endpoint = {0};
	char sql[256];

	row(lab, "a");
	lab_save(lab);
	snprintf(sql, sizeof(sql), "UPDATE endpoint SET session = '%0200d'", 0);
	lab_exec(lab, sql);
	lab_open(lab);
	assert_int_equal(store_endpoint(lab->store, "a", &endpoint), VMSIG_ERR_INTERNAL);
}

static void a_damaged_file_is_refused(void **state)
{
	struct lab *lab = *state;
	struct store *second = NULL;
	char path[PATH_MAX];
	int fd;

	lab->store = store_close(lab->store);
	snprintf(path, sizeof(path), "%s/vmsig.db", lab->dir);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "this is no database, far from it", 32), 32);
	close(fd);
	assert_int_equal(
		store_open(&second, lab->dir, lab->error, sizeof(lab->error)), VMSIG_ERR_IO);
	assert_non_null(strstr(lab->error, "vmsig.db"));
}

static void a_snapshot_is_taken_beside_the_owner(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id;

	assert_int_equal(store_persist_epoch(lab->store, id, 2), 0);
	lab_save(lab);
	assert_int_equal(store_persist_epoch(lab->store, id, 3), 0);
	assert_int_equal(row(lab, "a").epoch, 3);
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").epoch, 3);
}

/* Somebody has the snapshot open, and writes to it: it is older then, and all is known. */
static void a_snapshot_that_cannot_be_written_loses_nothing(void **state)
{
	struct lab *lab = *state;
	uint32_t id = row(lab, "a").id;
	char path[PATH_MAX];
	sqlite3 *db;

	lab_save(lab);
	assert_int_equal(store_persist_epoch(lab->store, id, 7), 0);
	snprintf(path, sizeof(path), "%s/vmsig.db", lab->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	store_want_snapshot(lab->store);
	for (unsigned tried = 0; tried < 2; usleep(1000)) {
		store_turn(lab->store);
		if (!store_errand_begin(lab->store))
			continue;
		store_errand_run(lab->store);
		store_errand_end(lab->store);
		tried++;
	}
	sqlite3_close(db);
	assert_int_equal(store_persist_epoch(lab->store, id, 8), 0);
	lab_reopen(lab);
	assert_int_equal(row(lab, "a").epoch, 8);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(ids_are_stable_and_epochs_survive),
		T(epochs_never_fall_and_a_new_one_voids_the_fingerprint),
		T(a_removed_endpoints_id_is_not_used_again),
		T(another_boot_skips_epochs_ahead),
		T(a_lost_commit_skips_epochs_ahead),
		T(the_number_that_was_lost_is_kept),
		T(a_damaged_note_skips_epochs_ahead),
		T(a_full_disk_is_survived),
		T(a_directory_of_others_is_refused),
		T(a_directory_has_one_owner),
		T(a_newer_schema_is_refused),
		T(a_damaged_row_is_refused),
		T(a_damaged_file_is_refused),
		T(a_snapshot_is_taken_beside_the_owner),
		T(a_snapshot_that_cannot_be_written_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
