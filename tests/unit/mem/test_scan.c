/* SPDX-License-Identifier: Apache-2.0 */
/* A holder's scans: every match once, in order, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/guest.h"
#include "vmsig/vmsig_mem.h"

#define MIB (1ull << 20)
#define SIZE (1024 * MIB) /* sparse: holes everywhere */
#define TABLES (64 * MIB)
#define HIGH 0xffffffff81000000ull
#define FOUR_GIB (1ull << 32)
#define MATCHES 16

struct lab {
	struct guest guest;
	vmsig_mem *mem;
	uint64_t found[MATCHES];
	size_t n, limit;
	vmsig_range ranges[MATCHES];
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	guest_init(&lab->guest, SIZE, 4, TABLES);
	/* Split in the middle of the file: what follows is at 4 GiB. */
	lab->mem = vmsig_mem_from_ro_fd(lab->guest.fd, SIZE / 2);
	assert_non_null(lab->mem);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	vmsig_mem_close(lab->mem);
	guest_deinit(&lab->guest);
	free(lab);
	return 0;
}

static int note(void *ctx, uint64_t addr)
{
	struct lab *lab = ctx;

	assert_true(lab->n < MATCHES);
	lab->found[lab->n++] = addr;
	return lab->limit && lab->n == lab->limit ? 42 : 0;
}

static void put(struct lab *lab, uint64_t off, const char *text)
{
	memcpy(lab->guest.ram + off, text, strlen(text));
}

static int scan(struct lab *lab, const char *pattern, const char *mask)
{
	lab->n = 0;
	return vmsig_scan_phys(lab->mem, 0, UINT64_MAX, pattern, mask, strlen(pattern), note, lab);
}

static void every_match_is_found_in_order(void **state)
{
	struct lab *lab = *state;

	put(lab, 0, "needle");
	put(lab, 4096 - 3, "needle");
	put(lab, MIB * 3 + 77, "needleneedle");
	put(lab, SIZE - 6, "needle");
	assert_int_equal(scan(lab, "needle", NULL), 0);
	assert_int_equal(lab->n, 5);
	assert_int_equal(lab->found[0], 0);
	assert_int_equal(lab->found[1], 4096 - 3);
	assert_int_equal(lab->found[2], MIB * 3 + 77);
	assert_int_equal(lab->found[3], MIB * 3 + 83);
	assert_int_equal(lab->found[4], FOUR_GIB + SIZE / 2 - 6);
}

static void matches_overlap(void **state)
{
	struct lab *lab = *state;

	put(lab, 5000, "aaaa");
	assert_int_equal(scan(lab, "aa", NULL), 0);
	assert_int_equal(lab->n, 3);
}

static void a_mask_leaves_bits_out(void **state)
{
	struct lab *lab = *state;

	put(lab, 100, "k3y");
	put(lab, 9000, "kEy");
	assert_int_equal(scan(lab, "k.y", "\xff\x01\xff"), 0);
	assert_int_equal(lab->n, 0);
	lab->n = 0;
	assert_int_equal(
		vmsig_scan_phys(lab->mem, 0, UINT64_MAX, "k.y", "\xff\x00\xff", 3, note, lab), 0);
	assert_int_equal(lab->n, 2);
}

/* The split touches in the file and not in guest-physical space. */
static void nothing_matches_across_a_gap(void **state)
{
	struct lab *lab = *state;

	put(lab, SIZE / 2 - 3, "needle");
	assert_int_equal(scan(lab, "needle", NULL), 0);
	assert_int_equal(lab->n, 0);
}

static void a_range_bounds_the_scan(void **state)
{
	struct lab *lab = *state;

	put(lab, 1000, "needle");
	put(lab, 2000, "needle");
	put(lab, 3000, "needle");
	assert_int_equal(vmsig_scan_phys(lab->mem, 1001, 2005, "needle", NULL, 6, note, lab), 0);
	assert_int_equal(lab->n, 1);
	assert_int_equal(lab->found[0], 2000);
	lab->n = 0;
	assert_int_equal(vmsig_scan_phys(lab->mem, 1001, 2004, "needle", NULL, 6, note, lab), 0);
	assert_int_equal(lab->n, 0);
}

static void the_visitor_can_stop(void **state)
{
	struct lab *lab = *state;

	put(lab, 1000, "needle");
	put(lab, 2000, "needle");
	lab->limit = 1;
	assert_int_equal(scan(lab, "needle", NULL), 42);
	assert_int_equal(lab->n, 1);
}

static void bad_patterns_are_refused(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(vmsig_scan_phys(lab->mem, 0, UINT64_MAX, "x", NULL, 0, note, lab),
		-VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_scan_phys(lab->mem, 0, UINT64_MAX, "x", NULL, 4097, note, lab),
		-VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(
		vmsig_scan_phys(lab->mem, 9, 8, "x", NULL, 1, note, lab), -VMSIG_ERR_BAD_REQUEST);
}

static void holes_are_not_allocated(void **state)
{
	struct lab *lab = *state;
	uint64_t before = guest_allocated(&lab->guest);
	uint8_t buf[65536];

	put(lab, SIZE - 100, "needle");
	before = guest_allocated(&lab->guest);
	for (int mode = VMSIG_MEM_MAPPED; mode <= VMSIG_MEM_PREAD; mode++) {
		assert_int_equal(vmsig_mem_set_mode(lab->mem, mode), 0);
		assert_int_equal(scan(lab, "needle", NULL), 0);
		assert_int_equal(lab->n, 1);
		for (uint64_t gpa = 0; gpa < 8 * MIB; gpa += sizeof(buf)) {
			assert_int_equal(vmsig_phys_read(lab->mem, gpa, buf, sizeof(buf)), 0);
			assert_int_equal(buf[0] | buf[sizeof(buf) - 1], 0);
		}
		assert_int_equal(guest_allocated(&lab->guest), before);
	}
	/* A page that the guest fills later is seen. */
	put(lab, 4096, "later");
	assert_int_equal(vmsig_mem_set_mode(lab->mem, VMSIG_MEM_MAPPED), 0);
	assert_int_equal(vmsig_phys_read(lab->mem, 4096, buf, 5), 0);
	assert_memory_equal(buf, "later", 5);
}

/* ---- virtual ---- */

static void virtual_matches_cross_pages_that_lie_apart(void **state)
{
	struct lab *lab = *state;

	guest_map(&lab->guest, HIGH, 0x9000, GUEST_4K, 0);
	guest_map(&lab->guest, HIGH + 4096, 0x3000, GUEST_4K, 0);
	guest_map(&lab->guest, HIGH + 3 * 4096, 0x4000, GUEST_4K, 0);
	put(lab, 0x9000 + 4093, "nee");
	put(lab, 0x3000, "dle");
	/* The next page of the virtual space is not mapped: no match goes across. */
	put(lab, 0x3000 + 4093, "nee");
	put(lab, 0x4000, "dle");
	assert_int_equal(vmsig_scan_virt(lab->mem, lab->guest.root, HIGH, UINT64_MAX, "needle",
				 NULL, 6, note, lab),
		0);
	assert_int_equal(lab->n, 1);
	assert_int_equal(lab->found[0], HIGH + 4093);
}

static int note_range(void *ctx, const vmsig_range *range)
{
	struct lab *lab = ctx;

	assert_true(lab->n < MATCHES);
	lab->ranges[lab->n++] = *range;
	return 0;
}

static void neighbours_with_equal_rights_are_one_range(void **state)
{
	struct lab *lab = *state;

	guest_map(&lab->guest, 0x1000, 0x9000, GUEST_4K, GUEST_U | GUEST_W);
	guest_map(&lab->guest, 0x2000, 0x3000, GUEST_4K, GUEST_U | GUEST_W);
	guest_map(&lab->guest, 0x3000, 0x4000, GUEST_4K, GUEST_U);
	guest_map(&lab->guest, 0x5000, 0x5000, GUEST_4K, GUEST_U | GUEST_NX);
	guest_map(&lab->guest, HIGH, 2 * MIB, GUEST_2M, GUEST_W | GUEST_NX);
	assert_int_equal(vmsig_pmap(lab->mem, lab->guest.root, 0, UINT64_MAX, note_range, lab), 0);
	assert_int_equal(lab->n, 4);
	assert_int_equal(lab->ranges[0].gva, 0x1000);
	assert_int_equal(lab->ranges[0].len, 0x2000);
	assert_int_equal(lab->ranges[0].gpa, 0x9000);
	assert_int_equal(lab->ranges[0].prot,
		VMSIG_PROT_READ | VMSIG_PROT_WRITE | VMSIG_PROT_EXEC | VMSIG_PROT_USER);
	assert_int_equal(lab->ranges[1].prot, VMSIG_PROT_READ | VMSIG_PROT_EXEC | VMSIG_PROT_USER);
	assert_int_equal(lab->ranges[2].prot, VMSIG_PROT_READ | VMSIG_PROT_USER);
	assert_int_equal(lab->ranges[3].gva, HIGH);
	assert_int_equal(lab->ranges[3].page_size, 2 * MIB);
	assert_int_equal(lab->ranges[3].prot, VMSIG_PROT_READ | VMSIG_PROT_WRITE);
}

static void a_map_of_a_part_has_that_part(void **state)
{
	struct lab *lab = *state;

	for (uint64_t i = 0; i < 8; i++)
		guest_map(&lab->guest, i * 4096, 0x10000 + i * 4096, GUEST_4K, GUEST_W);
	assert_int_equal(vmsig_pmap(lab->mem, lab->guest.root, 0x2000, 0x4fff, note_range, lab), 0);
	assert_int_equal(lab->n, 1);
	assert_int_equal(lab->ranges[0].gva, 0x2000);
	assert_int_equal(lab->ranges[0].len, 0x3000);
}

static void a_cycle_of_tables_ends(void **state)
{
	struct lab *lab = *state;
	uint64_t *root = (uint64_t *)(void *)(lab->guest.ram + lab->guest.root);
	uint64_t word;

	for (unsigned i = 0; i < 512; i++)
		root[i] = lab->guest.root | GUEST_P | GUEST_W;
	lab->n = 0;
	/* Each index chain ends in the table itself, so there is one huge range or an error,
	 * but no endless walk. */
	(void)!vmsig_pmap(lab->mem, lab->guest.root, 0, 1ull << 30, note_range, lab);
	assert_int_equal(vmsig_gva_read(lab->mem, lab->guest.root, 0x1000, &word, 8), 0);
}

static int count_range(void *ctx, const vmsig_range *range)
{
	struct lab *lab = ctx;

	lab->n++;
	return 0;
}

/* Rights that alternate leave nothing to merge: what is told is bounded by the RAM. */
static void a_map_without_end_is_cut_off(void **state)
{
	struct lab *lab = *state;
	uint64_t *root = (uint64_t *)(void *)(lab->guest.ram + lab->guest.root);

	for (unsigned i = 0; i < 512; i++)
		root[i] = lab->guest.root | GUEST_P | (i & 1 ? GUEST_W : 0);
	lab->n = 0;
	assert_int_equal(vmsig_pmap(lab->mem, lab->guest.root, 0, UINT64_MAX, count_range, lab),
		-VMSIG_ERR_BAD_PAGE_TABLE);
	assert_in_range(lab->n, 65536, 65536 + 4 * (lab->guest.size >> 12));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(every_match_is_found_in_order),
		T(matches_overlap),
		T(a_mask_leaves_bits_out),
		T(nothing_matches_across_a_gap),
		T(a_range_bounds_the_scan),
		T(the_visitor_can_stop),
		T(bad_patterns_are_refused),
		T(holes_are_not_allocated),
		T(virtual_matches_cross_pages_that_lie_apart),
		T(neighbours_with_equal_rights_are_one_range),
		T(a_map_of_a_part_has_that_part),
		T(a_cycle_of_tables_ends),
		T(a_map_without_end_is_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
