/* SPDX-License-Identifier: Apache-2.0 */
/* Linux kernels in RAM that a test puts together: found, proven, and told from dead and forged
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/guest/image.h"
#include "vmsig/vmsig_error.h"

static const struct image_linux live = {
	.release = "6.1.0-live", .root = 0x200000, .text = 0x210000, .note = 0x220000, .levels = 4};
static const struct image_linux dead = {
	.release = "6.1.0-dead", .root = 0x300000, .text = 0x310000, .note = 0x020000, .levels = 4};
#define PROCESS_ROOT 0x230000ull /* of a process of the live kernel */

static int find(struct image_lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_find(&lab->image.memory, cr3, n, NULL, &lab->proof, lab->why, sizeof(lab->why));
}

static int reprove(struct image_lab *lab, const uint64_t *cr3, size_t n)
{
	return kcr3_reprove(&lab->image.memory, &lab->proof, cr3, n);
}

static void check_live(const struct image_lab *lab)
{
	assert_int_equal(lab->proof.system.os, VMSIG_OS_LINUX);
	assert_int_equal(lab->proof.kcr3, live.root);
	assert_string_equal(lab->proof.system.release, live.release);
}

static void a_kernel_is_found_and_proven(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {live.root | 0x7};

	image_put_linux(&lab->image, &live);
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
	assert_int_equal(lab->proof.levels, 4);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	assert_int_equal(find(lab, NULL, 0), 0);
}

/* Digest of where things are, in RAM that has nothing else in it. */
static uint64_t placement(const struct image_linux *kernel)
{
	struct image_lab lab = {0};
	const uint64_t cr3[] = {kernel->root};

	image_init(&lab.image);
	image_put_linux(&lab.image, kernel);
	assert_int_equal(find(&lab, cr3, 1), 0);
	image_deinit(&lab.image);
	return lab.proof.placement;
}

static void kaslr_tells_boots_apart(void **state)
{
	struct image_linux random = live, other;
	uint64_t first;

	/* Each boot of this one looks the same. */
	assert_int_equal(placement(&live), 0);
	random.offset = 0x1c000000;
	first = placement(&random);
	assert_true(first != 0);
	assert_true(placement(&random) == first);
	/* Another entry of the root. */
	other = random;
	other.direct_map = 0xffff9d0000000000ull;
	assert_true(placement(&other) != first);
	/* Another entry of the table below it: KASLR moves the direct map by 1 GiB. */
	other.direct_map = 0xffff888040000000ull;
	assert_true(placement(&other) != first);
}

/* Accessed and dirty bits come and go; a session does not. */
static void placement_is_of_addresses(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux random = live;
	const uint64_t cr3[] = {live.root};
	uint64_t *root = (uint64_t *)(void *)(lab->image.ram + live.root), first;

	random.offset = 0x1c000000;
	image_put_linux(&lab->image, &random);
	assert_int_equal(find(lab, cr3, 1), 0);
	first = lab->proof.placement;
	for (unsigned i = 0; i < 512; i++)
		root[i] |= root[i] ? 0x60 : 0;
	/* Of a process. */
	root[0] = 0x240000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_true(lab->proof.placement == first);
}

static void five_levels_are_found(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux five = live;
	const uint64_t cr3[] = {live.root};

	five.levels = 5;
	image_put_linux(&lab->image, &five);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.levels, 5);
	assert_int_equal(reprove(lab, cr3, 1), 0);
}

static void the_note_may_have_its_elf_header(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux with_header = live;

	with_header.note_offset = 24;
	image_put_linux(&lab->image, &with_header);
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(lab->proof.note_gpa, live.note + 24);
}

static void phys_base_may_be_negative(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux moved = live;

	moved.phys_base = -0x100000;
	image_put_linux(&lab->image, &moved);
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(lab->proof.kcr3, live.root);
}

/* A warm reset leaves the last kernel in RAM, intact down to its release string. */
static void a_dead_kernel_is_told_from_the_live_one(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};

	image_put_linux(&lab->image, &dead);
	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
}

static void a_dead_kernel_alone_is_refused(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t firmware[] = {0x100000};
	const uint64_t none[] = {0};

	image_put_linux(&lab->image, &dead);
	lab->image.ram[0x100000] = 0x3;
	assert_int_equal(find(lab, firmware, 1), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, dead.release));
	assert_int_equal(find(lab, none, 1), VMSIG_ERR_NOT_READY);
}

static void two_kernels_without_a_vcpu_are_no_guess(void **state)
{
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &dead);
	image_put_linux(&lab->image, &live);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "kcr3"));
}

static void copies_of_a_note_are_one_kernel(void **state)
{
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &live);
	memcpy(lab->image.ram + 0x500000 + 0x300000, lab->image.ram + live.note, 4096);
	assert_int_equal(find(lab, NULL, 0), 0);
	check_live(lab);
}

/* With page-table isolation a vCPU in user mode runs on the page behind the kernel's. */
static void the_users_half_of_a_root_pair_counts(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t user[] = {PROCESS_ROOT | 0x1000 | 0x80};

	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT);
	assert_int_equal(find(lab, user, 1), 0);
	check_live(lab);
}

/* Without it, a process's root may be any page. */
static void a_root_on_an_odd_page_counts(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t odd[] = {PROCESS_ROOT + 0x1000};

	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT + 0x1000);
	assert_int_equal(find(lab, odd, 1), 0);
}

static void one_of_several_vcpus_is_enough(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {0, 0x999000, live.root, UINT64_MAX};

	image_put_linux(&lab->image, &live);
	assert_int_equal(find(lab, cr3, 4), 0);
}

static void notes_that_lie_are_refused(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux lie = live;

	image_put_linux(&lab->image, &live);
	lie.release = "6.1.0-lie";
	image_put_note(&lab->image, &lie, "");
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	lie = live;
	lie.root = 0xffffff000ull;
	image_put_note(&lab->image, &lie, "");
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	lie.root = live.root + 8;
	image_put_note(&lab->image, &lie, "");
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	/* A key that stands there twice makes the whole note worthless. */
	image_put_note(&lab->image, &live, "OSRELEASE=6.1.0-live\n");
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void cyclic_tables_end(void **state)
{
	struct image_lab *lab = *state;
	uint64_t *root = (uint64_t *)(void *)(lab->image.ram + live.root);

	image_put_linux(&lab->image, &live);
	for (unsigned i = 0; i < 512; i++)
		root[i] = live.root | IMAGE_PRESENT;
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

static void ram_without_a_kernel_says_so(void **state)
{
	struct image_lab *lab = *state;

	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	assert_true(strlen(lab->why) > 0);
}

static void a_scan_can_be_cancelled(void **state)
{
	struct image_lab *lab = *state;
	atomic_bool cancel = true;

	image_put_linux(&lab->image, &live);
	assert_int_equal(kcr3_find(&lab->image.memory, NULL, 0, &cancel, &lab->proof, lab->why,
				 sizeof(lab->why)),
		VMSIG_ERR_TIMEOUT);
}

static void a_scan_allocates_no_holes(void **state)
{
	struct image_lab *lab = *state;
	struct stat before, after;

	image_put_linux(&lab->image, &live);
	assert_int_equal(fstat(lab->image.fd, &before), 0);
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(fstat(lab->image.fd, &after), 0);
	assert_int_equal(before.st_blocks, after.st_blocks);
	/* Also where nobody can tell holes from data. */
	lab->image.memory.files = NULL;
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(fstat(lab->image.fd, &after), 0);
	assert_int_equal(before.st_blocks, after.st_blocks);
}

static void a_file_that_shrinks_ends_the_search(void **state)
{
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &live);
	assert_int_equal(ftruncate(lab->image.fd, 0x100000), 0);
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	lab->image.memory.files = NULL;
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_OUT_OF_RANGE);
	assert_non_null(strstr(lab->why, "ended early"));
}

static void a_proof_ends_with_what_it_rests_on(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {live.root}, other[] = {dead.root};

	image_put_linux(&lab->image, &dead);
	image_put_linux(&lab->image, &live);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	assert_int_equal(reprove(lab, other, 1), VMSIG_ERR_NOT_READY);
	/* The release string goes: another kernel's data lies there now. */
	lab->image.ram[live.text + 130] ^= 1;
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	lab->image.ram[live.text + 130] ^= 1;
	assert_int_equal(reprove(lab, cr3, 1), 0);
	/* The note changes. */
	lab->image.ram[live.note + 12] ^= 1;
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	lab->image.ram[live.note + 12] ^= 1;
	/* The root goes. */
	memset(lab->image.ram + live.root, 0, 4096);
	assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

/* A kernel that panics and has a crash kernel appends the time of it to its note. It is the same
 * kernel, before and after. */
static void a_panic_that_the_note_tells_of_changes_nothing(void **state)
{
	static const char *const others[] = {"CRASHTIME=\n", "CRASHTIME=12x\n",
		"CRASHTIME=1\nX=1\n", "CRASHTIME=1\nCRASHTIME=2\n", "CRASHTIM=1\n"};
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {live.root};
	uint64_t digest;

	image_put_linux(&lab->image, &live);
	assert_int_equal(find(lab, cr3, 1), 0);
	digest = lab->proof.digest;
	image_put_note(&lab->image, &live, "CRASHTIME=1764194400\n");
	assert_int_equal(reprove(lab, cr3, 1), 0);
	assert_int_equal(find(lab, cr3, 1), 0);
	assert_int_equal(lab->proof.digest, digest);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		image_put_note(&lab->image, &live, others[i]);
		assert_int_equal(reprove(lab, cr3, 1), VMSIG_ERR_NOT_READY);
	}
}

/* Any process of the guest can write as many as it likes, below the true one. */
static void a_flood_of_notes_hides_nothing(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {live.root};
	struct image_linux fake = live;

	image_put_linux(&lab->image, &live);
	fake.release = "6.1.0-fake";
	for (uint64_t gpa = 0; gpa < 0x100000; gpa += 4096) {
		fake.note = gpa;
		image_put_note(&lab->image, &fake, "");
	}
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
}

/* 5.10: the note does not say where the name is, which is behind a counter. */
static void kernels_before_5_11_are_found(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {live.root};
	char *text = (char *)lab->image.ram + live.text;

	image_put_linux(&lab->image, &live);
	memmove(text + 4, text, 200);
	image_replace_text(&lab->image, live.note, "OFFSET(uts_namespace.name)=0\n", "");
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
	assert_int_equal(reprove(lab, cr3, 1), 0);
	/* Where it would be if it came first there is another string. */
	memmove(text, text + 4, 200);
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

/* The oldest have none of the keys that tell numbers apart. */
static void levels_that_a_note_does_not_say_are_tried(void **state)
{
	static const struct image_linux five = {.release = "4.14.0-five",
		.root = 0x300000,
		.text = 0x310000,
		.note = 0x020000,
		.levels = 5};
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &live);
	image_replace_text(
		&lab->image, live.note, "NUMBER(pgtable_l5_enabled)=0\nNUMBER(sme_mask)=0\n", "");
	assert_int_equal(find(lab, NULL, 0), 0);
	check_live(lab);
	assert_int_equal(lab->proof.levels, 4);
	memset(lab->image.ram + live.note, 0, 4096);
	image_put_linux(&lab->image, &five);
	image_replace_text(&lab->image, five.note, "NUMBER(pgtable_l5_enabled)=1\n", "");
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(lab->proof.kcr3, five.root);
	assert_int_equal(lab->proof.levels, 5);
	assert_int_equal(reprove(lab, NULL, 0), 0);
}

/* One that knows where its root lies shares the kernel's half and even its release. */
static void a_note_that_names_a_processs_root_is_refused(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	struct image_linux fake = live;

	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT);
	fake.root = PROCESS_ROOT;
	fake.note = 0x30000;
	image_put_note(&lab->image, &fake, "");
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
	assert_int_equal(lab->proof.note_gpa, live.note);
	/* The symbol's true address, and a phys_base that leads from there to its own root. */
	fake = live;
	fake.note = 0x30000;
	image_put_note(&lab->image, &fake, "");
	image_replace_text(&lab->image, fake.note, "phys_base)=0", "phys_base)=196608");
	assert_int_equal(live.root + 196608, PROCESS_ROOT);
	assert_int_equal(find(lab, cr3, 1), 0);
	check_live(lab);
	assert_int_equal(lab->proof.note_gpa, live.note);
}

/* Firmware and boot loaders have tables like that: a release string can be had anywhere. */
static void a_root_with_too_little_in_it_is_refused(void **state)
{
	struct image_lab *lab = *state;
	uint64_t *root = (uint64_t *)(void *)(lab->image.ram + live.root);

	image_put_linux(&lab->image, &live);
	memset(root + 256, 0, 255 * sizeof(*root));
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

/* More roots that hold together than are told apart: the guest's kernel did that. */
static void many_kernels_end(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux one = live;

	for (unsigned i = 0; i < 80; i++) {
		one.root = 0x800000 + i * 0x3000;
		one.text = one.root + 0x1000;
		one.note = one.root + 0x2000;
		image_put_linux(&lab->image, &one);
	}
	assert_int_equal(find(lab, NULL, 0), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(lab->why, "kernels are in RAM"));
}

/* With page-table isolation modify_ldt(2) gives a process an entry of its own. */
static void a_process_with_its_own_ldt_counts(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	uint64_t *process = (uint64_t *)(void *)(lab->image.ram + PROCESS_ROOT);

	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT);
	process[272] = 0x700000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), 0);
	process[271] = 0x700000 | IMAGE_PRESENT;
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

static void accessed_bits_do_not_matter(void **state)
{
	struct image_lab *lab = *state;
	const uint64_t cr3[] = {PROCESS_ROOT};
	uint64_t *process = (uint64_t *)(void *)(lab->image.ram + PROCESS_ROOT);

	image_put_linux(&lab->image, &live);
	image_clone_root(&lab->image, live.root, PROCESS_ROOT);
	process[511] ^= 0x60;
	assert_int_equal(find(lab, cr3, 1), 0);
	process[511] ^= 0x2;
	assert_int_equal(find(lab, cr3, 1), VMSIG_ERR_NOT_READY);
}

/* RAM that is no whole pages: windows begin and end where the configuration says. */
static void segments_may_begin_within_a_page(void **state)
{
	static const vmsig_memseg segs[] = {
		{.gpa = 0x10, .len = 0x1007, .file_off = 0x10},
		{.gpa = 0x1800, .len = IMAGE_SIZE - 0x1800 - 5, .file_off = 0x1800},
	};
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &live);
	physmap_deinit(&lab->image.map);
	assert_int_equal(physmap_init(&lab->image.map, segs, 2, IMAGE_SIZE), 0);
	assert_int_equal(find(lab, NULL, 0), 0);
	lab->image.memory.files = NULL;
	assert_int_equal(find(lab, NULL, 0), 0);
	check_live(lab);
}

/* Nothing behind it: the last page of RAM. */
static void a_note_at_the_end_of_ram_is_read(void **state)
{
	struct image_lab *lab = *state;
	struct image_linux last = live;

	last.note = IMAGE_SIZE - 4096;
	last.note_offset = 24;
	image_put_linux(&lab->image, &last);
	assert_int_equal(find(lab, NULL, 0), 0);
	assert_int_equal(reprove(lab, NULL, 0), 0);
}

static void a_proof_of_nothing_fails(void **state)
{
	struct image_lab *lab = *state;

	image_put_linux(&lab->image, &live);
	assert_int_equal(reprove(lab, NULL, 0), VMSIG_ERR_NOT_READY);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, image_lab_setup, image_lab_teardown)
	const struct CMUnitTest tests[] = {
		T(a_kernel_is_found_and_proven),
		T(kaslr_tells_boots_apart),
		T(placement_is_of_addresses),
		T(five_levels_are_found),
		T(the_note_may_have_its_elf_header),
		T(phys_base_may_be_negative),
		T(a_dead_kernel_is_told_from_the_live_one),
		T(a_dead_kernel_alone_is_refused),
		T(two_kernels_without_a_vcpu_are_no_guess),
		T(copies_of_a_note_are_one_kernel),
		T(the_users_half_of_a_root_pair_counts),
		T(a_root_on_an_odd_page_counts),
		T(one_of_several_vcpus_is_enough),
		T(notes_that_lie_are_refused),
		T(cyclic_tables_end),
		T(ram_without_a_kernel_says_so),
		T(a_scan_can_be_cancelled),
		T(a_scan_allocates_no_holes),
		T(a_file_that_shrinks_ends_the_search),
		T(a_proof_ends_with_what_it_rests_on),
		T(a_panic_that_the_note_tells_of_changes_nothing),
		T(a_flood_of_notes_hides_nothing),
		T(kernels_before_5_11_are_found),
		T(levels_that_a_note_does_not_say_are_tried),
		T(a_note_that_names_a_processs_root_is_refused),
		T(a_root_with_too_little_in_it_is_refused),
		T(many_kernels_end),
		T(a_process_with_its_own_ldt_counts),
		T(accessed_bits_do_not_matter),
		T(segments_may_begin_within_a_page),
		T(a_note_at_the_end_of_ram_is_read),
		T(a_proof_of_nothing_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
