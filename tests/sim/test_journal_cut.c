/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A power cut at every byte: of a journal of two segments, the second is cut there, and what
 * follows is nothing, or garbage, or later sectors that did reach the disk. What is found must
 * be a prefix that has all that was whole before the cut, and so everything that was synced; and
 * nothing that was cut off may come back when the journal goes on.
 */
#include "tests/unit/journal/lab.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/journal/entry.h"
#include "broker/journal/segment.h"

#define SECTOR 512u
#define BESIDE 96u /* bytes of a header that are not 0 */
#define GO_ON 16u  /* every so many cuts the journal goes on */

enum rest { REST_ZEROS, REST_SECTORS, REST_GARBAGE, RESTS };

static struct lab lab;
static uint8_t first[LAB_SEGMENT], second[LAB_SEGMENT], torn[LAB_SEGMENT];
static uint64_t second_first; /* number of the first entry in the second segment */
static uint64_t newest;
static size_t end; /* of the entries in the second */

static void file_read(const char *path, uint8_t *data)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, data, LAB_SEGMENT, 0), LAB_SEGMENT);
	close(fd);
}

static void file_write(const char *path, const uint8_t *data)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, LAB_SEGMENT, 0), LAB_SEGMENT);
	close(fd);
}

/* Where entry `last` ends. */
static size_t end_of(uint64_t last)
{
	size_t at = SEGMENT_HEADER;

	for (uint64_t number = second_first; number <= last; number++)
		at += entry_size(lab_type(number), lab_len(number));
	return at;
}

/* Entries until the second segment has some of every kind. */
static int setup(void **state)
{
	lab_init(&lab);
	lab_open(&lab);
	lab_start(&lab);
	while (journal_bytes(lab.journal) < 2 * LAB_SEGMENT) {
		lab_append(&lab, 1);
		lab_await_drained(&lab);
	}
	second_first = journal_drained(lab.journal);
	lab_append(&lab, 16);
	newest = journal_committed(lab.journal);
	lab_close(&lab);
	file_read(lab_segment(&lab, 1), first);
	file_read(lab_segment(&lab, second_first), second);
	end = end_of(newest);
	return 0;
}

static int teardown(void **state)
{
	lab_deinit(&lab);
	return 0;
}

/* The newest entry that is whole before the cut. */
static uint64_t whole_before(size_t cut)
{
	uint64_t number = second_first - 1;

	while (number < newest && end_of(number + 1) <= cut)
		number++;
	return number;
}

static void tear(size_t cut, enum rest rest)
{
	size_t sector = (cut + SECTOR - 1) / SECTOR * SECTOR;

	memset(torn, 0, sizeof(torn));
	memcpy(torn, second, cut);
	if (rest == REST_SECTORS && sector < end)
		memcpy(torn + sector, second + sector, end - sector);
	if (rest == REST_GARBAGE)
		for (size_t i = cut; i < LAB_SEGMENT; i++)
			torn[i] = (uint8_t)random();
}

static void disk_set(void)
{
	char command[160];

	snprintf(command, sizeof(command), "%s/journal/%016llx.idx", lab.state, 1ull);
	unlink(command);
	file_write(lab_segment(&lab, 1), first);
	file_write(lab_segment(&lab, second_first), torn);
}

static void go_on(void)
{
	uint64_t number = journal_committed(lab.journal) + 1;

	lab_append(&lab, 1);
	lab_start(&lab);
	lab_close(&lab);
	lab_open(&lab);
	assert_int_equal(journal_found(lab.journal)->dropped_bytes, 0);
	assert_int_equal(lab_replay(&lab, 1), number);
	lab_verify(&lab);
}

static void clear(uint64_t number)
{
	if (number != second_first)
		unlink(lab_segment(&lab, number));
}

static void cut_at(size_t cut, enum rest rest)
{
	uint64_t whole = whole_before(cut), found;

	tear(cut, rest);
	disk_set();
	lab_open(&lab);
	found = lab_replay(&lab, 1);
	assert_in_range(found, whole, newest);
	/* One that was cut in zeros of its own is whole all the same. */
	assert_memory_equal(torn, second, found > whole ? end_of(found) : 0);
	lab_verify(&lab);
	if (cut % GO_ON == 0)
		go_on();
	lab_leave(&lab);
	lab_boot(&lab);
	clear(found + 1);
}

static void cut_everywhere(enum rest rest)
{
	srandom(1);
	/* Between the header and the first entry is nothing. */
	for (size_t cut = 0; cut <= end; cut++)
		if (cut <= BESIDE || cut + 8 >= SEGMENT_HEADER)
			cut_at(cut, rest);
}

static void test_nothing_follows(void **state)
{
	cut_everywhere(REST_ZEROS);
}

static void test_later_sectors_follow(void **state)
{
	cut_everywhere(REST_SECTORS);
}

static void test_garbage_follows(void **state)
{
	cut_everywhere(REST_GARBAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_follows),
		cmocka_unit_test(test_later_sectors_follow),
		cmocka_unit_test(test_garbage_follows),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
