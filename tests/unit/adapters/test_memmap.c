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
}

/* Where each file begins to be RAM, and that QEMU is asked about each. */
static void expect_files(struct memmap *map, const char *const *ids, const uint64_t *gpas, size_t n)
{
	assert_int_equal(map->nfiles, n);
	for (size_t i = 0; i < n; i++) {
		struct memmap_file *file = memmap_next_probe(map);

		assert_ptr_equal(file, &map->files[i]);
		assert_string_equal(file->backend->id, ids[i]);
		assert_int_equal(memmap_probe(map, file), gpas[i]);
		memmap_set_hva(map, file, 0x7f0000000000 + i);
		assert_int_equal(file->hva, 0x7f0000000000 + i);
		assert_int_equal(file->hva_offset, i ? 0 : gpas[0]);
	}
	assert_null(memmap_next_probe(map));
	for (size_t i = 0; i < map->nseg; i++)
		assert_ptr_equal(map->files[memmap_seg_file(map, i)].backend,
			&map->backends[map->owners[i]]);
}

static void test_several_files(void **state)
{
	static const char *const nodes[] = {"mem0", "mem1"}, *const dimms[] = {"ram0", "dimmem"};
	static const uint64_t node_gpas[] = {0xc0000, 0x20000000},
			      dimm_gpas[] = {0xc0000, 1ull << 32};
	struct memmap map;

	assert_int_equal(map_load("q35-numa", &map), 0);
	expect_files(&map, nodes, node_gpas, 2);
	assert_int_equal(map.low, 1u << 30);
	/* In the segment's own file. */
	assert_int_equal(map.segs[map.nseg - 1].file_off, 0);
	memmap_deinit(&map);
	assert_int_equal(map_load("q35-dimm", &map), 0);
	expect_files(&map, dimms, dimm_gpas, 2);
	memmap_deinit(&map);
}

/* In a folder QEMU makes a file for each backend, under the same mem-path. */
static void test_a_folder(void **state)
{
	struct memmap map;

	assert_int_equal(map_load("q35-numa", &map), 0);
	free(map.files);
	map.nfiles = 0;
	for (size_t i = 0; i < map.nbackends; i++) {
		map.backends[i].placed = false;
		assert_int_equal(memmap_set_file(&map.backends[i], "/dev/hugepages", 0), 0);
	}
	assert_int_equal(memmap_finish(&map, error, sizeof(error)), 0);
	assert_int_equal(map.nfiles, 2);
	memmap_deinit(&map);
}

/* Two backends that are windows of one file (offset=, QEMU 8.1). */
static void test_one_file(void **state)
{
	struct memmap map;

	assert_int_equal(map_load("q35-numa", &map), 0);
	free(map.files);
	map.nfiles = 0;
	for (size_t i = 0; i < map.nbackends; i++) {
		bool first = strcmp(map.backends[i].id, "mem0") == 0;

		map.backends[i].placed = false;
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
	assert_int_equal(map.nfiles, 1);
	memmap_deinit(&map);
}

/* Backends of one MiB each, one behind the other. */
static void row(struct memmap *map, size_t n)
{
	json_t *memdev = json_array(), *objects = json_array();
	struct mtree mtree = {.ranges = calloc(n, sizeof(mtree.ranges[0])), .nranges = n};

	for (size_t i = 0; i < n; i++) {
		struct mtree_range *range = &mtree.ranges[i];

		*range = (struct mtree_range){.gpa = i << 20, .len = 1 << 20};
		snprintf(range->name, sizeof(range->name), "mem%zu", i);
		json_array_append_new(memdev, json_pack("{s:s, s:i, s:b}", "id", range->name,
						      "size", 1 << 20, "share", 1));
		json_array_append_new(objects, json_pack("{s:s, s:s}", "name", range->name, "type",
						       "child<memory-backend-memfd>"));
	}
	assert_int_equal(memmap_init(map, memdev, objects, error, sizeof(error)), 0);
	assert_int_equal(memmap_place(map, &mtree, error, sizeof(error)), 0);
	mtree_deinit(&mtree);
	json_decref(memdev);
	json_decref(objects);
}

static void test_too_many_files(void **state)
{
	struct memmap map;

	row(&map, VMSIG_MEMFILES_MAX);
	assert_int_equal(memmap_finish(&map, error, sizeof(error)), 0);
	assert_int_equal(map.nfiles, VMSIG_MEMFILES_MAX);
	memmap_deinit(&map);
	row(&map, VMSIG_MEMFILES_MAX + 1);
	assert_int_equal(memmap_finish(&map, error, sizeof(error)), VMSIG_ERR_UNSUPPORTED);
	assert_non_null(strstr(error, "more than 64 files"));
	memmap_deinit(&map);
}

static void test_plugged(void **state)
{
	struct memmap two, three, other;

	row(&two, 2);
	row(&three, 3);
	row(&other, 3);
	assert_int_equal(memmap_finish(&two, error, sizeof(error)), 0);
	assert_int_equal(memmap_finish(&three, error, sizeof(error)), 0);
	assert_int_equal(memmap_finish(&other, error, sizeof(error)), 0);
	assert_false(memmap_equal(&two, &three));
	assert_true(memmap_equal(&other, &three));
	/* Another backend in the place of the last one. */
	snprintf(other.backends[2].id, sizeof(other.backends[2].id), "dimm");
	assert_false(memmap_equal(&other, &three));
	memmap_deinit(&two);
	memmap_deinit(&three);
	memmap_deinit(&other);
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

/* ---- what is no RAM although it looks so ---- */

#define DEVICES                                                                                    \
	"[{\"type\": \"virtio-mem\", \"data\": {\"memdev\": \"/objects/vmem\"}}, "                 \
	"{\"type\": \"virtio-pmem\", \"data\": {\"memdev\": \"/objects/pmem\"}}, "                 \
	"{\"type\": \"nvdimm\", \"data\": {\"memdev\": \"/objects/nv\"}}, "                        \
	"{\"type\": \"dimm\", \"data\": {\"memdev\": \"/objects/dimm\"}}, 7]"

/* As QEMU 7.2 prints it, with the BARs of an ivshmem device and of virtio-pmem mapped. */
static const char crowded[] =
	"FlatView #1\n"
	" AS \"memory\", root: system\n"
	" Root memory region: system\n"
	"  0000000000000000-00000000000bffff (prio 0, ram): a\n"
	"  0000000000100000-0000000007ffffff (prio 0, ram): a @0000000000100000\n"
	"  0000000008000000-000000000fffffff (prio 0, ram): b\n"
	"  00000000fc000000-00000000fdffffff (prio 1, ram): ivshmem\n"
	"  0000000100000000-0000000107ffffff (prio 0, ram): vmem\n"
	"  0000000110000000-0000000117ffffff (prio 0, ram): dimm\n"
	"  0000000120000000-0000000127ffffff (prio 0, ram): pmem\n"
	"  0000000130000000-0000000137ffffff (prio 0, ram): nv\n";

static void map_crowd(struct memmap *map)
{
	static const char *const ids[] = {"a", "b", "ivshmem", "vmem", "dimm", "pmem", "nv"};
	json_t *memdev = json_array(), *objects = json_array();

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		json_array_append_new(memdev,
			json_pack("{s:s, s:I, s:b}", "id", ids[i], "size", (json_int_t)128 << 20,
				"share", strcmp(ids[i], "ivshmem") != 0));
		json_array_append_new(objects, json_pack("{s:s, s:s}", "name", ids[i], "type",
						       "child<memory-backend-file>"));
	}
	assert_int_equal(memmap_init(map, memdev, objects, error, sizeof(error)), 0);
	json_decref(memdev);
	json_decref(objects);
}

/* The backends that are RAM, in the order of their addresses. */
static void expect_ram(struct memmap *map, const char *wanted)
{
	struct mtree mtree;
	char got[200] = "";
	size_t last = SIZE_MAX;

	assert_int_equal(
		mtree_parse(&mtree, crowded, sizeof(crowded) - 1, error, sizeof(error)), 0);
	assert_int_equal(memmap_place(map, &mtree, error, sizeof(error)), 0);
	mtree_deinit(&mtree);
	for (size_t i = 0; i < map->nseg; i++) {
		if (map->owners[i] != last)
			strcat(strcat(got, " "), map->backends[map->owners[i]].id);
		last = map->owners[i];
	}
	assert_string_equal(got, wanted);
}

static void name_devices(struct memmap *map)
{
	json_t *devices = json_loads(DEVICES, 0, NULL);

	assert_non_null(devices);
	memmap_name_devices(map, devices);
	json_decref(devices);
}

static void test_main_memory_and_dimms(void **state)
{
	struct memmap map;

	map_crowd(&map);
	memmap_name_main(&map, "/objects/a");
	assert_true(memmap_knows_main(&map));
	name_devices(&map);
	expect_ram(&map, " a vmem dimm");
	/* What is plugged says nothing of where RAM below 4 GiB ends. */
	assert_int_equal(map.base_bytes, 128 << 20);
	memmap_deinit(&map);
}

static void test_numa_nodes(void **state)
{
	static const char text[] =
		"address-space: memory\n"
		"  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n"
		"    0000000000000000-000000000fffffff (prio 0, ram): alias ram-below-4g @pc.ram "
		"0000000000000000-000000000fffffff\n"
		"\n"
		"memory-region: pci\n"
		"  0000000000000000-ffffffffffffffff (prio -1, i/o): pci\n"
		"    00000000fc000000-00000000fdffffff (prio 1, ram): ivshmem\n"
		"\n"
		"memory-region: pc.ram\n"
		"  0000000000000000-000000000fffffff (prio 0, i/o): pc.ram\n"
		"    0000000000000000-0000000007ffffff (prio 0, ram): a\r\n"
		"    0000000008000000-000000000fffffff (prio 0, ram): b\n"
		"\n"
		"memory-region: smram\n"
		"    0000000000000000-0000000007ffffff (prio 0, ram): nv\n";
	static const char *const nonsense[] = {"", "alias ram-below-4g @",
		"alias ram-below-4g @x\n", "alias ram-below-4g @x \nmemory-region: x",
		"memory-region: x\n  , ram): a\n"};
	struct memmap map;

	map_crowd(&map);
	memmap_name_main(&map, NULL);
	memmap_name_main(&map, "");
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
		memmap_name_nodes(&map, nonsense[i]);
	memmap_name_nodes(&map, NULL);
	assert_false(memmap_knows_main(&map));
	memmap_name_nodes(&map, text);
	name_devices(&map);
	expect_ram(&map, " a b vmem dimm");
	assert_int_equal(map.base_bytes, 256 << 20);
	memmap_deinit(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_several_files),
		cmocka_unit_test(test_a_folder),
		cmocka_unit_test(test_one_file),
		cmocka_unit_test(test_too_many_files),
		cmocka_unit_test(test_plugged),
		cmocka_unit_test(test_main_memory_and_dimms),
		cmocka_unit_test(test_numa_nodes),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_bad_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
