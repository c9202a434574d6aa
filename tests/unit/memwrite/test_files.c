/* SPDX-License-Identifier: Apache-2.0 */
/* Writes into a guest whose RAM is in several files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/memwrite/fault.h"
#include "broker/memwrite/memwrite.h"

#define PAGE 4096u
#define SIZE (64u * PAGE)
#define HALF (SIZE / 2)
#define ROOT 0x10000u
#define HIGH_GPA 0x100000000ull /* where the second half of RAM is in the guest */
#define FILES 3

static const vmsig_memseg segs[] = {{0, HALF, 0}, {HIGH_GPA, HALF, HALF}};
static const uint64_t sizes[FILES] = {3 * PAGE, HALF - 3 * PAGE, HALF};

struct lab {
	int fds[FILES];
	vmsig_coherence page;
	struct memwrite_target *target;
	struct memwrite_plan plan;
	uint8_t old[256];
};

/* In the second file, of which the page tables are a part. */
static void put_entry(const struct lab *lab, uint64_t gpa, uint64_t entry)
{
	entry |= 3;
	assert_int_equal(
		pwrite(lab->fds[1], &entry, sizeof(entry), (off_t)(gpa - 3 * PAGE)), sizeof(entry));
}

static int setup(void **state)
{
	static struct lab lab;

	memset(&lab, 0, sizeof(lab));
	for (size_t i = 0; i < FILES; i++) {
		lab.fds[i] = memfd_create("part", MFD_CLOEXEC);
		assert_int_equal(ftruncate(lab.fds[i], (off_t)sizes[i]), 0);
	}
	/* Guest-virtual 0 is guest-physical 0x5000. */
	for (uint64_t table = ROOT; table < ROOT + 3 * PAGE; table += PAGE)
		put_entry(&lab, table, table + PAGE);
	put_entry(&lab, ROOT + 3 * PAGE, 0x5000);
	assert_int_equal(fault_setup(), 0);
	assert_int_equal(memwrite_target_new_files(&lab.target,
				 &(struct memwrite_files){lab.fds, sizes, FILES}, segs, 2, 0, ROOT,
				 4, &lab.page),
		0);
	*state = &lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	memwrite_plan_deinit(&lab->plan);
	memwrite_target_free(lab->target);
	for (size_t i = 0; i < FILES; i++)
		close(lab->fds[i]);
	return 0;
}

static int admit(void *ctx, const struct lease_range *range)
{
	return 0;
}

static struct memwrite_result apply(struct lab *lab, const struct memwrite_op *ops, size_t n)
{
	struct memwrite_result result;
	uint32_t failed;

	assert_int_equal(memwrite_resolve(lab->target, ops, n, &lab->plan, &failed), 0);
	memwrite_apply(lab->target, ops, &lab->plan, admit, lab, lab->old, &result);
	return result;
}

static void expect(const struct lab *lab, size_t file, off_t off, uint8_t byte, size_t len)
{
	uint8_t got[64];

	assert_int_equal(pread(lab->fds[file], got, len, off), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], byte);
}

/* Over the border of two files, through page tables, and above 4 GiB: the bytes arrive where each
 * file has them. */
static void bytes_arrive_in_their_files(void **state)
{
	struct lab *lab = *state;
	uint8_t data[64];
	const struct memwrite_op ops[] = {
		{.addr = 3 * PAGE - 32, .data = data, .len = sizeof(data)},
		{.addr = 0x10, .data = data, .len = 8, .is_virtual = true},
		{.addr = HIGH_GPA + 8, .data = data, .len = 8}};
	struct memwrite_result result;

	memset(data, 0xa5, sizeof(data));
	result = apply(lab, ops, 3);
	assert_int_equal(result.error, VMSIG_ERR_OK);
	assert_int_equal(result.written, 80);
	assert_int_equal(lab->old[0], 0);
	expect(lab, 0, 3 * PAGE - 32, 0xa5, 32);
	expect(lab, 1, 0, 0xa5, 32);
	expect(lab, 1, 0x5010 - 3 * PAGE, 0xa5, 8);
	expect(lab, 2, 8, 0xa5, 8);
	expect(lab, 2, 16, 0, 8);
	/* And it is all in the old bytes of the next one. */
	result = apply(lab, ops, 3);
	assert_int_equal(result.error, VMSIG_ERR_OK);
	for (size_t i = 0; i < 80; i++)
		assert_int_equal(lab->old[i], 0xa5);
}

static void one_that_shrinks_is_an_error(void **state)
{
	struct lab *lab = *state;
	const uint8_t data[8] = {1};
	const struct memwrite_op into[] = {{.addr = HIGH_GPA + PAGE, .data = data, .len = 8}};
	const struct memwrite_op beside[] = {{.addr = 0, .data = data, .len = 8}};

	/* cmocka has set a handler of its own before each test. */
	assert_int_equal(fault_setup(), 0);
	assert_int_equal(ftruncate(lab->fds[2], PAGE), 0);
	assert_int_equal(apply(lab, into, 1).error, VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(apply(lab, beside, 1).error, VMSIG_ERR_OK);
}

static void what_cannot_lie_end_to_end_is_refused(void **state)
{
	static const uint64_t small[] = {HALF, HALF - PAGE}, odd[] = {HALF - 1, SIZE};
	struct lab *lab = *state;
	struct memwrite_target *target = NULL;

	assert_int_equal(
		memwrite_target_new_files(&target, &(struct memwrite_files){lab->fds, small, 2},
			segs, 2, 0, ROOT, 4, &lab->page),
		VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		memwrite_target_new_files(&target, &(struct memwrite_files){lab->fds, odd, 2}, segs,
			2, 0, ROOT, 4, &lab->page),
		VMSIG_ERR_BAD_REQUEST);
	assert_null(target);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bytes_arrive_in_their_files),
		TEST(one_that_shrinks_is_an_error),
		TEST(what_cannot_lie_end_to_end_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
