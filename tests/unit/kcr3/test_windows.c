/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/kcr3/image.h"
#include "vmsig/vmsig_error.h"

#define SYSTEM_ROOT 0x1aa000ull
#define PROCESS_ROOT 0x2bb000ull
#define DUMMY_ROOT 0x0cc000ull
#define ENTRY_GVA 0xfffff80312345000ull
#define ENTRY_GPA 0x600000ull
#define SELF_INDEX 493 /* Windows rolls it at boot; any entry of the upper half */
#define HYPERSPACE_INDEX 500
#define SESSION_INDEX 501
#define STUB 0x13000ull

struct lab {
	struct image image;
	struct kcr3_proof proof;
	char why[256];
};

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	image_init(&lab->image);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	image_deinit(&lab->image);
	free(lab);
	return 0;
}

static uint64_t *root_at(struct lab *lab, uint64_t root)
{
	return (uint64_t *)(void *)(lab->image.ram + root);
}

static void put_root(struct lab *lab, uint64_t root)
{
	for (unsigned i = 0; i < 8; i++)
		image_map(&lab->image, root, 4, 0xffff800000000000ull + ((uint64_t)i << 39),
			0x700000, IMAGE_PRESENT | IMAGE_NX);
	image_map(&lab->image, root, 4, ENTRY_GVA, ENTRY_GPA, IMAGE_PRESENT);
	root_at(lab, root)[SELF_INDEX] = root | IMAGE_PRESENT | IMAGE_NX;
}

/* A process: the kernel half of the System process but for the self-map, hyperspace and
 * session space, and some of a user's half. */
static void put_process(struct lab *lab, uint64_t root)
{
	image_clone_root(&lab->image, SYSTEM_ROOT, root);
	root_at(lab, root)[SELF_INDEX] = root | IMAGE_PRESENT | IMAGE_NX;
	root_at(lab, root)[HYPERSPACE_INDEX] = 0x710000 | IMAGE_PRESENT;
	root_at(lab, root)[SESSION_INDEX] = 0x720000 | IMAGE_PRESENT;
	root_at(lab, root)[0] = 0x700000 | IMAGE_PRESENT;
	root_at(lab, root)[3] = 0x700000 | IMAGE_PRESENT;
}

static void put_stub(struct lab *lab, uint64_t at, uint64_t root)
{
	uint8_t *stub = lab->image.ram + at;
	const uint64_t jump = 0x00000001000600e9ull | 0x4d00, entry = ENTRY_GVA;

	memcpy(stub, &jump, 8);
	memcpy(stub + 0x70, &entry, 8);
	memcpy(stub + 0xa0, &root, 8);
}

static int find(struct lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_find(&lab->image.memory, cr3, n, NULL, &lab->proof, lab->why, sizeof(lab->why));
}

static int reprove(struct lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_reprove(&lab->image.memory, &lab->proof, cr3, n);
}

static void the_start_block_leads_to_the_root(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT | 2};

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.os, KCR3_OS_WINDOWS);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	assert_int_equal(lab->proof.levels, 4);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	root_at(lab, SYSTEM_ROOT)[SELF_INDEX] = 0;
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

static void dummy_tables_are_passed_over(void **state)
{
	struct lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	/* The first block that looks right names a table without a kernel behind it. */
	root_at(lab, DUMMY_ROOT)[SELF_INDEX] = DUMMY_ROOT | IMAGE_PRESENT;
	put_stub(lab, 0x2000, DUMMY_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
}

static void an_entry_that_cannot_execute_is_refused(void **state)
{
	struct lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	image_map(&lab->image, SYSTEM_ROOT, 4, ENTRY_GVA, ENTRY_GPA, IMAGE_PRESENT | IMAGE_NX);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void a_block_of_an_earlier_boot_is_refused(void **state)
{
	struct lab *lab = *state;
	const uint64_t elsewhere[] = {0x900000};

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	lab->image.ram[0x900000] = 3;
	assert_int_equal(find(lab, elsewhere, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "Windows"));
}

static void without_a_block_the_self_map_decides(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	assert_int_equal(lab->proof.note_gpa, 0);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	/* Nobody runs on it: nothing to go by. */
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void a_vcpu_in_a_process_proves_the_system_root(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT | 0x5};

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	/* Also when nothing but the self-maps is left to go by. */
	memset(lab->image.ram + STUB, 0, 4096);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
}

/* The same layout at other places, as the boot before left it. */
static void a_root_of_an_earlier_boot_is_refused(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};

	put_root(lab, SYSTEM_ROOT);
	put_root(lab, PROCESS_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, PROCESS_ROOT);
	/* One that has its self-map elsewhere shares nothing, whatever else is equal. */
	image_clone_root(&lab->image, SYSTEM_ROOT, PROCESS_ROOT);
	root_at(lab, PROCESS_ROOT)[SELF_INDEX] = 0;
	root_at(lab, PROCESS_ROOT)[SELF_INDEX + 1] = PROCESS_ROOT | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, PROCESS_ROOT);
}

static void a_table_that_shares_too_little_is_no_process(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	uint64_t *process = root_at(lab, PROCESS_ROOT);

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	process[502] = 0x730000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.note_gpa, STUB);
	process[503] = 0x740000 | IMAGE_PRESENT;
	/* Not the block's root, only the process's own is left. */
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, PROCESS_ROOT);
	/* The least that a root may have, and half of that a process's own. */
	memset(process + 500, 0, 12 * sizeof(*process));
	memset(root_at(lab, SYSTEM_ROOT) + 260, 0, 4 * sizeof(*process));
	memset(process + 260, 0, 4 * sizeof(*process));
	process[496] = root_at(lab, SYSTEM_ROOT)[496];
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	process[256] = process[257] = process[258] = 0x750000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, PROCESS_ROOT);
}

/* The kernel's entry is no place where user mode gets. */
static void an_entry_of_the_users_is_refused(void **state)
{
	struct lab *lab = *state;
	uint64_t table = SYSTEM_ROOT;

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	for (unsigned shift = 39; shift >= 12; shift -= 9) {
		uint64_t *entry = &root_at(lab, table)[ENTRY_GVA >> shift & 511];

		assert_int_equal(find(lab, NULL, 0), 0);
		*entry |= 0x4;
		table = *entry & PGWALK_ADDR_MASK;
	}
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void roots_that_look_alike_are_no_guess(void **state)
{
	struct lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	memset(root_at(lab, PROCESS_ROOT), 0, 2048);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "System"));
}

static void two_self_maps_are_none(void **state)
{
	struct lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	root_at(lab, SYSTEM_ROOT)[SELF_INDEX + 1] = SYSTEM_ROOT | IMAGE_PRESENT;
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void blocks_outside_their_place_or_with_bad_roots_are_refused(void **state)
{
	static const uint64_t roots[] = {0, SYSTEM_ROOT + 8, 0xffffff000ull, 1ull << 40};
	struct lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		put_stub(lab, STUB, roots[i]);
		assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	}
	memset(lab->image.ram + STUB, 0, 4096);
	put_stub(lab, 0, SYSTEM_ROOT);
	put_stub(lab, 0xa0000, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	put_stub(lab, 0x9f000, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_start_block_leads_to_the_root),
		T(dummy_tables_are_passed_over),
		T(an_entry_that_cannot_execute_is_refused),
		T(a_block_of_an_earlier_boot_is_refused),
		T(without_a_block_the_self_map_decides),
		T(a_vcpu_in_a_process_proves_the_system_root),
		T(a_root_of_an_earlier_boot_is_refused),
		T(a_table_that_shares_too_little_is_no_process),
		T(an_entry_of_the_users_is_refused),
		T(roots_that_look_alike_are_no_guess),
		T(two_self_maps_are_none),
		T(blocks_outside_their_place_or_with_bad_roots_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
