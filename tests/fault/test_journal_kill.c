/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 of a process that appends to a journal as fast as it can, at any moment, its start
 * and its recovery included: the next one finds all that was committed, and the chain holds.
 *
 *   test_journal_kill [--rounds N]     N kills; the default is for every day
 */
#include "tests/unit/journal/lab.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 40ul
#define ROUNDS_OF_ONE 20u /* with one journal, which else gets long */
#define DELAY_US 20000

static unsigned long rounds = ROUNDS;

/* What the child says; it outlives it. */
struct told {
	_Atomic uint64_t committed, synced;
};

static struct told *told;

static void batch(struct lab *lab)
{
	unsigned n = 1 + (unsigned)random() % 8;

	while (n--)
		if (!lab_append_one(lab))
			break;
	atomic_store(&told->committed, journal_committed(lab->journal));
	if (random() % 64 == 0)
		(void)journal_sync(lab->journal);
	journal_turn(lab->journal);
	atomic_store(&told->synced, journal_synced(lab->journal));
}

_Noreturn static void child(struct lab *lab)
{
	if (lab_try(lab) || journal_start(lab->journal, NULL, NULL, NULL))
		_exit(1);
	for (;;)
		batch(lab);
}

static void round_of(struct lab *lab)
{
	pid_t pid;
	int status;

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		srandom((unsigned)getpid());
		child(lab);
	}
	usleep((useconds_t)(random() % DELAY_US));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	lab_open(lab);
	assert_int_equal(journal_found(lab->journal)->dropped_bytes, 0);
	assert_int_equal(journal_found(lab->journal)->dropped_entries, 0);
	assert_false(journal_found(lab->journal)->ring_missing);
	assert_true(lab_replay(lab, 1) >= atomic_load(&told->committed));
	lab_verify(lab);
	lab_leave(lab);
}

static void test_kills(void **state)
{
	struct lab lab;

	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	srandom(1);
	for (unsigned long i = 0; i < rounds; i++) {
		if (i % ROUNDS_OF_ONE == 0) {
			if (i)
				lab_deinit(&lab);
			lab_init(&lab);
			lab.options.ring_bytes = 1u << 20;
			lab.options.segment_bytes = 1u << 20;
			memset(told, 0, sizeof(*told));
		}
		round_of(&lab);
	}
	lab_deinit(&lab);
	munmap(told, sizeof(*told));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills)};

	if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
		rounds = strtoul(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
