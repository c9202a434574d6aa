/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/memwrite/fault.h"
#include "broker/memwrite/memwrite.h"

#define SIZE (64u * 4096u)
#define ROOT 0x10000u
#define HIGH_GPA 0x100000000ull /* where the second half of the file is in the guest */

struct lab {
	int fd;
	uint8_t *ram; /* the guest's own view */
	vmsig_coherence page;
	struct memwrite_target *target;
	struct lease_range allowed;
	unsigned asked;
	uint8_t old[8192];
};

static uint64_t *entry(struct lab *lab, uint64_t table, unsigned index)
{
	return (uint64_t *)(void *)(lab->ram + table) + index;
}

/* Guest-virtual 0 maps two pages that are apart in physical space: 0x5000, then 0x8000. */
static void tables_make(struct lab *lab)
{
	*entry(lab, ROOT, 0) = (ROOT + 0x1000) | 3;
	*entry(lab, ROOT + 0x1000, 0) = (ROOT + 0x2000) | 3;
	*entry(lab, ROOT + 0x2000, 0) = (ROOT + 0x3000) | 3;
	*entry(lab, ROOT + 0x3000, 0) = 0x5000 | 3;
	*entry(lab, ROOT + 0x3000, 1) = 0x8000 | 3;
}

static int setup(void **state)
{
	static const vmsig_memseg segs[] = {{0, SIZE / 2, 0}, {HIGH_GPA, SIZE / 2, SIZE / 2}};
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab->fd = memfd_create("vmsig-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(lab->fd, SIZE), 0);
	lab->ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, lab->fd, 0);
	assert_ptr_not_equal(lab->ram, MAP_FAILED);
	tables_make(lab);
	assert_int_equal(fault_setup(), 0);
	assert_int_equal(
		memwrite_target_new(&lab->target, lab->fd, segs, 2, 0, ROOT, 4, &lab->page), 0);
	lab->allowed = (struct lease_range){.start = 0, .last = UINT64_MAX};
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	memwrite_target_free(lab->target);
	munmap(lab->ram, SIZE);
	close(lab->fd);
	free(lab);
	return 0;
}

static int admit(void *ctx, const struct lease_range *range)
{
	struct lab *lab = ctx;

	lab->asked++;
	return range->start >= lab->allowed.start && range->last <= lab->allowed.last
		       ? 0
		       : VMSIG_ERR_OUT_OF_RANGE;
}

static struct memwrite_result apply(struct lab *lab, const struct memwrite_op *ops, size_t n)
{
	struct memwrite_result result;

	memwrite_apply(lab->target, ops, n, admit, lab, lab->old, &result);
	assert_int_equal(lab->page.sequence % 2, 0);
	return result;
}

#define BYTES(text) ((const uint8_t *)(text))

static void bytes_arrive_and_the_old_ones_come_back(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {.addr = 0x3000, .data = BYTES("hello world"), .len = 11};
	struct memwrite_result result;

	memcpy(lab->ram + 0x3000, "HELLO WORLD", 11);
	result = apply(lab, &op, 1);
	assert_int_equal(result.error, VMSIG_ERR_OK);
	assert_int_equal(result.written, 11);
	assert_memory_equal(lab->ram + 0x3000, "hello world", 11);
	assert_memory_equal(lab->old, "HELLO WORLD", 11);
	assert_int_equal(lab->page.sequence, 2);
	assert_int_equal(result.range.start, 0x3000);
	assert_int_equal(result.range.last, 0x300a);
}

static void high_memory_lies_at_its_place_in_the_file(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {.addr = HIGH_GPA + 8, .data = BYTES("12345678"), .len = 8};

	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OK);
	assert_memory_equal(lab->ram + SIZE / 2 + 8, "12345678", 8);
}

static void a_virtual_address_is_translated_page_by_page(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {
		.addr = 0xffe, .data = BYTES("abcd"), .len = 4, .is_virtual = true};

	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OK);
	assert_memory_equal(lab->ram + 0x5ffe, "ab", 2);
	assert_memory_equal(lab->ram + 0x8000, "cd", 2);
	assert_int_equal(lab->asked, 2);
}

static void nothing_is_written_when_one_operation_cannot_be(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("aaaa"), .len = 4},
		{.addr = 0x3100, .data = BYTES("bbbb"), .len = 4},
	};
	static const struct {
		uint64_t addr;
		bool is_virtual;
		enum vmsig_error error;
	} bad[] = {
		{SIZE, false, VMSIG_ERR_OUT_OF_RANGE},
		{SIZE / 2 - 2, false, VMSIG_ERR_OUT_OF_RANGE},
		{UINT64_MAX - 1, false, VMSIG_ERR_OUT_OF_RANGE},
		{0x2000, true, VMSIG_ERR_NOT_MAPPED},
		{0x800000000000ull, true, VMSIG_ERR_NOT_MAPPED},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct memwrite_result result;

		ops[1].addr = bad[i].addr;
		ops[1].is_virtual = bad[i].is_virtual;
		result = apply(lab, ops, 2);
		assert_int_equal(result.error, bad[i].error);
		assert_int_equal(result.failed_op, 1);
		assert_int_equal(result.written, 0);
		assert_memory_equal(lab->ram + 0x3000, "\0\0\0\0", 4);
	}
	assert_int_equal(lab->page.sequence, 0);
}

static void every_piece_is_admitted_before_the_first_byte(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {
		.addr = 0xffe, .data = BYTES("abcd"), .len = 4, .is_virtual = true};

	lab->allowed = (struct lease_range){.start = 0x5000, .last = 0x5fff};
	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OUT_OF_RANGE);
	assert_memory_equal(lab->ram + 0x5ffe, "\0\0", 2);
}

static void a_comparison_guards_the_batch(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("bbbb"), .expect = BYTES("aaaa"), .len = 4},
		{.addr = 0x3010, .data = BYTES("dddddd"), .expect = BYTES("cccccc"), .len = 6},
	};

	memcpy(lab->ram + 0x3000, "aaaa", 4);
	memcpy(lab->ram + 0x3010, "ccXccc", 6);
	assert_int_equal(apply(lab, ops, 2).error, VMSIG_ERR_COMPARE_FAILED);
	assert_memory_equal(lab->ram + 0x3000, "aaaa", 4);
	memcpy(lab->ram + 0x3010, "cccccc", 6);
	assert_int_equal(apply(lab, ops, 2).error, VMSIG_ERR_OK);
	assert_memory_equal(lab->ram + 0x3000, "bbbb", 4);
	assert_memory_equal(lab->ram + 0x3010, "dddddd", 6);
}

static void a_mask_leaves_other_bits_alone(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("\xff\xff"), .mask = BYTES("\x0f\xf0"), .len = 2},
		{.addr = 0x3011, .data = BYTES("XYZ"), .mask = BYTES("\xff\x00\xff"), .len = 3},
	};

	memcpy(lab->ram + 0x3011, "abc", 3);
	assert_int_equal(apply(lab, ops, 2).error, VMSIG_ERR_OK);
	assert_memory_equal(lab->ram + 0x3000, "\x0f\xf0", 2);
	assert_memory_equal(lab->ram + 0x3011, "XbZ", 3);
}

static void a_file_that_shrinks_is_an_error_and_not_a_signal(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op op = {
		.addr = HIGH_GPA + SIZE / 2 - 8, .data = BYTES("12345678"), .len = 8};

	assert_int_equal(ftruncate(lab->fd, SIZE - 4096), 0);
	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OUT_OF_RANGE);
	op.len = 3;
	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OUT_OF_RANGE);
}

/* The accesses themselves, for a file that shrinks between the check and the byte. */
static void a_fault_inside_an_access_is_caught(void **state)
{
	struct lab *lab = *state;
	struct fault_store store = {.size = 8, .value = 1, .mask = UINT64_MAX};
	uint8_t buf[8192] = {0};
	uint64_t old;
	size_t done;

	/* cmocka has put its own handler in place since the set-up. */
	assert_int_equal(fault_setup(), 0);
	assert_int_equal(ftruncate(lab->fd, 4096), 0);
	assert_int_equal(fault_store(lab->ram + 4096, &store, &old), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(fault_store(lab->ram + 4088, &store, &old), 0);
	assert_int_equal(fault_write(lab->ram, buf, sizeof(buf), &done), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(done, 4096);
}

static void malformed_batches_are_refused(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op op = {.addr = 0, .data = BYTES(""), .len = 0};

	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(apply(lab, &op, 0).error, VMSIG_ERR_BAD_REQUEST);
	op.len = MEMWRITE_BYTES_MAX + 1;
	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_BAD_REQUEST);
}

static void layouts_beyond_the_file_are_refused(void **state)
{
	struct lab *lab = *state;
	const vmsig_memseg seg = {0, SIZE + 1, 0};
	struct memwrite_target *target = NULL;

	assert_int_equal(memwrite_target_new(&target, lab->fd, &seg, 1, 0, ROOT, 4, &lab->page),
		VMSIG_ERR_BAD_REQUEST);
	assert_null(target);
}

#define ROUNDS 20000u

/* The guest's CPU: increments the same word with its own locked instruction. */
static void *guest_cpu(void *arg)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		__atomic_add_fetch((uint32_t *)arg, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void no_increment_of_the_guest_is_lost(void **state)
{
	struct lab *lab = *state;
	uint32_t *word = (uint32_t *)(void *)(lab->ram + 0x3000);
	unsigned won = 0;
	pthread_t cpu;

	assert_int_equal(pthread_create(&cpu, NULL, guest_cpu, word), 0);
	while (won < ROUNDS) {
		uint32_t expect = __atomic_load_n(word, __ATOMIC_SEQ_CST), next = expect + 1;
		const struct memwrite_op op = {.addr = 0x3000,
			.data = (const uint8_t *)&next,
			.expect = (const uint8_t *)&expect,
			.len = 4};

		won += apply(lab, &op, 1).error == VMSIG_ERR_OK;
	}
	pthread_join(cpu, NULL);
	assert_int_equal(*word, 2 * ROUNDS);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(bytes_arrive_and_the_old_ones_come_back),
		T(high_memory_lies_at_its_place_in_the_file),
		T(a_virtual_address_is_translated_page_by_page),
		T(nothing_is_written_when_one_operation_cannot_be),
		T(every_piece_is_admitted_before_the_first_byte),
		T(a_comparison_guards_the_batch),
		T(a_mask_leaves_other_bits_alone),
		T(a_file_that_shrinks_is_an_error_and_not_a_signal),
		T(a_fault_inside_an_access_is_caught),
		T(malformed_batches_are_refused),
		T(layouts_beyond_the_file_are_refused),
		T(no_increment_of_the_guest_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
