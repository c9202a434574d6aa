/* SPDX-License-Identifier: Apache-2.0 */
/* Windows kernels in RAM that a test puts together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "proto/guest/ntimage.h"
#include "tests/support/ntpe.h"
#include "tests/unit/guest/image.h"
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
#define NT_GVA 0xfffff8031c400000ull
#define NT_GPA 0x800000ull
#define PROCESS_GVA 0xffff9a0123456000ull /* the pool */
#define PROCESS_GPA 0x900000ull

static uint64_t *root_at(struct image_lab *lab, uint64_t root)
{
	return (uint64_t *)(void *)(lab->image.ram + root);
}

/* What only Windows has, in the one place of it: under every root that was put. */
static void put_kernel(struct image_lab *lab, const struct ntpe *pe)
{
	const uint64_t root = SYSTEM_ROOT | 2; /* a PCID */

	ntpe_write(lab->image.ram + NT_GPA, pe);
	memcpy(lab->image.ram + PROCESS_GPA + 0xb40 + NTPE_DTB, &root, sizeof(root));
}

static const struct ntpe windows_10 = {.major = 10, .build = 19041, .process = PROCESS_GVA + 0xb40};

/* The shape alone: a recursive entry and enough of a kernel's half. */
static void put_shape(struct image_lab *lab, uint64_t root)
{
	for (unsigned i = 0; i < 8; i++)
		image_map(&lab->image, root, 4, 0xffff800000000000ull + ((uint64_t)i << 39),
			0x700000, IMAGE_PRESENT | IMAGE_NX);
	image_map(&lab->image, root, 4, ENTRY_GVA, ENTRY_GPA, IMAGE_PRESENT);
	root_at(lab, root)[SELF_INDEX] = root | IMAGE_PRESENT | IMAGE_NX;
}

static void put_root(struct image_lab *lab, uint64_t root)
{
	put_shape(lab, root);
	for (uint64_t at = 0; at < NTPE_SIZE; at += 4096)
		image_map(&lab->image, root, 4, NT_GVA + at, NT_GPA + at, IMAGE_PRESENT);
	image_map(&lab->image, root, 4, PROCESS_GVA, PROCESS_GPA, IMAGE_PRESENT | IMAGE_NX);
	put_kernel(lab, &windows_10);
}

/* A process: the kernel half of the System process but for the self-map, hyperspace and
 * session space, and some of a user's half. */
static void put_process(struct image_lab *lab, uint64_t root)
{
	image_clone_root(&lab->image, SYSTEM_ROOT, root);
	root_at(lab, root)[SELF_INDEX] = root | IMAGE_PRESENT | IMAGE_NX;
	root_at(lab, root)[HYPERSPACE_INDEX] = 0x710000 | IMAGE_PRESENT;
	root_at(lab, root)[SESSION_INDEX] = 0x720000 | IMAGE_PRESENT;
	root_at(lab, root)[0] = 0x700000 | IMAGE_PRESENT;
	root_at(lab, root)[3] = 0x700000 | IMAGE_PRESENT;
}

static void put_stub(struct image_lab *lab, uint64_t at, uint64_t root)
{
	uint8_t *stub = lab->image.ram + at;
	const uint64_t jump = 0x00000001000600e9ull | 0x4d00, entry = ENTRY_GVA;

	memcpy(stub, &jump, 8);
	memcpy(stub + 0x70, &entry, 8);
	memcpy(stub + 0xa0, &root, 8);
}

static int find(struct image_lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_find(&lab->image.memory, cr3, n, NULL, &lab->proof, lab->why, sizeof(lab->why));
}

static int reprove(struct image_lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_reprove(&lab->image.memory, &lab->proof, cr3, n);
}

static void the_start_block_leads_to_the_root(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT | 2};

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.system.os, VMSIG_OS_WINDOWS);
	assert_int_equal(lab->proof.system.proof, VMSIG_PROOF_LOW_STUB);
	assert_string_equal(lab->proof.system.release, "10.0.19041");
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	assert_int_equal(lab->proof.levels, 4);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	root_at(lab, SYSTEM_ROOT)[SELF_INDEX] = 0;
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

static void dummy_tables_are_passed_over(void **state)
{
	struct image_lab *lab = *state;

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
	struct image_lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	image_map(&lab->image, SYSTEM_ROOT, 4, ENTRY_GVA, ENTRY_GPA, IMAGE_PRESENT | IMAGE_NX);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void a_block_of_an_earlier_boot_is_refused(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t elsewhere[] = {0x900000};

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	lab->image.ram[0x900000] = 3;
	assert_int_equal(find(lab, elsewhere, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "Windows"));
}

static void without_a_block_the_self_map_decides(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	assert_int_equal(lab->proof.note_gpa, 0);
	assert_int_equal(lab->proof.system.proof, VMSIG_PROOF_SELF_MAP);
	assert_int_equal(lab->proof.banner_gva, NT_GVA);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	/* Nobody runs on it: nothing to go by. */
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void a_vcpu_in_a_process_proves_the_system_root(void **state)
{
	struct image_lab *lab = *state;
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

/* As the boot before left it: everything proves it but the vCPU. */
static void a_root_of_an_earlier_boot_is_refused(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, NULL, 0), 0);
	/* The same layout elsewhere, all of it. */
	put_shape(lab, PROCESS_ROOT);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "no vCPU"));
	/* One that has its self-map elsewhere shares nothing, whatever else is equal. */
	image_clone_root(&lab->image, SYSTEM_ROOT, PROCESS_ROOT);
	root_at(lab, PROCESS_ROOT)[SELF_INDEX] = 0;
	root_at(lab, PROCESS_ROOT)[SELF_INDEX + 1] = PROCESS_ROOT | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

static void a_table_that_shares_too_little_is_no_process(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	uint64_t *process = root_at(lab, PROCESS_ROOT);

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	process[502] = 0x730000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.note_gpa, STUB);
	process[503] = 0x740000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

/* The kernel's entry is no place where user mode gets. */
static void an_entry_of_the_users_is_refused(void **state)
{
	struct image_lab *lab = *state;
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

/* ---- other systems ---- */

/* FreeBSD, NetBSD, OpenBSD, Xen, hobby kernels: a vCPU runs on it, and it maps itself. */
static void the_shape_alone_is_no_windows(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};

	put_shape(lab, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "no ntoskrnl.exe"));
	assert_null(strstr(lab->why, "Windows"));
	/* Nor is it with what looks like a start block. */
	put_stub(lab, STUB, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

/* Xen's dom0 kernel: all 256 entries of the shape, and large pages where Windows would be. */
static void a_full_kernel_half_is_no_windows(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT}, large = 0x80;
	uint64_t *root = root_at(lab, SYSTEM_ROOT);
	uint64_t *tables[] = {root_at(lab, 0xa00000), root_at(lab, 0xa01000)};

	for (unsigned i = 256; i < 512; i++)
		root[i] = 0xa00000 | IMAGE_PRESENT;
	for (unsigned i = 0; i < 512; i++) {
		tables[0][i] = 0xa01000 | IMAGE_PRESENT;
		tables[1][i] = (uint64_t)i << 21 | IMAGE_PRESENT | large;
	}
	root[SELF_INDEX] = SYSTEM_ROOT | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "no ntoskrnl.exe"));
}

static void an_image_of_another_name_is_no_windows(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};
	struct ntpe other = windows_10;

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	other.name = "reactos.exe";
	put_kernel(lab, &other);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	other = windows_10;
	other.build = 2600;
	put_kernel(lab, &other);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	put_kernel(lab, &windows_10);
	assert_int_equal(find(lab, cr3, 1), 0);
}

/* A file of Windows in a user's memory, under a kernel that maps itself. */
static void an_image_that_users_may_read_is_no_kernel(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};
	uint64_t table = SYSTEM_ROOT;

	put_root(lab, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	for (unsigned shift = 39; shift >= 12; shift -= 9) {
		uint64_t *entry = &root_at(lab, table)[NT_GVA >> shift & 511];

		*entry |= 0x4;
		table = *entry & PGWALK_ADDR_MASK;
	}
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

/* The root that is served is the one that the kernel itself calls its System process's. */
static void the_system_process_decides(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	uint64_t *dtb = (uint64_t *)(void *)(lab->image.ram + PROCESS_GPA + 0xb40 + NTPE_DTB);
	struct ntpe early = windows_10;

	put_root(lab, SYSTEM_ROOT);
	put_process(lab, PROCESS_ROOT);
	/* One that looks exactly like the System process's. */
	memset(root_at(lab, PROCESS_ROOT), 0, 2048);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.kcr3, SYSTEM_ROOT);
	*dtb = DUMMY_ROOT;
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	early.process = 0;
	put_kernel(lab, &early);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "System process yet"));
}

static void a_proof_ends_with_the_image(void **state)
{
	static const uint32_t places[] = {
		0, NTPE_LFANEW, NTPE_LFANEW + 8, NTPE_DLL_NAME, NTPE_BUILD, NTPE_SYSTEM};
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};

	put_root(lab, SYSTEM_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		lab->image.ram[NT_GPA + places[i]] ^= 0x10;
		assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
		lab->image.ram[NT_GPA + places[i]] ^= 0x10;
		assert_int_equal(reprove(lab, cr3, 1), 0);
	}
}

/* Releases as each Windows names itself; the image may begin within a large page. */
static void releases_are_read(void **state)
{
	static const struct {
		struct ntpe pe;
		const char *release;
	} cases[] = {
		{{.major = 6, .minor = 1, .build = 7601}, "6.1.7601"},
		{{.major = 6, .minor = 3, .build = 9600}, "6.3.9600"},
		{{.major = 10, .build = 26100}, "10.0.26100"},
	};
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT}, gva = NT_GVA;
	uint64_t table = SYSTEM_ROOT;

	put_root(lab, SYSTEM_ROOT);
	for (unsigned shift = 39; shift > 21; shift -= 9)
		table = root_at(lab, table)[gva >> shift & 511] & PGWALK_ADDR_MASK;
	root_at(lab, table)[gva >> 21 & 511] = 0x600000 | IMAGE_PRESENT | 0x80;
	memset(lab->image.ram + NT_GPA, 0, NTPE_SIZE);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ntpe pe = cases[i].pe;

		pe.process = windows_10.process;
		ntpe_write(lab->image.ram + 0x7a5000, &pe);
		assert_int_equal(find(lab, cr3, 1), 0);
		assert_string_equal(lab->proof.system.release, cases[i].release);
		assert_int_equal(lab->proof.banner_gva, gva + 0x1a5000);
	}
}

/* Every page of a GiB calls itself one, and leads into its tables: it ends, and says so. */
static void a_space_full_of_half_images_ends(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {SYSTEM_ROOT};
	struct ntpe half = windows_10;
	uint64_t table;

	put_root(lab, SYSTEM_ROOT);
	half.name = "ntoskrnl.ex";
	put_kernel(lab, &half);
	/* The whole L3 table leads to one L2, that to one L1, that to the image. */
	table = root_at(lab, SYSTEM_ROOT)[496] & PGWALK_ADDR_MASK;
	for (unsigned i = 0; i < 512; i++) {
		root_at(lab, table)[i] = 0xa00000 | IMAGE_PRESENT;
		root_at(lab, 0xa00000)[i] = 0xa01000 | IMAGE_PRESENT;
		root_at(lab, 0xa01000)[i] = NT_GPA | IMAGE_PRESENT;
	}
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "no ntoskrnl.exe"));
}

static bool is_never_spent(void *ctx)
{
	return false;
}

/* What one root's tables have used up is gone for the next one's. */
static void all_roots_share_the_bound(void **state)
{
	struct image_lab *lab = *state;
	const struct pgwalk walk = {.read = lab->image.memory.read,
		.ctx = lab->image.memory.ctx,
		.root = SYSTEM_ROOT,
		.levels = 4};
	struct ntimage_search search = {.next = NTIMAGE_FIRST, .pages = 1};
	struct ntimage image;

	put_root(lab, SYSTEM_ROOT);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ntimage_find(&walk, &search, is_never_spent, NULL, &image),
			VMSIG_ERR_NOT_READY);
		assert_int_equal(search.pages, 0);
		search.next = NTIMAGE_FIRST;
	}
}

static void two_self_maps_are_none(void **state)
{
	struct image_lab *lab = *state;

	put_root(lab, SYSTEM_ROOT);
	put_stub(lab, STUB, SYSTEM_ROOT);
	root_at(lab, SYSTEM_ROOT)[SELF_INDEX + 1] = SYSTEM_ROOT | IMAGE_PRESENT;
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void blocks_outside_their_place_or_with_bad_roots_are_refused(void **state)
{
	static const uint64_t roots[] = {0, SYSTEM_ROOT + 8, 0xffffff000ull, 1ull << 40};
	struct image_lab *lab = *state;

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
#define T(f) cmocka_unit_test_setup_teardown(f, image_lab_setup, image_lab_teardown)
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
		T(the_shape_alone_is_no_windows),
		T(a_full_kernel_half_is_no_windows),
		T(an_image_of_another_name_is_no_windows),
		T(an_image_that_users_may_read_is_no_kernel),
		T(the_system_process_decides),
		T(a_proof_ends_with_the_image),
		T(releases_are_read),
		T(a_space_full_of_half_images_ends),
		T(all_roots_share_the_bound),
		T(two_self_maps_are_none),
		T(blocks_outside_their_place_or_with_bad_roots_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
