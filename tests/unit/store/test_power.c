/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that loses its power: what reached the disk is what was synced. This program stands
 * between the journal, SQLite and the kernel for fsync() and fdatasync(), copies each file at that
 * moment, and opens the copies after the cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/store/state.h"
#include "tests/support/scratch.h"

static char dir[64], disk[64]; /* what the broker sees, and what survives */
static unsigned syncs;
static atomic_bool off; /* what is synced now does not survive */

/* These are found before those of libc. */
__attribute__((visibility("default"))) int fsync(int fd);
__attribute__((visibility("default"))) int fdatasync(int fd);

static void copy(const char *from, const char *to)
{
	char buffer[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	close(in);
	close(out);
}

static int synced(int fd)
{
	char link[64], path[PATH_MAX], to[PATH_MAX + 64];
	struct stat st;
	ssize_t n;

	if (atomic_load(&off))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	/* A directory is synced too, for the names in it; and SQLite's journal, which is empty
	 * again before anything is given. */
	if (strncmp(path, dir, strlen(dir)) != 0 || path[strlen(dir)] != '/' ||
		strstr(path, "-journal") || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	__atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST);
	snprintf(to, sizeof(to), "%s/%s", disk, path + strlen(dir) + 1);
	copy(path, to);
	return 0;
}

int fsync(int fd)
{
	return synced(fd);
}

int fdatasync(int fd)
{
	return synced(fd);
}

static struct store *start(void)
{
	char error[256];
	struct store *store = NULL;

	if (store_open(&store, dir, error, sizeof(error)))
		fail_msg("%s", error);
	return store;
}

/* The power goes and comes back: only what was synced is there, in another boot, and nothing of
 * what was in memory. */
static struct store *cut(struct store *store)
{
	sqlite3 *db = NULL;
	char path[PATH_MAX];

	/* Closing cleanly would sync; the copies are from before that. */
	atomic_store(&off, true);
	store_close(store);
	atomic_store(&off, false);
	scratch_run("rm -r %s/*", dir);
	scratch_run("cp -r %s/* %s/", disk, dir);
	snprintf(path, sizeof(path), "%s/vmsig.db", dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE meta SET value = 'another' WHERE key = 'boot_id'",
				 NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
	return start();
}

/* What the journal's thread was asked for, and does soon. */
static void await_sync(struct store *store)
{
	uint64_t number = journal_committed(store->journal);

	while (journal_synced(store->journal) < number)
		usleep(100);
}

static uint32_t epoch_of(struct store *store, const char *name, uint32_t *ret_id)
{
	bool is_new = !tables_endpoint_named(&store->tables, name);
	struct store_endpoint endpoint = {0};

	assert_int_equal(store_endpoint(store, name, &endpoint), 0);
	*ret_id = endpoint.id;
	if (is_new)
		await_sync(store);
	return endpoint.epoch;
}

static void persist(struct store *store, uint32_t id, uint32_t epoch)
{
	assert_int_equal(store_persist_epoch(store, id, epoch), 0);
	if (!store->unsynced)
		await_sync(store);
}

static void epochs_rise_over_power_cuts(void **state)
{
	static const unsigned resets[] = {0, 1, 3, STORE_SYNC_EVERY - 1, STORE_SYNC_EVERY,
		STORE_SYNC_EVERY + 1, 3 * STORE_SKIP, 1};
	struct store *store = start();
	uint32_t a, b, id, epoch = epoch_of(store, "a", &a), other = epoch_of(store, "b", &b);

	for (size_t i = 0; i < sizeof(resets) / sizeof(resets[0]); i++) {
		unsigned before = syncs;

		for (unsigned n = 0; n < resets[i]; n++)
			persist(store, a, ++epoch);
		persist(store, b, ++other);
		/* Some, or the test would see nothing; not all, or every reset would wait. */
		assert_true(syncs - before <= 2 + resets[i] / 1000);
		store = cut(store);
		assert_true(epoch_of(store, "a", &id) >= epoch);
		assert_int_equal(id, a);
		epoch = epoch_of(store, "a", &id);
		assert_true(epoch_of(store, "b", &id) >= other);
		assert_int_equal(id, b);
		other = epoch_of(store, "b", &id);
	}
	assert_true(syncs > 0);
	store_close(store);
}

/* Its id must not go to another one, though nothing was ever stored after it. */
static void a_new_endpoint_survives_a_power_cut(void **state)
{
	struct store *store = start();
	uint32_t id, other;

	epoch_of(store, "a", &id);
	epoch_of(store, "late", &id);
	store = cut(store);
	epoch_of(store, "later", &other);
	assert_true(other > id);
	epoch_of(store, "late", &other);
	assert_int_equal(other, id);
	store_close(store);
}

static int setup(void **state)
{
	strcpy(dir, "/tmp/vmsig-power-XXXXXX");
	strcpy(disk, "/tmp/vmsig-disk-XXXXXX");
	if (!mkdtemp(dir) || !mkdtemp(disk))
		return -1;
	scratch_run("mkdir %s/journal", disk);
	return 0;
}

static int teardown(void **state)
{
	scratch_run("rm -r %s %s", dir, disk);
	return 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(epochs_rise_over_power_cuts),
		T(a_new_endpoint_survives_a_power_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
