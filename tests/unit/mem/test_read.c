/* SPDX-License-Identifier: Apache-2.0 */
/* A holder's reads: layouts, page sizes, tables that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/guest.h"
#include "vmsig/vmsig_mem.h"

#define MIB (1ull << 20)
#define TABLES (8 * MIB)
#define SIZE (16 * MIB)
#define HIGH 0xffffffff81000000ull
#define FOUR_GIB (1ull << 32)

static void check_bytes(const uint8_t *buf, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], guest_byte(off + i));
}

static vmsig_mem *open_low(struct guest *guest, enum vmsig_mem_mode mode)
{
	vmsig_mem *mem = vmsig_mem_from_ro_fd(guest->fd, guest->size);

	assert_non_null(mem);
	assert_int_equal(vmsig_mem_set_levels(mem, guest->levels), 0);
	assert_int_equal(vmsig_mem_set_mode(mem, mode), 0);
	return mem;
}

static void reads_across_the_split(void **state)
{
	for (int mode = VMSIG_MEM_MAPPED; mode <= VMSIG_MEM_PREAD; mode++) {
		struct guest guest;
		uint8_t buf[8192];
		vmsig_mem *mem;

		guest_init(&guest, SIZE, 4, TABLES);
		guest_fill(&guest, 0, TABLES);
		mem = vmsig_mem_from_ro_fd(guest.fd, 4 * MIB + 100);
		assert_non_null(mem);
		assert_int_equal(vmsig_mem_set_mode(mem, mode), 0);
		assert_int_equal(vmsig_phys_read(mem, 4000, buf, 200), 0);
		check_bytes(buf, 4000, 200);
		assert_int_equal(vmsig_phys_read(mem, FOUR_GIB, buf, sizeof(buf)), 0);
		check_bytes(buf, 4 * MIB + 100, sizeof(buf));
		assert_int_equal(vmsig_phys_read(mem, 4 * MIB + 99, buf, 1), 0);
		assert_int_equal(
			vmsig_phys_read(mem, 4 * MIB + 99, buf, 2), -VMSIG_ERR_OUT_OF_RANGE);
		assert_int_equal(
			vmsig_phys_read(mem, FOUR_GIB - 1, buf, 2), -VMSIG_ERR_OUT_OF_RANGE);
		assert_int_equal(vmsig_phys_read(mem, FOUR_GIB + 12 * MIB - 101, buf, 1), 0);
		assert_int_equal(vmsig_phys_read(mem, FOUR_GIB + 12 * MIB - 101, buf, 2),
			-VMSIG_ERR_OUT_OF_RANGE);
		assert_int_equal(vmsig_phys_read(mem, UINT64_MAX, buf, 2), -VMSIG_ERR_OUT_OF_RANGE);
		assert_int_equal(vmsig_phys_read(mem, 0, buf, 0), 0);
		assert_null(vmsig_mem_close(mem));
		guest_deinit(&guest);
	}
}

/* Low of exactly 4 GiB: the two parts touch in space and in the file. */
static void split_at_four_gib_is_seamless(void **state)
{
	struct guest guest;
	uint8_t buf[300];
	vmsig_mem *mem;

	guest_init(&guest, FOUR_GIB + MIB, 4, TABLES);
	guest_fill(&guest, FOUR_GIB - 150, 300);
	mem = vmsig_mem_from_ro_fd(guest.fd, FOUR_GIB);
	assert_non_null(mem);
	assert_int_equal(vmsig_phys_read(mem, FOUR_GIB - 150, buf, 300), 0);
	check_bytes(buf, FOUR_GIB - 150, 300);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void segments_rule(void **state)
{
	/* Two that touch in space but not in the file, in no order, and one apart. */
	static const vmsig_memseg segs[] = {
		{.gpa = 0x101000, .len = 0x1800, .file_off = 0},
		{.gpa = 0x100000, .len = 0x1000, .file_off = 0x5000},
		{.gpa = 0x200000, .len = 0x1000, .file_off = 0x9000},
	};
	struct guest guest;
	uint8_t buf[0x2800];
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	mem = vmsig_mem_from_ro_fd_segs(guest.fd, segs, 3);
	assert_non_null(mem);
	assert_int_equal(vmsig_phys_read(mem, 0x100000, buf, sizeof(buf)), 0);
	check_bytes(buf, 0x5000, 0x1000);
	check_bytes(buf + 0x1000, 0, 0x1800);
	assert_int_equal(vmsig_phys_read(mem, 0x100001, buf, sizeof(buf)), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(vmsig_phys_read(mem, 0xfffff, buf, 2), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(vmsig_phys_read(mem, 0x200ffc, buf, 4), 0);
	check_bytes(buf, 0x9ffc, 4);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

/* Two files end to end, and a hole in guest-physical space: what a program that maps a place finds
 * there is what a read gives. */
static void places_are_where_reads_read(void **state)
{
	static const vmsig_memseg segs[] = {
		{.gpa = 0, .len = MIB, .file_off = 0},
		{.gpa = 2 * MIB, .len = SIZE, .file_off = MIB},
	};
	vmsig_phys_place place;
	struct guest guest;
	vmsig_memfile files[2];
	uint8_t buf[64], there[64];
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	files[0] = (vmsig_memfile){.fd = guest.fd, .size = 8 * MIB};
	files[1] = (vmsig_memfile){.fd = guest.fd, .size = 9 * MIB};
	mem = vmsig_mem_from_files(files, 2, 0, segs, 2);
	assert_non_null(mem);
	assert_int_equal(vmsig_phys_end(mem), 2 * MIB + SIZE);

	assert_int_equal(vmsig_phys_locate(mem, 100, &place), 0);
	assert_int_equal(place.offset, 100);
	assert_int_equal(place.len, MIB - 100);
	/* Up to where the first file ends, then in the second one. */
	assert_int_equal(vmsig_phys_locate(mem, 2 * MIB, &place), 0);
	assert_int_equal(place.offset, MIB);
	assert_int_equal(place.len, 7 * MIB);
	assert_int_equal(vmsig_phys_locate(mem, 9 * MIB + 5, &place), 0);
	assert_int_equal(place.offset, 5);
	assert_int_equal(place.len, 9 * MIB - 5);
	assert_int_equal(pread(place.fd, there, sizeof(there), (off_t)place.offset), sizeof(there));
	assert_int_equal(vmsig_phys_read(mem, 9 * MIB + 5, buf, sizeof(buf)), 0);
	assert_memory_equal(there, buf, sizeof(buf));

	assert_int_equal(vmsig_phys_locate(mem, MIB, &place), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(place.fd, -1);
	assert_int_equal(place.len, MIB);
	assert_int_equal(vmsig_phys_locate(mem, 2 * MIB + SIZE, &place), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(place.len, UINT64_MAX - (2 * MIB + SIZE));
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void virtual_pages(unsigned levels, enum vmsig_mem_mode mode)
{
	uint64_t user = levels == 5 ? 0x00ab000000000000ull : 0x7f1234000000ull;
	uint8_t *buf = malloc(4 * MIB);
	struct guest guest;
	vmsig_mem *mem;

	assert_non_null(buf);
	guest_init(&guest, SIZE, levels, TABLES);
	guest_fill(&guest, 0, TABLES);
	guest_map(&guest, user, 0x3000, GUEST_4K, GUEST_W);
	guest_map(&guest, user + GUEST_4K, 0x1000, GUEST_4K, GUEST_W);
	guest_map(&guest, user + 2 * GUEST_4K, 0x2000, GUEST_4K, GUEST_W);
	guest_map(&guest, HIGH, 2 * MIB, GUEST_2M, 0);
	guest_map(&guest, HIGH + GUEST_2M, 6 * MIB, GUEST_2M, 0);
	guest_map(&guest, UINT64_MAX - 4095, 0x7000, GUEST_4K, 0);
	guest_map(&guest, 0xffff888000000000ull, 0, GUEST_1G, 0);
	mem = open_low(&guest, mode);
	for (int again = 0; again < 2; again++) {
		memset(buf, 0, 4 * MIB);
		assert_int_equal(vmsig_gva_read(mem, guest.root, user + 10, buf, 3 * 4096 - 20), 0);
		check_bytes(buf, 0x300a, 4086);
		check_bytes(buf + 4086, 0x1000, 2 * 4096 - 10);
		assert_int_equal(vmsig_gva_read(mem, guest.root | 0xfff, HIGH, buf, 4 * MIB), 0);
		check_bytes(buf, 2 * MIB, 2 * MIB);
		check_bytes(buf + 2 * MIB, 6 * MIB, 2 * MIB);
		assert_int_equal(vmsig_gva_read(mem, guest.root, UINT64_MAX - 7, buf, 8), 0);
		check_bytes(buf, 0x7ff8, 8);
		assert_int_equal(vmsig_gva_read(mem, guest.root, UINT64_MAX - 7, buf, 9),
			-VMSIG_ERR_NOT_MAPPED);
		assert_int_equal(
			vmsig_gva_read(mem, guest.root, 0xffff888000012345ull, buf, 64), 0);
		check_bytes(buf, 0x12345, 64);
		/* Mapped by the 1 GiB page, but beyond RAM. */
		assert_int_equal(
			vmsig_gva_read(mem, guest.root, 0xffff888000000000ull + SIZE - 4, buf, 8),
			-VMSIG_ERR_OUT_OF_RANGE);
		assert_int_equal(vmsig_gva_read(mem, guest.root, user + 3 * 4096 - 1, buf, 2),
			-VMSIG_ERR_NOT_MAPPED);
		assert_int_equal(
			vmsig_gva_read(mem, guest.root, user - 1, buf, 2), -VMSIG_ERR_NOT_MAPPED);
		assert_int_equal(
			vmsig_gva_read(mem, guest.root, 1ull << 60, buf, 1), -VMSIG_ERR_NOT_MAPPED);
	}
	vmsig_mem_close(mem);
	guest_deinit(&guest);
	free(buf);
}

static void virtual_reads_of_every_page_size(void **state)
{
	virtual_pages(4, VMSIG_MEM_MAPPED);
	virtual_pages(5, VMSIG_MEM_MAPPED);
	virtual_pages(4, VMSIG_MEM_PREAD);
	virtual_pages(5, VMSIG_MEM_PREAD);
}

static void translate_tells_the_page(void **state)
{
	struct guest guest;
	vmsig_mem *mem;
	vmsig_range page;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_map(&guest, 0x400000, 0x5000, GUEST_4K, GUEST_U | GUEST_NX);
	guest_map(&guest, HIGH, 2 * MIB, GUEST_2M, GUEST_W | GUEST_G);
	mem = open_low(&guest, VMSIG_MEM_MAPPED);
	assert_int_equal(vmsig_gva_translate(mem, guest.root, 0x400123, &page), 0);
	assert_int_equal(page.gva, 0x400000);
	assert_int_equal(page.gpa, 0x5000);
	assert_int_equal(page.len, 4096);
	assert_int_equal(page.page_size, 4096);
	assert_int_equal(page.prot, VMSIG_PROT_READ | VMSIG_PROT_USER);
	assert_int_equal(vmsig_gva_translate(mem, guest.root, HIGH + 0x12345, &page), 0);
	assert_int_equal(page.gva, HIGH);
	assert_int_equal(page.gpa, 2 * MIB);
	assert_int_equal(page.page_size, GUEST_2M);
	assert_int_equal(page.prot, VMSIG_PROT_READ | VMSIG_PROT_WRITE | VMSIG_PROT_EXEC);
	memset(&page, 0x5a, sizeof(page));
	assert_int_equal(
		vmsig_gva_translate(mem, guest.root, 0x401000, &page), -VMSIG_ERR_NOT_MAPPED);
	assert_int_equal(page.gva, 0x5a5a5a5a5a5a5a5aull);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void bad_tables_are_typed_errors(void **state)
{
	struct guest guest;
	uint64_t outside = 1ull << 40, self;
	uint8_t buf[8];
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	guest_map(&guest, 0x1000, outside, GUEST_4K, 0);
	*guest_entry(&guest, guest.root, 4, 1ull << 39) = outside | GUEST_P;
	*guest_entry(&guest, guest.root, 4, 2ull << 39) = 0x5000 | GUEST_P | GUEST_PS;
	/* A 2 MiB page with reserved bits between PAT and its base. */
	guest_map(&guest, 3ull << 39, GUEST_2M + 0x4000, GUEST_2M, 0);
	*guest_entry(&guest, guest.root, 4, 511ull << 39) = guest.root | GUEST_P;
	mem = open_low(&guest, VMSIG_MEM_MAPPED);
	assert_int_equal(vmsig_gva_read(mem, guest.root, 0x1000, buf, 8), -VMSIG_ERR_OUT_OF_RANGE);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(vmsig_gva_read(mem, guest.root, i << 39, buf, 8),
			-VMSIG_ERR_BAD_PAGE_TABLE);
	/* The self-map is legal: through it the root reads as data. */
	self = ~0ull << 39 | 511ull << 30 | 511ull << 21 | 511ull << 12;
	assert_int_equal(vmsig_gva_read(mem, guest.root, self + 511 * 8, buf, 8), 0);
	assert_memory_equal(buf, guest_entry(&guest, guest.root, 4, 511ull << 39), 8);
	assert_int_equal(vmsig_gva_read(mem, outside, 0x1000, buf, 8), -VMSIG_ERR_BAD_PAGE_TABLE);
	assert_int_equal(vmsig_mem_set_levels(mem, 3), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_mem_set_levels(mem, 6), -VMSIG_ERR_BAD_REQUEST);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

/* RAM that ends inside a 4 KiB page, and one page out of two segments. */
static void pages_of_several_segments(void **state)
{
	const vmsig_memseg segs[] = {
		{.gpa = 0x10000, .len = 0x800, .file_off = 0x3000},
		{.gpa = 0x10800, .len = 0x900, .file_off = 0x1000},
		{.gpa = TABLES, .len = MIB, .file_off = TABLES},
	};
	struct guest guest;
	uint8_t buf[0x1100];
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	guest_map(&guest, 0x400000, 0x10000, GUEST_4K, 0);
	guest_map(&guest, 0x401000, 0x11000, GUEST_4K, 0);
	mem = vmsig_mem_from_ro_fd_segs(guest.fd, segs, 3);
	assert_non_null(mem);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(vmsig_gva_read(mem, guest.root, 0x400000, buf, 0x1100), 0);
		check_bytes(buf, 0x3000, 0x800);
		check_bytes(buf + 0x800, 0x1000, 0x900);
		assert_int_equal(vmsig_gva_read(mem, guest.root, 0x400001, buf, 0x1100),
			-VMSIG_ERR_OUT_OF_RANGE);
	}
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void flush_and_levels_empty_the_cache(void **state)
{
	struct guest guest;
	uint8_t byte;
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	guest_map(&guest, 0x400000, 0x1000, GUEST_4K, 0);
	mem = open_low(&guest, VMSIG_MEM_MAPPED);
	assert_int_equal(vmsig_gva_read(mem, guest.root, 0x400000, &byte, 1), 0);
	assert_int_equal(byte, guest_byte(0x1000));
	guest_map(&guest, 0x400000, 0x2000, GUEST_4K, 0);
	assert_int_equal(vmsig_gva_read(mem, guest.root, 0x400000, &byte, 1), 0);
	assert_int_equal(byte, guest_byte(0x1000));
	vmsig_mem_flush(mem);
	assert_int_equal(vmsig_gva_read(mem, guest.root, 0x400000, &byte, 1), 0);
	assert_int_equal(byte, guest_byte(0x2000));
	/* The same root read as five levels maps nothing there. */
	assert_int_equal(vmsig_mem_set_levels(mem, 5), 0);
	assert_int_not_equal(vmsig_gva_read(mem, guest.root, 0x400000, &byte, 1), 0);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

/* More pages and roots than the cache has room for, each with its own content. */
static void cache_never_confuses_spaces(void **state)
{
	struct guest guest;
	uint64_t roots[3];
	vmsig_mem *mem;

	guest_init(&guest, 64 * MIB, 4, 32 * MIB);
	guest_fill(&guest, 0, 32 * MIB);
	for (uint64_t i = 0; i < 3; i++) {
		guest.root = roots[i] = guest_table(&guest);
		for (uint64_t page = 0; page < 2048; page++)
			guest_map(&guest, page << 12, ((page * 3 + i) % 8192) << 12, GUEST_4K, 0);
	}
	mem = open_low(&guest, VMSIG_MEM_MAPPED);
	for (int again = 0; again < 2; again++) {
		for (uint64_t page = 0; page < 2048; page++) {
			for (uint64_t i = 0; i < 3; i++) {
				uint64_t word, at = ((page * 3 + i) % 8192) << 12;

				assert_int_equal(
					vmsig_gva_read(mem, roots[i], (page << 12) + 8, &word, 8),
					0);
				assert_memory_equal(&word, guest.ram + at + 8, 8);
			}
		}
	}
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void a_shrunken_file_is_an_error(void **state)
{
	struct guest guest;
	uint8_t buf[8];
	vmsig_mem *mem;

	guest_init(&guest, SIZE, 4, TABLES);
	guest_fill(&guest, 0, MIB);
	mem = open_low(&guest, VMSIG_MEM_PREAD);
	assert_int_equal(ftruncate(guest.fd, 4096 + 4), 0);
	assert_int_equal(vmsig_phys_read(mem, 4096, buf, 4), 0);
	assert_int_equal(vmsig_phys_read(mem, 4096, buf, 8), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(vmsig_phys_read(mem, 8192, buf, 8), -VMSIG_ERR_OUT_OF_RANGE);
	/* A mapped read of a page that was never touched is looked at first. */
	assert_int_equal(vmsig_mem_set_mode(mem, VMSIG_MEM_MAPPED), 0);
	assert_int_equal(vmsig_phys_read(mem, 8192, buf, 8), -VMSIG_ERR_OUT_OF_RANGE);
	assert_int_equal(vmsig_mem_set_mode(mem, 2), -VMSIG_ERR_BAD_REQUEST);
	vmsig_mem_close(mem);
	guest_deinit(&guest);
}

static void writing_is_refused(void **state)
{
	errno = 0;
	assert_int_equal(vmsig_gva_write(NULL, 0, 0, NULL, 0), -1);
	assert_int_equal(errno, EROFS);
	errno = 0;
	assert_int_equal(vmsig_phys_write(NULL, 0, "x", 1), -1);
	assert_int_equal(errno, EROFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_across_the_split),
		cmocka_unit_test(split_at_four_gib_is_seamless),
		cmocka_unit_test(segments_rule),
		cmocka_unit_test(places_are_where_reads_read),
		cmocka_unit_test(virtual_reads_of_every_page_size),
		cmocka_unit_test(translate_tells_the_page),
		cmocka_unit_test(bad_tables_are_typed_errors),
		cmocka_unit_test(pages_of_several_segments),
		cmocka_unit_test(flush_and_levels_empty_the_cache),
		cmocka_unit_test(cache_never_confuses_spaces),
		cmocka_unit_test(a_shrunken_file_is_an_error),
		cmocka_unit_test(writing_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
