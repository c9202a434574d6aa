/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map from what a real QEMU 7.2 said; tests/data/mtree has the captures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/qemu/memmap.h"
#include "vmsig/vmsig_error.h"

#define FILE_MAX (64 << 10)
#define MEMDEV 1 /* elements of a capture's JSON: greeting, query-memdev, qom-list, ... */
#define OBJECTS 2

static char error[400];

static size_t load(const char *name, const char *suffix, char text[static FILE_MAX])
{
	char path[512];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), TEST_DATA "/mtree/%s.%s", name, suffix);
	file = fopen(path, "r");
	assert_non_null(file);
	len = fread(text, 1, FILE_MAX, file);
	fclose(file);
	return len;
}

static int map_load(const char *name, struct memmap *map)
{
	static char text[FILE_MAX];
	struct memmap_backend *backend;
	struct mtree mtree;
	json_t *answers;
	size_t len = load(name, "json", text);
	int r;

	answers = json_loadb(text, len, 0, NULL);
	assert_non_null(answers);
	r = memmap_init(map, json_object_get(json_array_get(answers, MEMDEV), "return"),
		json_object_get(json_array_get(answers, OBJECTS), "return"), error, sizeof(error));
	json_decref(answers);
	assert_int_equal(r, 0);
	len = load(name, "mtree", text);
	assert_int_equal(mtree_parse(&mtree, text, len, error, sizeof(error)), 0);
	r = memmap_place(map, &mtree, error, sizeof(error));
	mtree_deinit(&mtree);
	if (r)
		return r;
	while ((backend = memmap_next_file(map)))
		assert_int_equal(memmap_set_file(backend, backend->id, 0), 0);
	return memmap_finish(map, error, sizeof(error));
}

static void expect_map(const char *name, uint64_t low, uint64_t bytes, const char *machine)
{
	struct memmap map;
	size_t n;

	assert_int_equal(map_load(name, &map), 0);
	assert_int_equal(map.low, low);
	assert_int_equal(map.base_bytes, bytes);
	assert_int_equal(memmap_split(machine, bytes), low);
	n = low < bytes ? 3 : 2;
	assert_int_equal(map.nseg, n);
	assert_int_equal(map.segs[0].gpa, 0);
	assert_int_equal(map.segs[0].len, 0xa0000); /* VGA's window is a hole */
	assert_int_equal(map.segs[1].gpa, 0xc0000);
	assert_int_equal(map.segs[1].len, low - 0xc0000);
	assert_int_equal(map.segs[1].file_off, 0xc0000);
	if (n == 3) {
		assert_int_equal(map.segs[2].gpa, 1ull << 32);
		assert_int_equal(map.segs[2].file_off, low);
		assert_int_equal(map.segs[2].len, bytes - low);
	}
	memmap_deinit(&map);
}

static void test_layouts(void **state)
{
	expect_map("q35-512m", 512u << 20, 512u << 20, "pc-q35-7.2-machine");
	expect_map("i440fx-512m", 512u << 20, 512u << 20, "pc-i440fx-7.2-machine");
	expect_map("q35-4g", 0x80000000, 1ull << 32, "pc-q35-7.2-machine");
	expect_map("i440fx-4g", 0xc0000000, 1ull << 32, "pc-i440fx-7.2-machine");
	expect_map("q35-memfd", 512u << 20, 512u << 20, "pc-q35-7.2-machine");
}

static void expect_refusal(const char *name, const char *word)
{
	struct memmap map;

	assert_int_equal(map_load(name, &map), VMSIG_ERR_UNSUPPORTED);
	assert_non_null(strstr(error, word));
	memmap_deinit(&map);
}

static void test_refusals(void **state)
{
	expect_refusal("q35-plain", "memory-backend-file");
	expect_refusal("q35-private", "share=on");
	expect_refusal("q35-numa", "mem1, mem0");
	expect_refusal("q35-dimm", "dimmem, ram0");
}

/* Two backends that are windows of one file (offset=, QEMU 8.1). */
static void test_one_file(void **state)
{
	struct memmap map;

	assert_int_equal(map_load("q35-numa", &map), VMSIG_ERR_UNSUPPORTED);
	for (size_t i = 0; i < map.nbackends; i++) {
		bool first = strcmp(map.backends[i].id, "mem0") == 0;

		assert_int_equal(
			memmap_set_file(&map.backends[i], "/one", first ? 0 : 512u << 20), 0);
	}
	for (size_t i = 0; i < map.nseg; i++)
		assert_true(
			map.segs[i].gpa >= 512u << 20 || map.segs[i].file_off == map.segs[i].gpa);
	assert_int_equal(memmap_finish(&map, error, sizeof(error)), 0);
	assert_int_equal(map.segs[map.nseg - 1].gpa, 512u << 20);
	assert_int_equal(map.segs[map.nseg - 1].file_off, 512u << 20);
	assert_int_equal(map.low, 1u << 30);
	memmap_deinit(&map);
}

static void test_equal(void **state)
{
	struct memmap a, b, c;

	assert_int_equal(map_load("q35-4g", &a), 0);
	assert_int_equal(map_load("q35-4g", &b), 0);
	assert_int_equal(map_load("i440fx-4g", &c), 0);
	assert_true(memmap_equal(&a, &b));
	assert_false(memmap_equal(&a, &c));
	b.segs[1].gpa += 0x8000; /* firmware memory below 1 MiB */
	b.segs[1].len -= 0x8000;
	b.segs[1].file_off += 0x8000;
	assert_true(memmap_equal(&a, &b));
	b.segs[2].len -= 0x1000;
	assert_false(memmap_equal(&a, &b));
	memmap_deinit(&a);
	memmap_deinit(&b);
	memmap_deinit(&c);
}

static int parse(const char *lines, struct mtree *mtree)
{
	char text[4096];
	int n = snprintf(text, sizeof(text),
		"FlatView #1\n AS \"memory\", root: system\n Root memory region: system\n%s",
		lines);

	return mtree_parse(mtree, text, (size_t)n, error, sizeof(error));
}

static void test_lines(void **state)
{
	struct mtree mtree;

	assert_int_equal(parse("  0000000000000000-0000000000000fff (prio -1, ram): a b "
			       "@0000000000002000 KVM\r\n"
			       "  0000000000001000-0000000000001fff (prio 0, nv-ram): nvdimm\n"
			       "  fffffffffffff000-ffffffffffffffff (prio 0, rom): z KVM KVM\n"
			       "\nFlatView #2\n AS \"x\", root: y\n  junk\n",
				 &mtree),
		0);
	assert_int_equal(mtree.nranges, 2);
	assert_string_equal(mtree.ranges[0].name, "a b");
	assert_int_equal(mtree.ranges[0].off, 0x2000);
	assert_int_equal(mtree.ranges[0].len, 0x1000);
	assert_string_equal(mtree.ranges[1].name, "z");
	mtree_deinit(&mtree);
}

static void test_bad_lines(void **state)
{
	static const char *const bad[] = {
		"  00000000000000-0000000000000fff (prio 0, ram): a\n",
		"  0000000000001000-0000000000000fff (prio 0, ram): a\n",
		"  0000000000000000-ffffffffffffffff (prio 0, ram): a\n",
		"  0000000000000000-0000000000000fff (prio 0, ram): \n",
		"  0000000000000000-0000000000000fff (prio 0, ram): a @ffffffffffffffff\n",
		"  0000000000000000-0000000000001fff (prio 0, ram): a\n"
		"  0000000000001000-0000000000002fff (prio 0, ram): a\n",
		"  fffffffffffff000-ffffffffffffffff (prio 0, ram): a\n"
		"  0000000000001000-0000000000002fff (prio 0, ram): a\n",
	};
	struct mtree mtree;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i], &mtree), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(mtree_parse(&mtree, "", 0, error, sizeof(error)), VMSIG_ERR_BAD_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_one_file),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_bad_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
