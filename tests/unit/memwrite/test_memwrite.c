/* SPDX-License-Identifier: Apache-2.0 */
/* Stores into guest RAM: resolved once, admitted piece by piece, and the bytes that were there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
	unsigned asked, granted; /* how often it may be asked; 0: for ever */
	struct memwrite_plan plan;
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

	memwrite_plan_deinit(&lab->plan);
	memwrite_target_free(lab->target);
	munmap(lab->ram, SIZE);
	close(lab->fd);
	free(lab);
	return 0;
}

static int admit(void *ctx, const struct lease_range *range)
{
	struct lab *lab = ctx;

	if (lab->granted && lab->asked >= lab->granted)
		return VMSIG_ERR_LEASE_EXPIRED;
	lab->asked++;
	return range->start >= lab->allowed.start && range->last <= lab->allowed.last
		       ? 0
		       : VMSIG_ERR_OUT_OF_RANGE;
}

static int resolve(struct lab *lab, const struct memwrite_op *ops, size_t n)
{
	uint32_t failed_op;

	return memwrite_resolve(lab->target, ops, n, &lab->plan, &failed_op);
}

static struct memwrite_result apply_plan(struct lab *lab, const struct memwrite_op *ops)
{
	struct memwrite_result result;

	memwrite_apply(lab->target, ops, &lab->plan, admit, lab, lab->old, &result);
	assert_int_equal(lab->page.sequence % 2, 0);
	return result;
}

static struct memwrite_result apply(struct lab *lab, const struct memwrite_op *ops, size_t n)
{
	struct memwrite_result result = {0};
	int r = memwrite_resolve(lab->target, ops, n, &lab->plan, &result.failed_op);

	result.error = (enum vmsig_error)r;
	return r ? result : apply_plan(lab, ops);
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
	/* For the check, and once more right before each store. */
	assert_int_equal(lab->asked, 4);
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

/* ---- resolved once ---- */

#define LEAF (ROOT + 0x3000)

static void a_batch_does_not_turn_its_own_tables(void **state)
{
	struct lab *lab = *state;
	const uint64_t turned = 0x9000 | 3;
	const struct memwrite_op ops[] = {
		{.addr = LEAF, .data = (const uint8_t *)&turned, .len = 8},
		{.addr = 0x100, .data = BYTES("admitted"), .len = 8, .is_virtual = true},
	};

	assert_int_equal(apply(lab, ops, 2).error, VMSIG_ERR_OK);
	assert_int_equal(*entry(lab, LEAF, 0), turned);
	assert_memory_equal(lab->ram + 0x5100, "admitted", 8);
	assert_memory_equal(lab->ram + 0x9100, "\0\0\0\0\0\0\0\0", 8);
}

/* Its first page is the table that maps its second one. */
static void an_operation_does_not_turn_its_own_tables(void **state)
{
	struct lab *lab = *state;
	uint64_t data[513] = {0};
	const struct memwrite_op op = {
		.addr = 8, .data = (const uint8_t *)data, .len = 4096, .is_virtual = true};

	*entry(lab, LEAF, 0) = LEAF | 3;
	data[0] = 0x9000 | 3;
	data[511] = UINT64_MAX;
	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_OK);
	assert_int_equal(*entry(lab, LEAF, 1), 0x9000 | 3);
	assert_memory_equal(lab->ram + 0x8000, &data[511], 8);
	assert_memory_equal(lab->ram + 0x9000, "\0\0\0\0\0\0\0\0", 8);
}

static void a_guest_that_turns_its_tables_redirects_nothing(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {
		.addr = 0x100, .data = BYTES("admitted"), .len = 8, .is_virtual = true};

	assert_int_equal(resolve(lab, &op, 1), 0);
	*entry(lab, LEAF, 0) = 0x9000 | 3;
	assert_int_equal(apply_plan(lab, &op).error, VMSIG_ERR_OK);
	assert_memory_equal(lab->ram + 0x5100, "admitted", 8);
	assert_memory_equal(lab->ram + 0x9100, "\0\0\0\0\0\0\0\0", 8);
}

static void a_plan_tells_whether_the_guest_has_moved_the_memory(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("a"), .len = 1},
		{.addr = 0xffe, .data = BYTES("abcd"), .len = 4, .is_virtual = true},
	};

	assert_int_equal(resolve(lab, ops, 2), 0);
	assert_int_equal(memwrite_plan_holds(lab->target, ops, 2, &lab->plan), 0);
	*entry(lab, LEAF, 1) = 0x9000 | 3;
	assert_int_equal(memwrite_plan_holds(lab->target, ops, 2, &lab->plan), VMSIG_ERR_BUSY);
	*entry(lab, LEAF, 1) = 0;
	assert_int_equal(memwrite_plan_holds(lab->target, ops, 2, &lab->plan), VMSIG_ERR_BUSY);
	*entry(lab, LEAF, 1) = 0x8000 | 3;
	assert_int_equal(memwrite_plan_holds(lab->target, ops, 2, &lab->plan), 0);
}

static void a_plan_is_good_for_its_own_target_only(void **state)
{
	static const vmsig_memseg seg = {0, SIZE, 0};
	struct lab *lab = *state;
	const struct memwrite_op op = {.addr = 0x3000, .data = BYTES("12345678"), .len = 8};

	assert_int_equal(resolve(lab, &op, 1), 0);
	lab->target = memwrite_target_free(lab->target);
	assert_int_equal(
		memwrite_target_new(&lab->target, lab->fd, &seg, 1, 0, ROOT, 4, &lab->page), 0);
	assert_int_equal(apply_plan(lab, &op).error, VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(lab->ram[0x3000], 0);
}

static void the_end_of_the_admission_stops_a_batch_between_its_pieces(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("aaaa"), .len = 4},
		{.addr = 0xffe, .data = BYTES("bbbb"), .len = 4, .is_virtual = true},
	};
	struct memwrite_result result;

	/* Three pieces are checked, two are stored. */
	lab->granted = 5;
	result = apply(lab, ops, 2);
	assert_int_equal(result.error, VMSIG_ERR_PARTIAL);
	assert_int_equal(result.cause, VMSIG_ERR_LEASE_EXPIRED);
	assert_int_equal(result.failed_op, 1);
	assert_int_equal(result.written, 6);
	assert_memory_equal(lab->ram + 0x5ffe, "bb", 2);
	assert_memory_equal(lab->ram + 0x8000, "\0\0", 2);
	/* Nothing at all if it ends before the first of them. */
	lab->granted = lab->asked + 3;
	result = apply(lab, ops, 2);
	assert_int_equal(result.error, VMSIG_ERR_LEASE_EXPIRED);
	assert_int_equal(result.written, 0);
}

static void a_plan_names_the_memory_it_goes_to(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op ops[] = {
		{.addr = 0xffe, .data = BYTES("abcd"), .len = 4, .is_virtual = true},
		{.addr = 0x5ffc, .data = BYTES("ef"), .len = 2},
		{.addr = 0x3000, .data = BYTES("g"), .len = 1},
	};
	struct lease_range ranges[4];

	assert_int_equal(resolve(lab, ops, 3), 0);
	assert_int_equal(lab->plan.n, 4);
	assert_int_equal(memwrite_plan_ranges(&lab->plan, 7, ranges), 3);
	assert_int_equal(ranges[0].start, 0x3000);
	assert_int_equal(ranges[0].last, 0x3000);
	assert_int_equal(ranges[1].start, 0x5ffc);
	assert_int_equal(ranges[1].last, 0x5fff);
	assert_int_equal(ranges[2].start, 0x8000);
	assert_int_equal(ranges[2].last, 0x8001);
	/* As far as it came. */
	assert_int_equal(memwrite_plan_ranges(&lab->plan, 3, ranges), 2);
	assert_int_equal(ranges[1].start, 0x8000);
	assert_int_equal(ranges[1].last, 0x8000);
	assert_int_equal(memwrite_plan_ranges(&lab->plan, 0, ranges), 0);
}

static void a_long_operation_is_planned_and_applied_in_parts(void **state)
{
	struct lab *lab = *state;
	uint8_t data[0x1800];
	struct memwrite_op op = {.addr = 0x400, .len = sizeof(data), .is_virtual = true};
	struct memwrite_result result;
	struct memwrite_slice slice;

	memset(data, 'x', sizeof(data));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(memwrite_resolve_part(lab->target, &op, 0xb00, &lab->plan), 0);
	assert_int_equal(lab->plan.bytes, sizeof(data));
	assert_int_equal(lab->plan.n, 2);
	memwrite_plan_cut(&lab->plan, 0x800, 0x800, &slice);
	assert_int_equal(slice.plan.bytes, 0x800);
	assert_int_equal(slice.plan.n, 2);
	op = (struct memwrite_op){.data = data, .len = slice.plan.bytes};
	memwrite_apply(lab->target, &op, &slice.plan, admit, lab, lab->old, &result);
	assert_int_equal(result.error, 0);
	assert_int_equal(lab->ram[0x5bff], 0);
	assert_int_equal(lab->ram[0x5c00], 'x');
	assert_int_equal(lab->ram[0x83ff], 'x');
	assert_int_equal(lab->ram[0x8400], 0);
}

static void what_goes_to_too_many_pieces_is_refused(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op op = {
		.len = (uint64_t)(MEMWRITE_PIECES_MAX + 1) << 12, .is_virtual = true};
	uint64_t *leaves = entry(lab, 0x20000 - 0x1000, 0);

	/* All of it maps the same two pages in turns. */
	for (unsigned i = 0; i < 512; i++) {
		leaves[i] = (0x5000 + (i % 2) * 0x3000) | 3;
		*entry(lab, ROOT + 0x2000, i) = (0x20000 - 0x1000) | 3;
	}
	assert_int_equal(memwrite_resolve_part(lab->target, &op, 1 << 20, &lab->plan), 0);
	assert_int_equal(lab->plan.n, 256);
	assert_int_equal(
		memwrite_resolve_part(lab->target, &op, op.len, &lab->plan), VMSIG_ERR_QUOTA);
}

static blkcnt_t blocks(struct lab *lab)
{
	struct stat st;

	assert_int_equal(fstat(lab->fd, &st), 0);
	return st.st_blocks;
}

static void looking_does_not_fill_holes(void **state)
{
	struct lab *lab = *state;
	const struct memwrite_op op = {
		.addr = 0x20000 - 0x2000, .data = BYTES("new"), .expect = BYTES("old"), .len = 3};
	blkcnt_t before = blocks(lab);
	struct memwrite_result result;

	assert_int_equal(apply(lab, &op, 1).error, VMSIG_ERR_COMPARE_FAILED);
	memwrite_check(lab->target, &op, &lab->plan, admit, lab, lab->old, &result);
	assert_int_equal(result.error, VMSIG_ERR_COMPARE_FAILED);
	assert_int_equal(blocks(lab), before);
}

/* Huge pages need not be there to read a hole of them. */
static void huge_pages_are_read_without_any(void **state)
{
	int fd = memfd_create("vmsig-huge", MFD_CLOEXEC | MFD_HUGETLB);
	uint8_t byte = 1;

	if (fd < 0 || ftruncate(fd, 1 << 30) < 0)
		skip();
	assert_int_equal(pread(fd, &byte, 1, 0x1000), 1);
	assert_int_equal(byte, 0);
	close(fd);
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

static void what_was_there_is_told_of_failed_batches_too(void **state)
{
	struct lab *lab = *state;
	struct memwrite_op ops[] = {
		{.addr = 0x3000, .data = BYTES("bbbb"), .expect = BYTES("aaaa"), .len = 4},
		{.addr = 0x3010, .data = BYTES("dddddd"), .expect = BYTES("cccccc"), .len = 6},
		{.addr = 0x3020, .data = BYTES("fff"), .len = 3},
	};

	memcpy(lab->ram + 0x3000, "now!", 4);
	memcpy(lab->ram + 0x3010, "ccXccc", 6);
	memcpy(lab->ram + 0x3020, "eee", 3);
	assert_int_equal(apply(lab, ops, 1).error, VMSIG_ERR_COMPARE_FAILED);
	assert_memory_equal(lab->old, "now!", 4);
	assert_int_equal(apply(lab, ops + 1, 2).error, VMSIG_ERR_COMPARE_FAILED);
	assert_memory_equal(lab->old, "ccXccceee", 9);
	assert_memory_equal(lab->ram + 0x3020, "eee", 3);
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

	/* cmocka has put its own handler in place since the set-up. */
	assert_int_equal(fault_setup(), 0);
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
	uint8_t buf[8192] = {0}, was[8192];
	uint64_t old;
	size_t done;

	assert_int_equal(fault_setup(), 0);
	assert_int_equal(ftruncate(lab->fd, 4096), 0);
	assert_int_equal(fault_store(lab->ram + 4096, &store, &old), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(fault_store(lab->ram + 4088, &store, &old), 0);
	lab->ram[4000] = 7;
	assert_int_equal(
		fault_exchange(lab->ram, buf, was, sizeof(buf), &done), VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(done, 4096);
	assert_int_equal(was[4000], 7);
	assert_int_equal(fault_read(was, lab->ram, sizeof(was)), VMSIG_ERR_OUT_OF_RANGE);
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
		T(a_batch_does_not_turn_its_own_tables),
		T(an_operation_does_not_turn_its_own_tables),
		T(a_guest_that_turns_its_tables_redirects_nothing),
		T(a_plan_tells_whether_the_guest_has_moved_the_memory),
		T(a_plan_is_good_for_its_own_target_only),
		T(the_end_of_the_admission_stops_a_batch_between_its_pieces),
		T(a_plan_names_the_memory_it_goes_to),
		T(a_long_operation_is_planned_and_applied_in_parts),
		T(what_goes_to_too_many_pieces_is_refused),
		T(looking_does_not_fill_holes),
		T(huge_pages_are_read_without_any),
		T(a_comparison_guards_the_batch),
		T(what_was_there_is_told_of_failed_batches_too),
		T(a_mask_leaves_other_bits_alone),
		T(a_file_that_shrinks_is_an_error_and_not_a_signal),
		T(a_fault_inside_an_access_is_caught),
		T(malformed_batches_are_refused),
		T(layouts_beyond_the_file_are_refused),
		T(no_increment_of_the_guest_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
