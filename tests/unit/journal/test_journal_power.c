/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal finds after the power went, or somebody was at its files. */
#include "tests/unit/journal/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/journal/crc32c.h"
#include "broker/journal/segment.h"
#include "vmsig/vmsig_error.h"

static void test_power_cut_takes_the_ring(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 10);
	lab_close(lab);
	lab_open(lab);
	lab_append(lab, 10);
	lab_leave(lab);
	lab_boot(lab);
	lab_open(lab);
	assert_true(journal_found(lab->journal)->power_cut);
	assert_false(journal_found(lab->journal)->ring_missing);
	assert_int_equal(lab_replay(lab, 1), 10);
	lab_append(lab, 1);
	assert_int_equal(lab_replay(lab, 1), 11);
}

static void test_ring_that_is_gone(void **state)
{
	struct lab *lab = *state;
	char command[128];

	lab_open(lab);
	lab_append(lab, 10);
	lab_leave(lab);
	snprintf(command, sizeof(command), "rm %s/*", lab->run);
	assert_int_equal(system(command), 0);
	lab_open(lab);
	assert_true(journal_found(lab->journal)->ring_missing);
	assert_false(journal_found(lab->journal)->power_cut);
	assert_int_equal(lab_replay(lab, 1), 0);
}

/* Memory of a broker that was killed and whose state directory was removed. */
static void test_memory_that_nobody_asks_for(void **state)
{
	struct lab *lab = *state;
	char ring[512] = "", command[256];
	FILE *note;

	lab->options.run_dir = NULL;
	lab_open(lab);
	lab_append(lab, 1);
	lab_leave(lab);
	snprintf(command, sizeof(command), "%s/journal/ring.where", lab->state);
	note = fopen(command, "r");
	assert_non_null(note);
	assert_int_equal(fscanf(note, "vmsig-shared 1 %*s %511s", ring), 1);
	fclose(note);
	assert_non_null(strstr(ring, "/dev/shm/vmsig-ring-"));
	assert_int_equal(access(ring, F_OK), 0);
	snprintf(command, sizeof(command), "rm -r %s/journal", lab->state);
	assert_int_equal(system(command), 0);
	lab_open(lab);
	assert_int_not_equal(access(ring, F_OK), 0);
	lab_start(lab);
	lab_close(lab);
}

/* Where others could remove it, the ring is not put. */
static void test_folder_of_others(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(chmod(lab->run, 0777), 0);
	lab_open(lab);
	assert_int_equal(rmdir(lab->run), 0);
	assert_int_equal(mkdir(lab->run, 0700), 0);
	lab_append(lab, 3);
	lab_leave(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 3);
	lab_start(lab);
	lab_close(lab);
}

static void copy_state(const struct lab *lab, const char *from, const char *to)
{
	char command[256];

	snprintf(command, sizeof(command), "cp -a %s/%s %s/%s", lab->dir, from, lab->dir, to);
	assert_int_equal(system(command), 0);
}

/* A copy of the state directory has a note that names the original's ring. */
static void test_copy_does_not_take_the_ring(void **state)
{
	struct lab *lab = *state, copy = {0};

	lab_open(lab);
	lab_append(lab, 10);
	copy_state(lab, "state", "copy");
	copy = *lab;
	copy.journal = NULL;
	snprintf(copy.state, sizeof(copy.state), "%s/copy", lab->dir);
	copy.options.state_dir = copy.state;
	lab_open(&copy);
	assert_true(journal_found(copy.journal)->ring_missing);
	assert_int_equal(lab_replay(&copy, 1), 0);
	lab_leave(&copy);
	/* Two brokers never use one ring. */
	assert_int_equal(lab_replay(lab, 1), 10);
	copy = *lab;
	assert_int_equal(lab_try(&copy), VMSIG_ERR_BUSY);
	assert_true(copy.error[0]);
	lab_leave(lab);
	lab_open(lab);
	assert_int_equal(lab_replay(lab, 1), 10);
}

/* Segments from a backup are behind the ring of the same boot. */
static void test_ring_that_does_not_go_on(void **state)
{
	struct lab *lab = *state;
	char command[256];

	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 10);
	lab_close(lab);
	copy_state(lab, "state", "backup");
	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 10);
	lab_close(lab);
	lab_open(lab);
	lab_append(lab, 10);
	lab_leave(lab);
	snprintf(command, sizeof(command), "cp %s/backup/journal/*.seg %s/journal/", lab->dir,
		lab->state);
	assert_int_equal(system(command), 0);
	lab_open(lab);
	assert_int_equal(journal_found(lab->journal)->dropped_entries, 10);
	assert_int_equal(lab_replay(lab, 1), 10);
	lab_append(lab, 5);
	lab_start(lab);
	lab_await_drained(lab);
	lab_verify(lab);
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void test_damage_before_the_end_is_told(void **state)
{
	struct lab *lab = *state;

	lab_open(lab);
	lab_start(lab);
	lab_append_all(lab, LAB_MANY);
	lab_close(lab);
	flip(lab_segment(lab, 1), 9000);
	lab_open(lab);
	assert_int_equal(journal_replay(lab->journal, 0, lab_ignore, NULL), VMSIG_ERR_INTERNAL);
}

static void test_newer_version(void **state)
{
	struct lab *lab = *state;
	uint32_t version = SEGMENT_VERSION + 1, sum;
	uint8_t header[96];
	int fd;

	lab_open(lab);
	lab_start(lab);
	lab_append(lab, 3);
	lab_close(lab);
	fd = open(lab_segment(lab, 1), O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	memcpy(header + 8, &version, sizeof(version));
	sum = crc32c(0, header, 92);
	memcpy(header + 92, &sum, sizeof(sum));
	assert_int_equal(pwrite(fd, header, sizeof(header), 0), sizeof(header));
	close(fd);
	assert_int_equal(lab_try(lab), VMSIG_ERR_UNSUPPORTED);
	assert_non_null(strstr(lab->error, "newer version"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_power_cut_takes_the_ring, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_ring_that_is_gone, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_memory_that_nobody_asks_for, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_folder_of_others, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_copy_does_not_take_the_ring, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_ring_that_does_not_go_on, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(
			test_damage_before_the_end_is_told, lab_setup, lab_teardown),
		cmocka_unit_test_setup_teardown(test_newer_version, lab_setup, lab_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
