/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a search goes through RAM: in steps that are short whatever lies there, judging each
 * thing once, and with a bound behind which nothing can hide. RAM is made up as it is read, so
 * that a guest may be as large and as full as it likes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/guest/kcr3.h"
#include "proto/guest/memo.h"
#include "vmsig/vmsig_error.h"

#define PAGE 4096ull
#define KERNEL_MAP UINT64_C(0xffffffff80000000)
#define MIB (1ull << 20)
#define STEP_MOST (4 * MIB) /* a step's share, and the judging that was begun in it */

/* The live kernel, in the last pages of RAM. */
enum { ROOT, TABLE3, TABLE2, TABLE1, UTS, NOTE, KERNEL_PAGES };

struct ram {
	uint64_t size;       /* bytes */
	bool different;      /* whether each false note differs from the others */
	uint64_t read;       /* bytes, since it was set to 0 */
	uint64_t root_reads; /* of the top-level table that false notes name */
};

static uint64_t kernel_at(const struct ram *ram, unsigned page)
{
	return ram->size - (KERNEL_PAGES - page) * PAGE;
}

static void put_note(char *page, const char *release, uint64_t root, uint64_t uts)
{
	snprintf(page, PAGE,
		"OSRELEASE=%s\nSYMBOL(init_uts_ns)=%" PRIx64 "\nSYMBOL(swapper_pg_dir)=%" PRIx64
		"\nOFFSET(uts_namespace.name)=0\nNUMBER(phys_base)=0\n"
		"NUMBER(pgtable_l5_enabled)=0\n",
		release, KERNEL_MAP + uts, KERNEL_MAP + root);
}

static void put_kernel_page(const struct ram *ram, unsigned which, char *page)
{
	uint64_t entries[512] = {0};

	switch (which) {
	case ROOT:
		entries[511] = kernel_at(ram, TABLE3) | 3;
		entries[273] = kernel_at(ram, TABLE3) | 3;
		break;
	case TABLE3:
		entries[510] = kernel_at(ram, TABLE2) | 3;
		break;
	case TABLE2:
		entries[(ram->size - 1) >> 21 & 511] = kernel_at(ram, TABLE1) | 3;
		break;
	case TABLE1:
		for (unsigned i = 0; i < KERNEL_PAGES; i++)
			entries[kernel_at(ram, i) >> 12 & 511] = kernel_at(ram, i) | 3;
		break;
	case UTS:
		strcpy(page + 130, "6.1.0-live");
		return;
	default:
		put_note(page, "6.1.0-live", kernel_at(ram, ROOT), kernel_at(ram, UTS));
		return;
	}
	memcpy(page, entries, sizeof(entries));
}

/* Every other page is a note that is well-formed and names the kernel's own root. */
static void put_page(const struct ram *ram, uint64_t gpa, char *page)
{
	char release[64];

	memset(page, 0, PAGE);
	if (gpa >= kernel_at(ram, 0)) {
		put_kernel_page(ram, (unsigned)((gpa - kernel_at(ram, 0)) / PAGE), page);
		return;
	}
	snprintf(release, sizeof(release), "6.1.0-%" PRIx64, ram->different ? gpa : 0);
	put_note(page, release, kernel_at(ram, ROOT), kernel_at(ram, UTS));
}

static int read_gpa(void *ctx, uint64_t gpa, void *buf, size_t len)
{
	struct ram *ram = ctx;
	char page[PAGE], *to = buf;

	if (gpa > ram->size || len > ram->size - gpa)
		return VMSIG_ERR_OUT_OF_RANGE;
	ram->read += len;
	ram->root_reads += len == 8 && (gpa & ~(PAGE - 1)) == kernel_at(ram, ROOT);
	while (len) {
		size_t into = gpa & (PAGE - 1), n = PAGE - into < len ? PAGE - into : len;

		put_page(ram, gpa - into, page);
		memcpy(to, page + into, n);
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

struct search {
	struct ram ram;
	vmsig_memseg seg;
	struct physmap map;
	struct kcr3_memory memory;
	uint64_t cr3;
	unsigned steps;
	char why[256];
	struct kcr3_proof proof;
};

static void search_init(struct search *search, uint64_t size)
{
	memset(search, 0, sizeof(*search));
	search->ram.size = size;
	search->seg.len = size;
	search->map = (struct physmap){.segs = &search->seg, .nseg = 1};
	search->memory =
		(struct kcr3_memory){.read = read_gpa, .ctx = &search->ram, .map = &search->map};
	search->cr3 = kernel_at(&search->ram, ROOT);
}

/* Every step within bounds; where to go on comes back through *notes. */
static int search_run(struct search *search, size_t nvcpu, uint64_t *notes)
{
	struct kcr3_scan *scan;
	int r;

	assert_int_equal(kcr3_scan_new(&scan, &search->memory, &search->cr3, nvcpu, *notes), 0);
	search->steps = 0;
	do {
		search->ram.read = 0;
		r = kcr3_scan_step(scan);
		search->steps++;
		assert_true(search->ram.read <= STEP_MOST);
	} while (r == VMSIG_ERR_WOULD_BLOCK);
	search->proof = *kcr3_scan_proof(scan);
	snprintf(search->why, sizeof(search->why), "%s", kcr3_scan_why(scan));
	*notes = kcr3_scan_notes_next(scan);
	kcr3_scan_free(scan);
	return r;
}

static void a_search_goes_in_short_steps(void **state)
{
	struct search search;
	uint64_t notes = 0;

	(void)state;
	search_init(&search, 64 * MIB);
	search.ram.different = true;
	assert_int_equal(search_run(&search, 1, &notes), 0);
	assert_int_equal(search.proof.kcr3, search.cr3);
	assert_string_equal(search.proof.system.release, "6.1.0-live");
	assert_int_equal(notes, 0);
	assert_true(search.steps >= 64);
}

/* Each look for the end of the data costs as much as all the data that follows. */
static unsigned hole_looks;

off_t lseek(int fd, off_t offset, int whence)
{
	hole_looks += whence == SEEK_HOLE;
	return syscall(SYS_lseek, fd, offset, whence);
}

static void full_ram_is_not_looked_through_again_in_each_step(void **state)
{
	struct search search;
	uint64_t notes = 0;
	int fd = memfd_create("ram", MFD_CLOEXEC);
	const uint64_t size = 64 * MIB;
	struct span span;

	(void)state;
	search_init(&search, 64 * MIB);
	search.ram.different = true;
	for (uint64_t at = 0; at < 64 * MIB; at += PAGE)
		assert_int_equal(pwrite(fd, "", 1, (off_t)at), 1);
	assert_int_equal(ftruncate(fd, 64 * MIB), 0);
	assert_int_equal(span_init(&span, &fd, &size, 1), 0);
	search.memory.files = &span;
	hole_looks = 0;
	assert_int_equal(search_run(&search, 1, &notes), 0);
	assert_true(search.steps >= 64);
	assert_true(hole_looks <= 1);
	span_close(&span);
}

static void the_same_note_is_judged_once(void **state)
{
	struct search search;
	uint64_t notes = 0, alone;

	(void)state;
	search_init(&search, 64 * MIB);
	assert_int_equal(search_run(&search, 1, &notes), 0);
	alone = search.ram.root_reads;
	/* Two judged, the false one and the true one: a few walks each, for 16,000 notes. */
	assert_true(alone <= 8);
}

/* 75,000 different ones below the true one. */
static void nothing_hides_behind_many_notes(void **state)
{
	struct search search;
	uint64_t notes = 0, whole = 0;

	(void)state;
	search_init(&search, 293 * MIB);
	search.ram.different = true;
	assert_int_equal(search_run(&search, 1, &notes), VMSIG_ERR_NOT_READY);
	assert_non_null(strstr(search.why, "different notes"));
	assert_true(notes > 0);
	/* Without a vCPU what the first search judged is not known to the second. */
	whole = notes;
	assert_int_equal(search_run(&search, 0, &whole), VMSIG_ERR_NOT_READY);
	assert_int_equal(search_run(&search, 1, &notes), 0);
	assert_int_equal(search.proof.kcr3, search.cr3);
	assert_int_equal(notes, 0);
}

static void a_search_can_be_left(void **state)
{
	struct search search;
	struct kcr3_scan *scan;

	(void)state;
	search_init(&search, 64 * MIB);
	assert_int_equal(kcr3_scan_new(&scan, &search.memory, NULL, 0, 0), 0);
	assert_int_equal(kcr3_scan_step(scan), VMSIG_ERR_WOULD_BLOCK);
	assert_null(kcr3_scan_free(scan));
	assert_null(kcr3_scan_free(NULL));
}

static void a_memo_knows_what_it_has_seen(void **state)
{
	struct memo memo;

	(void)state;
	assert_int_equal(memo_init(&memo), 0);
	for (unsigned i = 0; i < 10000; i++) {
		unsigned char thing[7] = {(unsigned char)i, (unsigned char)(i >> 8)};

		assert_int_equal(memo_add(&memo, thing, sizeof(thing)), 0);
		assert_int_equal(memo_add(&memo, thing, sizeof(thing)), VMSIG_ERR_BUSY);
		/* Shorter, and so something else. */
		assert_int_equal(memo_add(&memo, thing, 2), 0);
	}
	assert_int_equal(memo.count, 20000);
	memo_deinit(&memo);
}

/* Vector of the authors: key 00..0f, message 00..0e. */
static void the_digest_is_siphash(void **state)
{
	struct memo memo = {.key = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull}};
	unsigned char message[15];

	(void)state;
	for (unsigned i = 0; i < sizeof(message); i++)
		message[i] = (unsigned char)i;
	assert_int_equal(memo_add(&memo, message, sizeof(message)), 0);
	for (size_t i = 0; i < memo.size; i++)
		assert_true(!memo.slots[i] || memo.slots[i] == 0xa129ca6149be45e5ull);
	memo_deinit(&memo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_search_goes_in_short_steps),
		cmocka_unit_test(full_ram_is_not_looked_through_again_in_each_step),
		cmocka_unit_test(the_same_note_is_judged_once),
		cmocka_unit_test(nothing_hides_behind_many_notes),
		cmocka_unit_test(a_search_can_be_left),
		cmocka_unit_test(a_memo_knows_what_it_has_seen),
		cmocka_unit_test(the_digest_is_siphash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
