/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state directory that is not what the broker left: restored from a backup, emptied, damaged,
 * without the end of its log. No epoch comes back, and what the audit log lost is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/store/audit.h"
#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

static const char *const files[] = {"vmsig.db", "vmsig.db-wal", "vmsig.db-shm", "lock", "reserve"};

struct lab {
	char dir[64], backup[64], run[80];
	char error[512];
	struct store *store;
	struct audit *audit;
};

static void path_of(const char *dir, const char *file, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", dir, file);
}

static void remove_all(const char *dir)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		path_of(dir, files[i], path);
		unlink(path);
	}
}

/* As `cp`: a file that is there keeps its inode. */
static void copy(const char *from, const char *to)
{
	char buffer[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t n;

	if (in < 0) {
		unlink(to);
		return;
	}
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(out >= 0);
	while ((n = read(in, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	close(in);
	close(out);
}

static void copy_all(const char *from, const char *to)
{
	char source[PATH_MAX], target[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		path_of(from, files[i], source);
		path_of(to, files[i], target);
		copy(source, target);
	}
}

static void lab_open(struct lab *lab)
{
	if (store_open_beside(&lab->store, lab->dir, lab->run, lab->error, sizeof(lab->error)))
		fail_msg("%s", lab->error);
	if (!store_unusable(lab->store))
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
	strcpy(lab->dir, "/tmp/vmsig-state-XXXXXX");
	strcpy(lab->backup, "/tmp/vmsig-backup-XXXXXX");
	assert_non_null(mkdtemp(lab->dir));
	assert_non_null(mkdtemp(lab->backup));
	snprintf(lab->run, sizeof(lab->run), "%s.mark", lab->dir);
	lab_open(lab);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	lab_close(lab);
	remove_all(lab->dir);
	remove_all(lab->backup);
	unlink(lab->run);
	assert_int_equal(rmdir(lab->dir), 0);
	assert_int_equal(rmdir(lab->backup), 0);
	free(lab);
	return 0;
}

static struct store_endpoint row(struct lab *lab, const char *name)
{
	struct store_endpoint endpoint = {0};

	assert_int_equal(store_endpoint(lab->store, name, &endpoint), 0);
	return endpoint;
}

/* Epoch 5 in the session "key", which is backed up, and on to 9 of "a" and 2 of "later". */
static void history(struct lab *lab)
{
	uint32_t id = row(lab, "a").id;

	assert_int_equal(store_persist_epoch(lab->store, id, 5), 0);
	assert_int_equal(store_persist_session(lab->store, id, 5, "key"), 0);
	lab_close(lab);
	copy_all(lab->dir, lab->backup);
	lab_open(lab);
	assert_int_equal(row(lab, "a").epoch, 5);
	assert_string_equal(row(lab, "a").session, "key");
	for (uint32_t epoch = 6; epoch <= 9; epoch++)
		assert_int_equal(store_persist_epoch(lab->store, id, epoch), 0);
	assert_int_equal(store_persist_session(lab->store, id, 9, "key"), 0);
	id = row(lab, "later").id;
	assert_int_equal(store_persist_epoch(lab->store, id, 2), 0);
}

/* `later` may have any number above what it had. */
static void nothing_comes_back(struct lab *lab)
{
	assert_true(row(lab, "a").epoch >= 9);
	assert_string_equal(row(lab, "a").session, "");
	assert_true(row(lab, "later").epoch >= 2);
}

static void restored_in_place(struct lab *lab)
{
	lab_close(lab);
	copy_all(lab->backup, lab->dir);
}

static void restored_without_the_mark(struct lab *lab)
{
	lab_close(lab);
	remove_all(lab->dir);
	copy_all(lab->backup, lab->dir);
	assert_int_equal(unlink(lab->run), 0);
}

static void only_the_database_restored(struct lab *lab)
{
	char from[PATH_MAX], to[PATH_MAX];

	lab_close(lab);
	assert_int_equal(unlink(lab->run), 0);
	path_of(lab->backup, "vmsig.db", from);
	path_of(lab->dir, "vmsig.db", to);
	copy(from, to);
}

static void emptied(struct lab *lab)
{
	lab_close(lab);
	remove_all(lab->dir);
}

static void without_the_end_of_its_log(struct lab *lab)
{
	char wal[PATH_MAX], kept[PATH_MAX];

	/* A clean end empties the log; a crash does not. */
	path_of(lab->dir, "vmsig.db-wal", wal);
	path_of(lab->backup, "vmsig.db-wal", kept);
	copy(wal, kept);
	lab_close(lab);
	copy_all(lab->backup, lab->dir);
	assert_int_equal(truncate(wal, 4096), 0);
}

static void epochs_do_not_come_back(void **state)
{
	static void (*const losses[])(struct lab *) = {restored_in_place, restored_without_the_mark,
		only_the_database_restored, emptied, without_the_end_of_its_log};

	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		void *lab;
		uint32_t epoch;

		assert_int_equal(setup(&lab), 0);
		history(lab);
		losses[i](lab);
		lab_open(lab);
		nothing_comes_back(lab);
		/* Once: from here on all is as usual. */
		epoch = row(lab, "a").epoch;
		assert_int_equal(store_persist_session(
					 ((struct lab *)lab)->store, row(lab, "a").id, epoch, "k"),
			0);
		lab_close(lab);
		lab_open(lab);
		assert_int_equal(row(lab, "a").epoch, epoch);
		assert_string_equal(row(lab, "a").session, "k");
		assert_int_equal(teardown(&lab), 0);
	}
}

/* The same backup twice. */
static void a_backup_can_be_restored_again(void **state)
{
	struct lab *lab = *state;
	uint32_t epoch;

	history(lab);
	restored_in_place(lab);
	lab_open(lab);
	epoch = row(lab, "a").epoch + 1;
	assert_int_equal(store_persist_epoch(lab->store, row(lab, "a").id, epoch), 0);
	restored_in_place(lab);
	lab_open(lab);
	assert_true(row(lab, "a").epoch >= epoch);
}

static void nothing_lost_skips_nothing(void **state)
{
	struct lab *lab = *state;

	history(lab);
	lab_close(lab);
	lab_open(lab);
	assert_int_equal(row(lab, "a").epoch, 9);
	assert_string_equal(row(lab, "a").session, "key");
	assert_int_equal(row(lab, "later").epoch, 2);
	assert_int_equal(row(lab, "new").epoch, 0);
}

/* ---- without a database ---- */

static void damage(struct lab *lab, off_t at)
{
	char path[PATH_MAX], rubbish[8192];
	int fd;

	memset(rubbish, 0x5a, sizeof(rubbish));
	path_of(lab->dir, "vmsig.db", path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, rubbish, sizeof(rubbish), at), sizeof(rubbish));
	close(fd);
}

/* Wherever it is damaged: the read plane has epochs, and the sentence says what to do. */
static void a_damaged_database_is_found_and_done_without(void **state)
{
	static const off_t places[] = {0, 4096, 8192, 16384};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct lab *lab;
		void *made;

		assert_int_equal(setup(&made), 0);
		lab = made;
		history(lab);
		lab_close(lab);
		damage(lab, places[i]);
		lab_open(lab);
		assert_non_null(store_unusable(lab->store));
		assert_non_null(strstr(lab->error, "vmsig.db"));
		nothing_comes_back(lab);
		assert_int_equal(teardown(&made), 0);
	}
}

static void the_database_comes_back(void **state)
{
	struct lab *lab = *state;
	uint32_t epoch, id;

	history(lab);
	lab_close(lab);
	damage(lab, 0);
	lab_open(lab);
	id = row(lab, "a").id;
	epoch = row(lab, "a").epoch + 7;
	assert_int_equal(store_persist_epoch(lab->store, id, epoch), 0);
	assert_int_not_equal(store_retry(lab->store), 0);
	assert_non_null(store_unusable(lab->store));
	assert_int_equal(row(lab, "a").epoch, epoch);
	copy_all(lab->backup, lab->dir);
	assert_int_equal(store_retry(lab->store), 0);
	assert_null(store_unusable(lab->store));
	assert_true(row(lab, "a").epoch >= epoch);
	lab_close(lab);
	lab_open(lab);
	assert_true(row(lab, "a").epoch >= epoch);
}

/* No folder can be made where a file is. */
static void a_directory_that_cannot_be_used_is_done_without(void **state)
{
	struct lab *lab = *state;
	uint32_t epoch;

	history(lab);
	lab_close(lab);
	strcat(lab->dir, "/lock");
	lab_open(lab);
	assert_non_null(store_unusable(lab->store));
	nothing_comes_back(lab);
	epoch = row(lab, "a").epoch + 1;
	assert_int_equal(store_persist_epoch(lab->store, row(lab, "a").id, epoch), 0);
	lab_close(lab);
	*strrchr(lab->dir, '/') = '\0';
	lab_open(lab);
	assert_null(store_unusable(lab->store));
	assert_true(row(lab, "a").epoch >= epoch);
}

/* ---- the audit log ---- */

static void append(struct lab *lab, unsigned n)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__START;
	assert_int_equal(store_begin(lab->store), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(audit_append(lab->audit, &record), 0);
	assert_int_equal(store_commit(lab->store), 0);
	audit_committed(lab->audit);
}

static void lost_records_are_told(void **state)
{
	struct lab *lab = *state;
	struct audit_loss loss;
	struct audit_head head;

	append(lab, 10);
	lab_close(lab);
	copy_all(lab->dir, lab->backup);
	lab_open(lab);
	assert_false(audit_lost(lab->audit, &loss));
	append(lab, 3);
	audit_head(lab->audit, &head);
	restored_in_place(lab);
	lab_open(lab);
	assert_true(audit_lost(lab->audit, &loss));
	assert_int_equal(loss.id, 13);
	assert_memory_equal(loss.hash, head.hash, AUDIT_HASH);
	/* Others take their place; the loss is told once. */
	append(lab, 5);
	lab_close(lab);
	lab_open(lab);
	assert_false(audit_lost(lab->audit, &loss));
	/* As many as there were, but others. */
	audit_head(lab->audit, &head);
	restored_in_place(lab);
	lab_open(lab);
	append(lab, 0);
	assert_true(audit_lost(lab->audit, &loss));
	assert_memory_equal(loss.hash, head.hash, AUDIT_HASH);
}

/* ---- room ---- */

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static off_t size_of(struct lab *lab, const char *file)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(lab->dir, file, path);
	return stat(path, &st) < 0 ? 0 : st.st_size;
}

/* A checkpoint whenever the store asks for one keeps the log where it is. */
static void the_log_keeps_its_size(void **state)
{
	struct lab *lab = *state;
	size_t fds = count_fds();
	unsigned checkpoints = 0;

	for (unsigned i = 0; checkpoints < 4; i++) {
		bool complete = false;

		append(lab, 200);
		assert_true(i < 10000);
		assert_int_equal(store_pressure(lab->store), STORE_PRESSURE_NONE);
		if (!store_wants_checkpoint(lab->store))
			continue;
		assert_int_equal(store_checkpoint(lab->store, &complete), 0);
		assert_true(complete);
		store_checkpointed(lab->store, complete);
		assert_false(store_wants_checkpoint(lab->store));
		assert_int_equal(count_fds(), fds);
		checkpoints++;
	}
	assert_true(size_of(lab, "vmsig.db-wal") < 10 << 20);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(epochs_do_not_come_back),
		T(a_backup_can_be_restored_again),
		T(nothing_lost_skips_nothing),
		cmocka_unit_test(a_damaged_database_is_found_and_done_without),
		T(the_database_comes_back),
		T(a_directory_that_cannot_be_used_is_done_without),
		T(lost_records_are_told),
		T(the_log_keeps_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
