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
#include "broker/store/state.h"
#include "tests/support/scratch.h"
#include "vmsig/vmsig_error.h"

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
	scratch_run("rm -rf %s/*", dir);
}

/* As `cp`: a file that is there keeps its inode; one that the copy does not have goes. */
static void copy_all(const char *from, const char *to)
{
	scratch_run(
		"cd %s && find . -type f | while read f; do [ -e %s/$f ] || rm $f; done", to, from);
	scratch_run("cp -r %s/. %s/", from, to);
}

static void lab_open(struct lab *lab)
{
	const struct store_options options = {
		.dir = lab->dir, .run = lab->run, .audit_bytes = 8 << 20};

	if (store_open_with(&lab->store, &options, lab->error, sizeof(lab->error)))
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
	scratch_make(lab->dir);
	scratch_make(lab->backup);
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

static void only_the_journal_restored(struct lab *lab)
{
	lab_close(lab);
	assert_int_equal(unlink(lab->run), 0);
	scratch_run("rm -r %s/journal && cp -r %s/journal %s/", lab->dir, lab->backup, lab->dir);
}

static void emptied(struct lab *lab)
{
	lab_close(lab);
	remove_all(lab->dir);
}

static void without_its_journal(struct lab *lab)
{
	lab_close(lab);
	scratch_run("rm -r %s/journal", lab->dir);
}

/* Where the entries end, which is not where the file does. */
static off_t end_of(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t buffer[4096];
	off_t at = 0, end = 0;
	ssize_t n;

	assert_true(fd >= 0);
	for (; (n = pread(fd, buffer, sizeof(buffer), at)) > 0; at += n) {
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i])
				end = at + i + 1;
		}
	}
	close(fd);
	return end;
}

/* Something else is there instead, as after a power cut. */
static void without_the_end_of_its_journal(struct lab *lab)
{
	uint8_t rubbish[100];
	char path[PATH_MAX];
	off_t end;
	int fd;

	lab_close(lab);
	assert_int_equal(unlink(lab->run), 0);
	path_of(lab->dir, "journal/0000000000000001.seg", path);
	end = end_of(path);
	memset(rubbish, 0x5a, sizeof(rubbish));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0 && end > 4096 + 200);
	assert_int_equal(pwrite(fd, rubbish, sizeof(rubbish), end - 100), sizeof(rubbish));
	close(fd);
}

static void epochs_do_not_come_back(void **state)
{
	static void (*const losses[])(struct lab *) = {restored_in_place, restored_without_the_mark,
		only_the_journal_restored, emptied, without_its_journal,
		without_the_end_of_its_journal};

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

/* The snapshot is older then, and the journal has all that came behind it. */
static void an_older_snapshot_loses_nothing(void **state)
{
	struct lab *lab = *state;

	history(lab);
	lab_close(lab);
	scratch_run("cp %s/vmsig.db %s/", lab->backup, lab->dir);
	lab_open(lab);
	assert_int_equal(row(lab, "a").epoch, 9);
	assert_string_equal(row(lab, "a").session, "key");
	assert_int_equal(row(lab, "later").epoch, 2);
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

/* One try to use the directory. */
static void retry(struct lab *lab)
{
	bool tried = false;

	while (!tried) {
		usleep(1000);
		if (!store_errand_begin(lab->store))
			continue;
		store_errand_run(lab->store);
		tried = lab->store->errand.retry;
		store_errand_end(lab->store);
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
	retry(lab);
	assert_false(store_errand_opened(lab->store));
	assert_non_null(store_unusable(lab->store));
	assert_int_equal(row(lab, "a").epoch, epoch);
	copy_all(lab->backup, lab->dir);
	retry(lab);
	assert_true(store_errand_opened(lab->store));
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

static void settle(struct lab *lab)
{
	struct journal *journal = store_journal(lab->store);

	while (journal_drained(journal) < journal_committed(journal)) {
		journal_hurry(journal);
		store_turn(lab->store);
		usleep(100);
	}
}

static void append(struct lab *lab, unsigned n)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__START;
	assert_int_equal(store_begin(lab->store), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(audit_append(lab->audit, &record), 0);
	assert_int_equal(store_commit(lab->store), 0);
	settle(lab);
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

/* Of the journal's files. */
static uint64_t journal_size(struct lab *lab)
{
	char path[PATH_MAX], file[PATH_MAX + 300];
	struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;
	DIR *dir;

	path_of(lab->dir, "journal", path);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (stat(file, &st) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
	}
	closedir(dir);
	return bytes;
}

/* Errands when the store asks for them, and retention, keep the journal where it is. */
static void the_journal_keeps_its_size(void **state)
{
	struct lab *lab = *state;
	size_t fds = count_fds();

	for (unsigned i = 0; i < 800; i++) {
		bool more = false;

		append(lab, 200);
		assert_int_equal(audit_prune(lab->audit, 8 << 20, UINT64_MAX, &more), 0);
		if (store_errand_hurries(lab->store) && store_errand_begin(lab->store)) {
			store_errand_run(lab->store);
			store_errand_end(lab->store);
		}
		assert_true(journal_size(lab) < 24 << 20);
		/* A segment more, while one is made ready. */
		assert_true(count_fds() <= fds + 2);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(epochs_do_not_come_back),
		T(a_backup_can_be_restored_again),
		T(an_older_snapshot_loses_nothing),
		T(nothing_lost_skips_nothing),
		cmocka_unit_test(a_damaged_database_is_found_and_done_without),
		T(the_database_comes_back),
		T(a_directory_that_cannot_be_used_is_done_without),
		T(lost_records_are_told),
		T(the_journal_keeps_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
