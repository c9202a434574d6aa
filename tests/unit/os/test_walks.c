/* SPDX-License-Identifier: Apache-2.0 */
/* Walks of a kernel's objects in memory that is made here, of which some make no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/cache.h"
#include "clients/os/linux/log.h"
#include "clients/os/linux/maple.h"
#include "clients/os/linux/parts.h"
#include "clients/os/linux/radix.h"
#include "clients/os/names.h"
#include "tests/unit/os/memory.h"
#include "vmsig/vmsig_error.h"

#define MAP 0xffff888000000000ull /* all memory, as the guest sees it */
#define SIZE (4u << 20)

/* Where things are, in bytes of memory. */
enum {
	NODES = 0x10000,
	LOG = 0x20000,
	DESCS = 0x21000,
	INFOS = 0x22000,
	DATA = 0x23000,
	MAPPING = 0x30000,
	PAGES = 0x40000,
	MODULE = 0x50000,
	SYMBOLS = 0x100000
};

enum { PAGE_SIZE_OF_DESCRIPTION = 64 };

struct lab {
	struct memory memory;
	char names[64];
	uint64_t addrs[3];
	uint32_t offsets[3];
};

static void make_fields(struct lab *lab)
{
	static const struct {
		enum linux_field field;
		uint32_t offset, size;
	} fields[] = {{LINUX_NODE_SHIFT, 0, 1}, {LINUX_NODE_SLOTS, 0x28, 512},
		{LINUX_MAPPING_PAGES, 8, 8}, {LINUX_FOLIO_INDEX, 0x20, 8}, {LINUX_INODE_SIZE, 0, 8},
		{LINUX_INODE_MODE, 8, 2}, {LINUX_LOG_COUNT_BITS, 0, 4}, {LINUX_LOG_DESCS, 8, 8},
		{LINUX_LOG_INFOS, 16, 8}, {LINUX_LOG_HEAD, 24, 8}, {LINUX_LOG_TAIL, 32, 8},
		{LINUX_LOG_SIZE_BITS, 40, 4}, {LINUX_LOG_DATA, 48, 8}, {LINUX_DESC_STATE, 0, 8},
		{LINUX_DESC_BEGIN, 8, 8}, {LINUX_DESC_NEXT, 16, 8}, {LINUX_INFO_SEQ, 0, 8},
		{LINUX_INFO_TIME, 8, 8}, {LINUX_INFO_LEN, 16, 2}, {LINUX_INFO_FACILITY, 18, 1},
		{LINUX_MODULE_SYMS, 0, 8}, {LINUX_MODULE_NUM_SYMS, 8, 4},
		{LINUX_EXPORT_VALUE, 0, 4}};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		memory_field(&lab->memory, fields[i].field, fields[i].offset, fields[i].size);
	lab->memory.kernel.fields.size[LINUX_STRUCT_LOG_DESC] = 24;
	lab->memory.kernel.fields.size[LINUX_STRUCT_LOG_INFO] = 32;
	lab->memory.kernel.fields.size[LINUX_STRUCT_EXPORT] = 12;
	lab->memory.kernel.fields.size[LINUX_STRUCT_PAGE] = PAGE_SIZE_OF_DESCRIPTION;
}

static void make_symbols(struct lab *lab)
{
	static const char names[] = "Dprb\0Dvmemmap_base";

	memcpy(lab->names, names, sizeof(names));
	lab->addrs[0] = MAP + SYMBOLS;
	lab->addrs[1] = MAP + SYMBOLS + 8;
	lab->offsets[1] = 5;
	lab->memory.kernel.symbols = (struct linux_symbols){
		.addrs = lab->addrs, .names = lab->offsets, .count = 2, .text = lab->names};
	memory_put(&lab->memory, SYMBOLS, MAP + LOG);
	memory_put(&lab->memory, SYMBOLS + 8, MAP + PAGES);
}

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	assert_true(memory_make(&lab->memory, SIZE));
	memory_map_all(&lab->memory, MAP);
	make_fields(lab);
	make_symbols(lab);
	linux_begin(&lab->memory.kernel);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	memory_free(&lab->memory);
	free(lab);
	return 0;
}

/* ---- trees ---- */

static uint64_t node_at(unsigned i)
{
	return NODES + i * 0x400u;
}

static uint64_t to_node(unsigned i)
{
	return MAP + node_at(i) + 2;
}

static void put_slot(struct lab *lab, unsigned node, unsigned slot, uint64_t entry)
{
	memory_put(&lab->memory, node_at(node) + 0x28 + 8ull * slot, entry);
}

struct taken {
	uint64_t index[8], entry[8];
	size_t count;
};

static bool take(void *ctx, uint64_t index, uint64_t entry)
{
	struct taken *taken = ctx;

	if (taken->count < 8) {
		taken->index[taken->count] = index;
		taken->entry[taken->count] = entry;
	}
	taken->count++;
	return true;
}

static void trees_have_what_was_put_there(void **state)
{
	struct lab *lab = *state;
	struct taken taken = {0};

	lab->memory.bytes[node_at(0)] = 6;
	put_slot(lab, 0, 0, to_node(1));
	put_slot(lab, 0, 3, to_node(2));
	put_slot(lab, 1, 5, MAP + 0x1000);
	put_slot(lab, 1, 6, 5u << 2 | 2); /* the same, which covers two */
	put_slot(lab, 1, 9, 0x777 << 1 | 1);
	put_slot(lab, 2, 63, MAP + 0x2000);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 5), MAP + 0x1000);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 6), MAP + 0x1000);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 9), 0);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 255), MAP + 0x2000);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 1ull << 40), 0);
	linux_radix_visit(&lab->memory.kernel, to_node(0), take, &taken);
	assert_int_equal(lab->memory.kernel.fault, 0);
	assert_int_equal(taken.count, 3);
	assert_int_equal(taken.index[1], 6);
	assert_int_equal(taken.index[2], 255);
	assert_int_equal(taken.entry[2], MAP + 0x2000);
}

static void trees_that_contain_themselves_end(void **state)
{
	struct lab *lab = *state;
	struct taken taken = {0};

	for (unsigned i = 0; i < 64; i++)
		put_slot(lab, 0, i, to_node(0));
	lab->memory.bytes[node_at(0)] = 60;
	linux_radix_visit(&lab->memory.kernel, to_node(0), take, &taken);
	assert_int_equal(lab->memory.kernel.fault, VMSIG_ERR_TORN);
	linux_begin(&lab->memory.kernel);
	assert_int_equal(linux_radix_get(&lab->memory.kernel, to_node(0), 0), 0);
	assert_int_equal(lab->memory.kernel.fault, VMSIG_ERR_TORN);
}

static void trees_of_one_wide_entry_end(void **state)
{
	struct lab *lab = *state;
	struct taken taken = {0};

	lab->memory.bytes[node_at(0)] = 54;
	put_slot(lab, 0, 0, MAP + 0x1000);
	linux_radix_visit(&lab->memory.kernel, to_node(0), take, &taken);
	assert_int_equal(lab->memory.kernel.fault, VMSIG_ERR_TORN);
	assert_int_equal(taken.count, 0);
}

/* ---- trees of ranges ---- */

enum { MAPLE = 0x60000, LEAF = 1, RANGE = 2 };

static uint64_t maple_at(unsigned i)
{
	return MAPLE + i * 0x100u;
}

/* As the kernel names one below the root, which has 2 added. */
static uint64_t to_maple(unsigned i, unsigned type)
{
	return (MAP + maple_at(i)) | type << 3 | 4;
}

static void put_range(struct lab *lab, unsigned node, unsigned slot, uint64_t last, uint64_t entry)
{
	if (last)
		memory_put(&lab->memory, maple_at(node) + 8 + 8ull * slot, last);
	memory_put(&lab->memory, maple_at(node) + 0x80 + 8ull * slot, entry);
}

struct ranges {
	uint64_t first[4], last[4], entry[4];
	size_t count;
};

static bool take_range(void *ctx, uint64_t first, uint64_t last, uint64_t entry)
{
	struct ranges *ranges = ctx;

	assert_true(ranges->count < 4);
	ranges->first[ranges->count] = first;
	ranges->last[ranges->count] = last;
	ranges->entry[ranges->count++] = entry;
	return true;
}

static void ranges_are_found_in_trees_of_several_levels(void **state)
{
	struct lab *lab = *state;
	struct ranges ranges = {0};

	memory_field(&lab->memory, LINUX_MAPLE_RANGE_PIVOT, 8, 120);
	memory_field(&lab->memory, LINUX_MAPLE_RANGE_SLOT, 0x80, 128);
	put_range(lab, 0, 0, 0x8fff, to_maple(1, LEAF));
	put_range(lab, 0, 1, 0, to_maple(2, LEAF));
	put_range(lab, 1, 0, 0x1fff, 0);
	put_range(lab, 1, 1, 0x4fff, MAP + 0x1000);
	put_range(lab, 1, 2, 0x8fff, MAP + 0x2000);
	put_range(lab, 2, 0, 0x9fff, MAP + 0x3000);
	put_range(lab, 2, 1, 0, 0);
	linux_maple_visit(
		&lab->memory.kernel, (to_maple(0, RANGE) & ~7ull) | 2, take_range, &ranges);
	assert_int_equal(lab->memory.kernel.fault, 0);
	assert_int_equal(ranges.count, 3);
	assert_int_equal(ranges.first[0], 0x2000);
	assert_int_equal(ranges.last[1], 0x8fff);
	assert_int_equal(ranges.entry[2], MAP + 0x3000);
	/* Nothing but leaves may have a place without an entry. */
	put_range(lab, 0, 1, 0, 0);
	ranges.count = 0;
	linux_maple_visit(
		&lab->memory.kernel, (to_maple(0, RANGE) & ~7ull) | 2, take_range, &ranges);
	assert_int_equal(lab->memory.kernel.fault, VMSIG_ERR_TORN);
}

/* ---- pages of files ---- */

static void pages_are_those_of_the_file(void **state)
{
	struct lab *lab = *state;
	vmsig_file file = {.mapping = MAP + MAPPING, .size = 10 * LINUX_PAGE};
	uint8_t page[LINUX_PAGE];
	const unsigned frame = 0x200; /* of the first page of two */

	memory_put(&lab->memory, MAPPING + 8, to_node(0));
	put_slot(lab, 0, 4, MAP + PAGES + frame * PAGE_SIZE_OF_DESCRIPTION);
	put_slot(lab, 0, 5, 4u << 2 | 2);
	memory_put(&lab->memory, PAGES + frame * PAGE_SIZE_OF_DESCRIPTION + 0x20, 4);
	memcpy(lab->memory.bytes + (frame + 1) * LINUX_PAGE, "second", 7);
	assert_int_equal(linux_cache_page(&lab->memory.kernel, &file, 5, page), 0);
	assert_string_equal((char *)page, "second");
	assert_int_equal(
		linux_cache_page(&lab->memory.kernel, &file, 6, page), VMSIG_ERR_NOT_MAPPED);
	/* A description that says to be of another place. */
	memory_put(&lab->memory, PAGES + frame * PAGE_SIZE_OF_DESCRIPTION + 0x20, 400);
	assert_int_equal(linux_cache_page(&lab->memory.kernel, &file, 5, page), VMSIG_ERR_TORN);
}

/* ---- the log ---- */

static void make_log(struct lab *lab, unsigned count_bits, unsigned size_bits)
{
	memory_put(&lab->memory, LOG, count_bits);
	memory_put(&lab->memory, LOG + 8, MAP + DESCS);
	memory_put(&lab->memory, LOG + 16, MAP + INFOS);
	memory_put(&lab->memory, LOG + 40, size_bits);
	memory_put(&lab->memory, LOG + 48, MAP + DATA);
}

static void make_record(
	struct lab *lab, uint64_t id, uint64_t begin, uint64_t next, uint64_t at, const char *text)
{
	uint64_t index = id % 4;

	memory_put(&lab->memory, DESCS + 24 * index, 2ull << 62 | id);
	memory_put(&lab->memory, DESCS + 24 * index + 8, begin);
	memory_put(&lab->memory, DESCS + 24 * index + 16, next);
	memory_put(&lab->memory, INFOS + 32 * index, id * 10);
	memory_put(&lab->memory, INFOS + 32 * index + 16, strlen(text) | 3ull << 16 | 6ull << 29);
	memcpy(lab->memory.bytes + DATA + at + 8, text, strlen(text));
}

static void records_wrap_around(void **state)
{
	struct lab *lab = *state;
	vmsig_log_list list = {0};

	make_log(lab, 2, 6); /* 4 records, 64 bytes */
	make_record(lab, 5, 64, 88, 0, "one");
	make_record(lab, 6, 88, 128, 24, "ends there"); /* exactly at the end */
	make_record(lab, 7, 168, 192 + 24, 0, "begins anew");
	memory_put(&lab->memory, DESCS + 24 * 3 + 8, 168);
	memory_put(&lab->memory, LOG + 32, 5);
	memory_put(&lab->memory, LOG + 24, 7);
	assert_int_equal(linux_log_list(&lab->memory.kernel, &list), 0);
	assert_false(list.partial);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.records[1].text, "ends there");
	assert_string_equal(list.records[2].text, "begins anew");
	assert_int_equal(list.records[2].sequence, 70);
	assert_int_equal(list.records[2].facility, 3);
	assert_int_equal(list.records[2].level, 6);
	linux_log_clear(&list);
	free(list.records);
}

static void logs_without_end_end(void **state)
{
	static const struct {
		unsigned count_bits, size_bits;
		uint64_t head;
	} odd[] = {{60, 6, 7}, {2, 63, 7}, {0, 6, 7}, {2, 6, 1ull << 60}};
	struct lab *lab = *state;
	vmsig_log_list list = {0};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		make_log(lab, odd[i].count_bits, odd[i].size_bits);
		memory_put(&lab->memory, LOG + 24, odd[i].head);
		assert_int_equal(linux_log_list(&lab->memory.kernel, &list), 0);
		assert_true(list.partial);
		assert_int_equal(list.count, 0);
	}
	free(list.records);
}

/* ---- exports ---- */

static void exports_are_counted_by_the_guest_and_bounded_here(void **state)
{
	struct lab *lab = *state;
	vmsig_module module = {.object = MAP + MODULE};
	vmsig_name_list list = {0};
	int32_t words[2] = {0x100, 0x200 - 4};

	memory_put(&lab->memory, MODULE, MAP + MODULE + 0x40);
	memory_put(&lab->memory, MODULE + 8, 1);
	memcpy(lab->memory.bytes + MODULE + 0x40, words, sizeof(words));
	memcpy(lab->memory.bytes + MODULE + 0x240, "offered", 8);
	assert_int_equal(linux_parts_exports(&lab->memory.kernel, &module, &list), 0);
	assert_false(list.partial);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.names[0].addr, MAP + MODULE + 0x140);
	assert_string_equal(list.names[0].name, "offered");
	memory_put(&lab->memory, MODULE + 8, UINT32_MAX);
	assert_int_equal(linux_parts_exports(&lab->memory.kernel, &module, &list), 0);
	assert_true(list.partial);
	names_clear(&list);
	free(list.names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(trees_have_what_was_put_there, setup, teardown),
		cmocka_unit_test_setup_teardown(trees_that_contain_themselves_end, setup, teardown),
		cmocka_unit_test_setup_teardown(trees_of_one_wide_entry_end, setup, teardown),
		cmocka_unit_test_setup_teardown(
			ranges_are_found_in_trees_of_several_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(pages_are_those_of_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(records_wrap_around, setup, teardown),
		cmocka_unit_test_setup_teardown(logs_without_end_end, setup, teardown),
		cmocka_unit_test_setup_teardown(
			exports_are_counted_by_the_guest_and_bounded_here, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
