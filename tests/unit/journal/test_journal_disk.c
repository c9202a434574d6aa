/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal on a disk that hangs, is full or fails: the linker sends the thread's calls
 * through here. The loop, which is this test, never waits.
 */
#include "tests/unit/journal/lab.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/journal/entry.h"
#include "broker/journal/state.h"
#include "vmsig/vmsig_error.h"

#define LIMIT 60000u /* milliseconds: a hang, not a moment */

ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t at);
int __real_fdatasync(int fd);
int __real_fallocate(int fd, int mode, off_t at, off_t len);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at);
int __wrap_fdatasync(int fd);
int __wrap_fallocate(int fd, int mode, off_t at, off_t len);

enum way { WORKS, HANGS, FAILS, PACED };

struct call {
	atomic_int way;
	atomic_int error;
	atomic_uint calls;
};

static struct call writes, syncs, allocations;
static atomic_uint permits; /* of calls that are PACED, one each */
static _Thread_local bool is_loop;

static void take_permit(void)
{
	unsigned n = atomic_load(&permits);

	while (!n || !atomic_compare_exchange_weak(&permits, &n, n - 1)) {
		usleep(100);
		n = atomic_load(&permits);
	}
}

/* Whether the call fails, with errno. */
static bool passes(struct call *call)
{
	if (is_loop)
		return true;
	atomic_fetch_add(&call->calls, 1);
	while (atomic_load(&call->way) == HANGS)
		usleep(1000);
	if (atomic_load(&call->way) == PACED)
		take_permit();
	if (atomic_load(&call->way) != FAILS)
		return true;
	errno = atomic_load(&call->error);
	return false;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at)
{
	return passes(&writes) ? __real_pwrite(fd, data, len, at) : -1;
}

int __wrap_fdatasync(int fd)
{
	return passes(&syncs) ? __real_fdatasync(fd) : -1;
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t len)
{
	return passes(&allocations) ? __real_fallocate(fd, mode, at, len) : -1;
}

static void set(struct call *call, enum way way, int error)
{
	atomic_store(&call->error, error);
	atomic_store(&call->way, way);
}

static int setup(void **state)
{
	static struct lab lab;

	is_loop = true;
	lab_init(&lab);
	lab_open(&lab);
	lab_start(&lab);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	set(&writes, WORKS, 0);
	atomic_store(&permits, 1);
	set(&syncs, WORKS, 0);
	set(&allocations, WORKS, 0);
	lab_deinit(*state);
	atomic_store(&permits, 0);
	return 0;
}

static void await_trouble(struct lab *lab, bool wanted)
{
	for (unsigned i = 0; (lab->trouble[0] != 0) != wanted; i++) {
		if (i == LIMIT)
			fail_msg("trouble: '%s'", lab->trouble);
		usleep(1000);
		journal_turn(lab->journal);
	}
}

/* As work would: asks before, and stops when it is refused. */
static unsigned append_until_refused(struct lab *lab, unsigned most)
{
	unsigned n = 0;

	while (n < most && !journal_refusal(lab->journal, LAB_LEN_MAX)) {
		lab_append(lab, 1);
		n++;
	}
	return n;
}

static void await_room(struct lab *lab)
{
	for (unsigned i = 0; journal_refusal(lab->journal, LAB_LEN_MAX); i++) {
		if (i == LIMIT)
			fail_msg("refused: %s", journal_refusal(lab->journal, LAB_LEN_MAX));
		usleep(1000);
		journal_turn(lab->journal);
	}
}

/* What was begun before goes on, from the reserve. */
static void check_reserve(struct lab *lab)
{
	for (unsigned i = 0; i < 10; i++)
		assert_true(lab_append_one(lab));
}

static void check_end(struct lab *lab)
{
	uint64_t newest = journal_committed(lab->journal);

	lab_await_drained(lab);
	lab_verify(lab);
	lab_close(lab);
	lab_open(lab);
	assert_true(journal_found(lab->journal)->closed);
	assert_int_equal(lab_replay(lab, 1), newest);
}

static void test_write_that_hangs(void **state)
{
	struct lab *lab = *state;

	set(&writes, HANGS, 0);
	assert_true(append_until_refused(lab, UINT32_MAX) > 100);
	check_reserve(lab);
	await_trouble(lab, true);
	assert_non_null(strstr(lab->trouble, "does not answer"));
	set(&writes, WORKS, 0);
	await_trouble(lab, false);
	await_room(lab);
	lab_append(lab, 10);
	check_end(lab);
}

static void test_sync_that_hangs(void **state)
{
	struct lab *lab = *state;
	uint64_t number;

	lab_append(lab, 5);
	lab_await_drained(lab);
	set(&syncs, HANGS, 0);
	number = journal_sync(lab->journal);
	assert_true(append_until_refused(lab, UINT32_MAX) > 100);
	check_reserve(lab);
	journal_turn(lab->journal);
	assert_int_equal(lab->synced, 0);
	set(&syncs, WORKS, 0);
	await_room(lab);
	for (unsigned i = 0; lab->synced_number < number && i < LIMIT; i++) {
		usleep(1000);
		journal_turn(lab->journal);
	}
	assert_true(lab->synced_number >= number);
	assert_int_equal(lab->synced_result, 0);
	check_end(lab);
}

/* One that never comes back does not hang the exit, and the next broker has everything. */
static void test_close_beside_a_call_that_hangs(void **state)
{
	struct lab *lab = *state;
	struct journal *hung = lab->journal;
	uint64_t newest;

	set(&writes, HANGS, 0);
	lab_append(lab, 20);
	newest = journal_committed(hung);
	assert_int_equal(journal_close(hung, 50), -ETIMEDOUT);
	assert_null(journal_free(hung));
	assert_non_null(journal_refusal(hung, 0));
	/* What it would have left to the next broker, had the process ended. */
	assert_int_equal(lab_try(lab), VMSIG_ERR_BUSY);
	set(&writes, WORKS, 0);
	assert_int_equal(journal_close(hung, LIMIT), 0);
	journal_free(hung);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), newest);
}

/* Not for want of a moment in which the thread could have done something about it. */
static bool is_refused_for_good(struct lab *lab)
{
	if (!journal_refusal(lab->journal, LAB_LEN_MAX))
		return false;
	lab_await_drained(lab);
	return journal_refusal(lab->journal, LAB_LEN_MAX) != NULL && lab->trouble[0];
}

static void test_full_disk(void **state)
{
	struct lab *lab = *state;
	unsigned calls, n = 0;

	set(&allocations, FAILS, ENOSPC);
	/* With what is allocated it goes on. */
	for (unsigned i = 0; !is_refused_for_good(lab); i++) {
		assert_true(i < LIMIT);
		n += append_until_refused(lab, 64);
		usleep(1000);
	}
	assert_true(n > 100);
	lab_await_drained(lab);
	await_trouble(lab, true);
	assert_non_null(strstr(journal_refusal(lab->journal, LAB_LEN_MAX), "No space left"));
	check_reserve(lab);
	/* It is tried again now and then. */
	calls = atomic_load(&allocations.calls);
	usleep(100000);
	assert_true(atomic_load(&allocations.calls) - calls < 20);
	set(&allocations, WORKS, 0);
	await_room(lab);
	await_trouble(lab, false);
	lab_append(lab, 10);
	check_end(lab);
}

static void test_write_that_fails(void **state)
{
	struct lab *lab = *state;

	set(&writes, FAILS, EIO);
	assert_true(append_until_refused(lab, UINT32_MAX) > 100);
	await_trouble(lab, true);
	assert_non_null(strstr(lab->trouble, "cannot write"));
	check_reserve(lab);
	set(&writes, WORKS, 0);
	await_room(lab);
	check_end(lab);
}

static void fail_a_sync(struct lab *lab)
{
	lab_append(lab, 10);
	lab_await_drained(lab);
	set(&syncs, FAILS, EIO);
	assert_int_equal(journal_sync(lab->journal), 10);
	for (unsigned i = 0; !lab->synced && i < LIMIT; i++) {
		usleep(1000);
		journal_turn(lab->journal);
	}
	set(&syncs, WORKS, 0);
	assert_int_equal(lab->synced_result, -EIO);
	assert_int_equal(lab->synced_number, 10);
}

static void test_failed_sync_is_final(void **state)
{
	struct lab *lab = *state;
	unsigned calls;

	fail_a_sync(lab);
	await_trouble(lab, true);
	assert_non_null(strstr(journal_refusal(lab->journal, 0), "reloaded or started anew"));
	check_reserve(lab);
	/* Later syncs fail as well, without asking the disk. */
	calls = atomic_load(&syncs.calls);
	lab->synced = 0;
	assert_int_equal(journal_sync(lab->journal), 20);
	journal_turn(lab->journal);
	assert_int_equal(lab->synced, 1);
	assert_int_equal(lab->synced_result, -EIO);
	assert_int_equal(atomic_load(&syncs.calls), calls);
	assert_int_equal(journal_synced(lab->journal), 0);

	journal_reopen(lab->journal);
	await_room(lab);
	assert_int_equal(journal_sync_failed(lab->journal), 0);
	lab_await_synced(lab);
	assert_int_equal(lab->synced_number, 20);
	await_trouble(lab, false);
	check_end(lab);
}

static void await_calls(const struct call *call, unsigned calls, const struct call *other)
{
	for (unsigned i = 0; atomic_load(&call->calls) < calls && !atomic_load(&other->calls);
		i++) {
		if (i == LIMIT)
			fail_msg("%u calls of %u", atomic_load(&call->calls), calls);
		usleep(1000);
	}
}

/* Whoever writes all the time does not keep those waiting who asked for a sync. */
static void test_sync_beside_a_flood(void **state)
{
	const unsigned flood = 100; /* less than a segment, whose end is a sync of its own */
	struct lab *lab = *state;
	unsigned n = 0;

	atomic_store(&writes.calls, 0);
	atomic_store(&syncs.calls, 0);
	atomic_store(&permits, 0);
	set(&writes, PACED, 0);
	lab_append(lab, 1);
	(void)journal_sync(lab->journal);
	/* While the thread writes one entry, the next one comes: the ring is never empty. */
	for (; n < flood && !atomic_load(&syncs.calls); n++) {
		await_calls(&writes, n + 1, &syncs);
		lab_append(lab, 1);
		atomic_fetch_add(&permits, 1);
	}
	assert_true(n < flood);
	set(&writes, WORKS, 0);
	atomic_fetch_add(&permits, 1);
	lab_await_synced(lab);
	check_end(lab);
}

/* A race by intent, as with any memory that goes astray. */
__attribute__((no_sanitize_thread)) static void damage(uint8_t *at, size_t len)
{
	volatile uint8_t *byte = at;

	for (size_t i = 0; i < len; i++)
		byte[i] = 0xff;
}

/* Memory that has gone astray is no matter of the disk: a reload does not mend it, and is not
 * waited for. */
static void test_damaged_ring_is_final(void **state)
{
	struct lab *lab = *state;
	struct ring *ring = &lab->journal->ring;
	struct drain *drain = &lab->journal->drain;
	bool reopens;

	set(&writes, FAILS, EIO);
	lab_append(lab, 3);
	await_trouble(lab, true);
	damage(ring_at(ring, atomic_load(&ring->state->tail)), ENTRY_ALIGN);
	set(&writes, WORKS, 0);
	for (unsigned i = 0; !journal_sync_failed(lab->journal); i++) {
		assert_true(i < LIMIT);
		usleep(1000);
	}
	assert_int_equal(journal_sync_failed(lab->journal), -EBADMSG);
	journal_reopen(lab->journal);
	pthread_mutex_lock(&drain->lock);
	reopens = drain->orders.reopen;
	pthread_mutex_unlock(&drain->lock);
	assert_false(reopens);
	assert_int_equal(journal_close(lab->journal, LIMIT), VMSIG_ERR_IO);
	lab->journal = journal_free(lab->journal);
}

/* The broker after it does not trust what the kernel shows either. */
static void test_failed_sync_and_a_restart(void **state)
{
	struct lab *lab = *state;

	fail_a_sync(lab);
	check_reserve(lab);
	assert_int_equal(journal_close(lab->journal, LIMIT), VMSIG_ERR_IO);
	lab->journal = journal_free(lab->journal);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 20);
	lab_start(lab);
	lab_append(lab, 10);
	check_end(lab);
}

/* A journal that cannot be begun refuses until it can. */
static void test_no_room_at_the_start(void **state)
{
	struct lab *lab = *state;

	lab_close(lab);
	lab_deinit(lab);
	lab_init(lab);
	lab_open(lab);
	is_loop = false; /* the first segment is made here */
	set(&allocations, FAILS, ENOSPC);
	lab_start(lab);
	is_loop = true;
	assert_non_null(strstr(journal_refusal(lab->journal, LAB_LEN_MAX), "No space left"));
	lab_append(lab, 10);
	set(&allocations, WORKS, 0);
	await_room(lab);
	check_end(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_that_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_that_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_close_beside_a_call_that_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_that_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_sync_is_final, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_beside_a_flood, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_ring_is_final, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_sync_and_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room_at_the_start, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
