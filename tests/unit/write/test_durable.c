/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `durability: power`: what waits for the disk, and what does not. This program stands between
 * the broker and the kernel for fdatasync(): a disk that does not answer until it is let, or that
 * fails.
 */
#include "tests/unit/write/lab.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "vmsig/vmsig_error.h"

#define ADDR 0x3000u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool hangs, fails;
static unsigned begun;

__attribute__((visibility("default"))) int fdatasync(int fd);

int fdatasync(int fd)
{
	int r;

	pthread_mutex_lock(&lock);
	begun++;
	pthread_cond_broadcast(&moved);
	while (hangs)
		pthread_cond_wait(&moved, &lock);
	r = fails ? -1 : 0;
	pthread_mutex_unlock(&lock);
	errno = r ? EIO : 0;
	return r;
}

static void disk(bool hang, bool fail)
{
	pthread_mutex_lock(&lock);
	hangs = hang;
	fails = fail;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

/* Taken before what is to begin the next one: the pool does not wait for who asks. */
static unsigned syncs(void)
{
	unsigned now;

	pthread_mutex_lock(&lock);
	now = begun;
	pthread_mutex_unlock(&lock);
	return now;
}

/* The disk is busy with another one than `before`. */
static unsigned await_sync(struct lab *lab, unsigned before)
{
	unsigned now = before;

	while (now == before) {
		lab_turn(lab);
		now = syncs();
	}
	return now;
}

static int setup(void **state)
{
	int r = lab_setup(state);
	struct lab *lab = *state;

	disk(false, false);
	lab->config.audit.power = 1;
	desk_shell_reload(lab->shell, &lab->config);
	return r;
}

static int teardown(void **state)
{
	disk(false, false);
	return lab_teardown(state);
}

/* The loop does: a turn comes back while the disk does not. */
static void a_grant_waits_for_the_disk(void **state)
{
	struct lab *lab = *state;
	unsigned before = syncs();

	disk(true, false);
	assert_int_equal(lab_acquire(lab, true), 0);
	await_sync(lab, before);
	for (int i = 0; i < 100; i++)
		lab_turn(lab);
	assert_int_equal(lab->nevents, 0);
	disk(false, false);
	lab_await(lab, 1);
	assert_int_equal(lab->events[0].kind, LAB_GRANTED);
}

static void bytes_wait_for_their_intent(void **state)
{
	struct lab *lab = *state;
	unsigned before;
	uint64_t id;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	id = lab_write(lab, 1, ADDR, 7);
	await_sync(lab, before);
	for (int i = 0; i < 100; i++)
		lab_turn(lab);
	assert_int_equal(lab_word(lab, ADDR), 0);
	assert_int_equal(lab->nevents, 1);
	disk(false, false);
	lab_await(lab, 2);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, 0);
	assert_int_equal(lab_word(lab, ADDR), 7);
}

/* Those of meanwhile share one sync, and keep their order; the release stays behind. */
static void what_comes_meanwhile_shares_the_next_sync(void **state)
{
	struct lab *lab = *state;
	unsigned before, written = 0;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	lab_write(lab, 1, ADDR, 1);
	before = await_sync(lab, before);
	for (uint64_t i = 2; i <= 50; i++) {
		lab_write(lab, i, ADDR, i);
		lab_turn(lab);
	}
	assert_int_equal(lab_release(lab), 0);
	for (int i = 0; i < 10; i++)
		lab_turn(lab);
	assert_int_equal(lab_word(lab, ADDR), 0);
	disk(false, false);
	/* The grant, fifty writes, the release and the end. */
	lab_await(lab, 1 + 50 + 2);
	assert_int_equal(lab_word(lab, ADDR), 50);
	for (size_t i = 0; i < lab->nevents; i++)
		written += lab->events[i].kind == LAB_WRITTEN && lab->events[i].code == 0;
	assert_int_equal(written, 50);
	assert_true(syncs() <= before + 3);
}

/* A slow disk lets many go at once: they do not have a turn of the loop to themselves. */
static void what_the_disk_let_go_is_done_in_several_rounds(void **state)
{
	struct lab *lab = *state;
	unsigned before;
	size_t told;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	for (uint64_t i = 1; i <= 500; i++)
		lab_write(lab, i, ADDR, i);
	while (!desk_delay(lab->desk, lab_now()))
		lab_turn(lab);
	await_sync(lab, before);
	disk(false, false);
	while (lab->nevents < 1 + 500) {
		told = lab->nevents;
		lab_turn(lab);
		assert_in_range(lab->nevents - told, 0, 100);
	}
	assert_int_equal(lab_word(lab, ADDR), 500);
}

/* A policy that does not wait any more lets nothing pass what still does. */
static void a_new_policy_keeps_the_order(void **state)
{
	struct lab *lab = *state;
	struct config lax = lab->config;
	unsigned before;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	lab_write(lab, 1, ADDR, 1);
	await_sync(lab, before);
	lax.audit.power = 0;
	desk_shell_reload(lab->shell, &lax);
	lab_write(lab, 2, ADDR, 2);
	for (int i = 0; i < 10; i++)
		lab_turn(lab);
	assert_int_equal(lab_word(lab, ADDR), 0);
	disk(false, false);
	lab_await(lab, 3);
	assert_int_equal(lab_word(lab, ADDR), 2);
	/* And from here on nobody waits. */
	disk(true, false);
	lab_write(lab, 3, ADDR, 3);
	lab_await(lab, 4);
	assert_int_equal(lab_word(lab, ADDR), 3);
	disk(false, false);
	desk_shell_reload(lab->shell, &lab->config);
}

static void a_sync_that_failed_is_final(void **state)
{
	struct lab *lab = *state;
	uint64_t id, later;

	lab_lease(lab);
	disk(false, true);
	id = lab_write(lab, 1, ADDR, 1);
	lab_await(lab, 2);
	/* Its intent may be there after a restart: the number is used up. */
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).code, VMSIG_ERR_IO);
	assert_int_equal(lab_told(lab, LAB_WRITTEN, id).written, 0);
	/* The kernel has forgotten what it lost: another try would find nothing wrong. */
	disk(false, false);
	later = lab_write(lab, 2, ADDR, 2);
	lab_await(lab, 3);
	assert_int_equal(lab_told(lab, LAB_REJECTED, later).code, VMSIG_ERR_IO);
	assert_int_equal(lab_word(lab, ADDR), 0);
}

static void a_grant_that_is_not_on_the_disk_is_taken_back(void **state)
{
	struct lab *lab = *state;

	disk(false, true);
	assert_int_equal(lab_acquire(lab, true), 0);
	lab_await(lab, 1);
	assert_int_not_equal(lab->events[0].kind, LAB_GRANTED);
}

static bool closed;

static void on_closed(void *arg)
{
	closed = true;
}

/* What waits then is dropped: the next broker knows that it never began. */
static void it_ends_though_the_disk_hangs(void **state)
{
	struct lab *lab = *state;
	unsigned before;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	lab_write(lab, 1, ADDR, 1);
	await_sync(lab, before);
	desk_operator_close(lab->desk, lab_now(), &lab->op);
	memset(&lab->op, 0, sizeof(lab->op));
	desk_shell_close(lab->shell, NULL, NULL);
	assert_int_equal(lab_word(lab, ADDR), 0);
	disk(false, false);
}

/* The release that waited behind them is nobody's any more either. */
static void it_ends_though_a_release_is_in_line(void **state)
{
	struct lab *lab = *state;
	unsigned before;

	lab_lease(lab);
	before = syncs();
	disk(true, false);
	lab_write(lab, 1, ADDR, 1);
	await_sync(lab, before);
	assert_int_equal(lab_release(lab), 0);
	lab_write(lab, 2, ADDR, 2);
	desk_operator_close(lab->desk, lab_now(), &lab->op);
	memset(&lab->op, 0, sizeof(lab->op));
	closed = false;
	desk_shell_close(lab->shell, on_closed, NULL);
	for (int i = 0; i < 4; i++)
		lab_turn(lab);
	assert_true(closed);
	assert_int_equal(lab_word(lab, ADDR), 0);
	disk(false, false);
}

/* It is granted, and nobody knows yet: who gives up waiting gives it back. */
static void a_request_that_was_granted_unseen_is_withdrawn(void **state)
{
	struct lab *lab = *state;
	uint64_t cursor = 0;
	struct lease_view view;
	unsigned before = syncs();
	bool later;

	disk(true, false);
	assert_int_equal(lab_acquire(lab, true), 0);
	await_sync(lab, before);
	assert_true(desk_lease_next(lab->desk, &cursor, &view));
	assert_int_equal(desk_release(lab->desk, lab_now(), &lab->op, 7, view.id, 0, &later), 0);
	assert_true(later);
	disk(false, false);
	lab_await(lab, 2);
	assert_int_equal(lab_count(lab, LAB_ENDED, view.id), 1);
	assert_int_equal(lab_count(lab, LAB_RELEASED, 7), 1);
	assert_int_equal(lab_count(lab, LAB_GRANTED, view.id), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_grant_waits_for_the_disk),
		TEST(bytes_wait_for_their_intent),
		TEST(what_comes_meanwhile_shares_the_next_sync),
		TEST(what_the_disk_let_go_is_done_in_several_rounds),
		TEST(a_new_policy_keeps_the_order),
		TEST(a_sync_that_failed_is_final),
		TEST(a_grant_that_is_not_on_the_disk_is_taken_back),
		TEST(it_ends_though_the_disk_hangs),
		TEST(it_ends_though_a_release_is_in_line),
		TEST(a_request_that_was_granted_unseen_is_withdrawn),
	};

	return cmocka_run_group_tests_name("durable", tests, NULL, NULL);
}
