/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log while the broker serves: standard error is a pipe whose reader decides when it reads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/log.h"
#include "broker/log_writer.h"

#define RECORDS 20000u /* of 100 bytes and more: more than pipe and ring hold */
#define TEXT_MAX (4u << 20)

struct world {
	int err, pipe[2];
	pthread_t reader;
	char *text;
	size_t len;
};

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->text = calloc(1, TEXT_MAX);
	assert_non_null(world->text);
	assert_int_equal(pipe2(world->pipe, O_CLOEXEC), 0);
	world->err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	dup2(world->pipe[1], STDERR_FILENO);
	close(world->pipe[1]);
	log_setup(LOG_LEVEL_INFO, false);
	*state = world;
	return 0;
}

/* The end of the stream is when nobody has it as standard error any more. */
static void restore(struct world *world)
{
	dup2(world->err, STDERR_FILENO);
	close(world->err);
}

static int teardown(void **state)
{
	struct world *world = *state;

	free(world->text);
	free(world);
	return 0;
}

static void *read_all(void *arg)
{
	struct world *world = arg;
	ssize_t n;

	while ((n = read(world->pipe[0], world->text + world->len, TEXT_MAX - 1 - world->len)) > 0)
		world->len += (size_t)n;
	close(world->pipe[0]);
	return NULL;
}

static void log_many(void)
{
	for (unsigned i = 0; i < RECORDS; i++)
		log_info("a record that is long enough to fill a ring", LOG_INT("number", i));
}

/* Every line is a record with the next number, or says how many are missing. */
static unsigned check_lines(char *text, unsigned *ret_lost)
{
	unsigned next = 0, lost = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		const char *number = strstr(line, "number="), *count = strstr(line, "count=");

		if (number) {
			assert_int_equal(strtoul(number + 7, NULL, 10), next);
			next++;
		} else {
			assert_non_null(strstr(line, "records were lost"));
			assert_non_null(count);
			lost += (unsigned)strtoul(count + 6, NULL, 10);
			next += (unsigned)strtoul(count + 6, NULL, 10);
		}
	}
	*ret_lost = lost;
	return next;
}

static void what_is_lost_is_counted_where_it_is_missing(void **state)
{
	struct world *world = *state;
	unsigned lost;

	log_start();
	log_many();
	assert_int_equal(pthread_create(&world->reader, NULL, read_all, world), 0);
	log_stop();
	restore(world);
	pthread_join(world->reader, NULL);
	assert_int_equal(check_lines(world->text, &lost), RECORDS);
	assert_true(lost > 0);
}

static void a_reader_that_never_reads_does_not_stop_the_end(void **state)
{
	struct world *world = *state;

	log_start();
	log_many();
	log_stop();
	/* Dropped, or it would wait. */
	log_info("too late");
	close(world->pipe[0]);
	restore(world);
}

static void before_and_after_a_record_is_there_at_once(void **state)
{
	struct world *world = *state;

	log_info("before");
	assert_true(read(world->pipe[0], world->text, TEXT_MAX - 1) > 0);
	assert_non_null(strstr(world->text, "before"));
	log_start();
	log_info("between");
	log_stop();
	log_info("after");
	restore(world);
	read_all(world);
	assert_non_null(strstr(world->text, "between"));
	assert_non_null(strstr(world->text, "after"));
}

int main(void)
{
	/* The one that leaves the writer stuck is the last. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			before_and_after_a_record_is_there_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_lost_is_counted_where_it_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_reader_that_never_reads_does_not_stop_the_end, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
