/* SPDX-License-Identifier: Apache-2.0 */
/* A guest whose kernel's objects lie: every list ends, after so many reads and with so much in it,
 * and says that it is not whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/file.h"
#include "clients/os/linux/hidden.h"
#include "clients/os/linux/infer.h"
#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/log.h"
#include "clients/os/linux/lookup.h"
#include "clients/os/linux/module.h"
#include "clients/os/linux/mounts.h"
#include "clients/os/linux/path.h"
#include "clients/os/linux/socket.h"
#include "clients/os/linux/space.h"
#include "clients/os/linux/task.h"
#include "clients/os/maps.h"
#include "tests/unit/os/objects.h"
#include "vmsig/vmsig_error.h"

static int setup(void **state)
{
	struct objects *objects = calloc(1, sizeof(*objects));

	assert_non_null(objects);
	assert_true(objects_make(objects));
	*state = objects;
	return 0;
}

static int teardown(void **state)
{
	objects_free(*state);
	free(*state);
	return 0;
}

static void link_to(struct objects *objects, uint64_t at, uint64_t next)
{
	objects_put(objects, at, next);
}

/* Reads of the next list, all attempts together. */
static void begin(struct objects *objects)
{
	objects->memory.kernel.spent = 0;
}

static void assert_few_reads(const struct objects *objects)
{
	/* Those that were refused are counted, too. */
	assert_true(objects->memory.kernel.spent < 2ull * LINUX_READS_MAX);
}

/* ---- all is well ---- */

static void honest_objects_are_listed(void **state)
{
	struct objects *objects = *state;
	vmsig_proc_list processes = {0};
	vmsig_map_list maps = {0};
	vmsig_file_list files = {0};
	vmsig_mount_list mounts = {0};

	assert_int_equal(linux_task_list(&objects->memory.kernel, &processes), 0);
	assert_false(processes.partial);
	assert_int_equal(processes.count, 1);
	assert_string_equal(processes.processes[0].name, "program");
	assert_int_equal(linux_space_list(&objects->memory.kernel, &objects->process, &maps), 0);
	assert_false(maps.partial);
	assert_int_equal(maps.count, 1);
	assert_string_equal(maps.maps[0].path, "/file");
	assert_int_equal(linux_file_list(&objects->memory.kernel, &objects->process, &files), 0);
	assert_false(files.partial);
	assert_int_equal(files.count, 1);
	assert_int_equal(files.files[0].number, 3);
	assert_int_equal(linux_mounts_list(&objects->memory.kernel, &objects->process, &mounts), 0);
	assert_false(mounts.partial);
	assert_int_equal(mounts.count, 2);
	maps_clear(&maps);
	linux_file_clear(&files);
	linux_mounts_clear(&mounts);
	free(processes.processes);
	free(maps.maps);
	free(files.files);
	free(mounts.mounts);
	assert_true(objects_list_all(objects) > 0);
}

/* ---- lists ---- */

/* Each head, and where the list leads then: to itself, into the middle, nowhere. */
static void rings_without_end_are_torn(void **state)
{
	struct objects *objects = *state;
	uint64_t tasks = objects_member(objects, objects_at(OBJECTS_TASK), LINUX_TASK_TASKS);
	const uint64_t nexts[] = {tasks, tasks + 1, 0, 1, UINT64_MAX,
		OBJECTS_MAP + OBJECTS_SIZE - 4, 0x00007fffffffffff, OBJECTS_MAP - 8};

	for (size_t i = 0; i < sizeof(nexts) / sizeof(nexts[0]); i++) {
		vmsig_proc_list list = {0};

		link_to(objects, tasks, nexts[i]);
		begin(objects);
		assert_int_equal(linux_task_list(&objects->memory.kernel, &list), 0);
		assert_true(list.partial);
		assert_true(list.count <= 2);
		assert_few_reads(objects);
		free(list.processes);
	}
}

/* As many processes as there is memory for: tasks that overlap, each with links of its own. */
static void many_processes_are_some(void **state)
{
	struct objects *objects = *state;
	uint64_t init = objects_member(objects, objects_at(OBJECTS_INIT), LINUX_TASK_TASKS);
	uint64_t first = OBJECTS_MAP + (1u << 20), before = init;
	vmsig_proc_list list = {0};

	for (uint64_t at = first; at < OBJECTS_MAP + (3u << 20); at += 16) {
		objects_put(objects, before, at);
		objects_put(objects, at + 8, before);
		before = at;
	}
	objects_put(objects, before, init);
	objects_put(objects, init + 8, before);
	begin(objects);
	(void)!linux_task_list(&objects->memory.kernel, &list);
	assert_true(list.count <= 100000);
	assert_few_reads(objects);
	free(list.processes);
}

static void names_without_end_are_cut(void **state)
{
	struct objects *objects = *state;
	uint64_t task = objects_at(OBJECTS_TASK), module = objects_at(OBJECTS_MODULE);
	vmsig_proc_list list = {0};
	vmsig_module_list modules = {0};

	memset(objects_bytes(objects, objects_member(objects, task, LINUX_TASK_COMM)), 'x', 16);
	memset(objects_bytes(objects, objects_member(objects, module, LINUX_MODULE_NAME)), 'y',
		256);
	assert_int_equal(linux_task_list(&objects->memory.kernel, &list), 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(strlen(list.processes[0].name), 16);
	(void)!linux_module_list(&objects->memory.kernel, &modules);
	for (size_t i = 0; i < modules.count; i++)
		assert_true(strlen(modules.modules[i].name) <= VMSIG_PROC_NAME_MAX);
	free(list.processes);
	free(modules.modules);
}

/* ---- paths ---- */

static void paths_that_are_their_own_folder_end(void **state)
{
	struct objects *objects = *state;
	uint64_t dentry = objects_at(OBJECTS_DENTRY), root = objects_at(OBJECTS_ROOT);
	uint64_t mount = objects_at(OBJECTS_MOUNT), mounted = objects_at(OBJECTS_MOUNTED);
	vmsig_file_list files = {0};
	vmsig_file file;

	/* Folders in a circle that no root is in. */
	objects_set(objects, dentry, LINUX_DENTRY_PARENT, root + 0x400);
	objects_set(objects, root + 0x400, LINUX_DENTRY_PARENT, dentry);
	begin(objects);
	assert_int_equal(linux_file_list(&objects->memory.kernel, &objects->process, &files), 0);
	assert_true(files.partial);
	assert_few_reads(objects);
	/* Mounts in a circle. */
	objects_set(objects, dentry, LINUX_DENTRY_PARENT, root);
	objects_set(objects, mount, LINUX_MOUNT_PARENT, mounted);
	begin(objects);
	assert_int_equal(linux_file_list(&objects->memory.kernel, &objects->process, &files), 0);
	assert_true(files.partial);
	assert_few_reads(objects);
	/* A folder that is among what is in it. */
	objects_set(objects, dentry, LINUX_DENTRY_SIB,
		objects_member(objects, dentry, LINUX_DENTRY_SIB));
	begin(objects);
	assert_int_not_equal(
		linux_lookup(&objects->memory.kernel, &objects->process, "/other", &file), 0);
	assert_few_reads(objects);
	linux_file_clear(&files);
	free(files.files);
}

/* A million descriptors of a file whose name is as long as names get. */
static void texts_of_a_list_are_bounded(void **state)
{
	struct objects *objects = *state;
	uint64_t root = objects_at(OBJECTS_ROOT), table = objects_at(OBJECTS_FILES) + 0x100;
	uint64_t dentry = OBJECTS_MAP + 0x80000, entries = OBJECTS_MAP + (1u << 20);
	struct mallinfo2 before = mallinfo2(), after;
	vmsig_file_list files = {0};

	for (unsigned i = 0; i < 15; i++, dentry += OBJECTS_STEP) {
		objects_set(objects, dentry, LINUX_DENTRY_PARENT, i ? dentry - OBJECTS_STEP : root);
		objects_set(objects, dentry, LINUX_DENTRY_NAME, dentry + 0x200);
		objects_set(objects, dentry, LINUX_DENTRY_NAME_LEN, 255);
		objects_set(objects, dentry, LINUX_DENTRY_SB, objects_at(OBJECTS_SB));
		objects_set(objects, dentry, LINUX_DENTRY_HASHED, dentry);
		memset(objects_bytes(objects, dentry + 0x200), 'n', 255);
	}
	objects_set(objects, objects_at(OBJECTS_FILE), LINUX_FILE_DENTRY, dentry - OBJECTS_STEP);
	objects_set(objects, table, LINUX_TABLE_MAX, 1u << 18);
	objects_set(objects, table, LINUX_TABLE_FILES, entries);
	for (uint64_t i = 0; i < 1u << 18; i++)
		objects_put(objects, entries + 8 * i, objects_at(OBJECTS_FILE));
	begin(objects);
	assert_int_equal(linux_file_list(&objects->memory.kernel, &objects->process, &files), 0);
	after = mallinfo2();
	assert_true(files.partial);
	assert_true(files.count > 1000);
	assert_true(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd <
		    2ull * LINUX_ROOM_MAX);
	assert_few_reads(objects);
	linux_file_clear(&files);
	free(files.files);
}

/* ---- areas ---- */

static void trees_of_areas_that_contain_themselves_end(void **state)
{
	struct objects *objects = *state;
	uint64_t mm = objects_at(OBJECTS_MM), node = objects_at(OBJECTS_NODE);
	vmsig_map_list maps = {0};

	/* A node of nodes, of which the first is itself. */
	objects_set(objects, mm, LINUX_MM_TREE, node | 2 << 3 | 2);
	objects_put(objects, node + 8, UINT64_MAX);
	objects_put(objects, node + 128, node | 2 << 3 | 4);
	begin(objects);
	assert_int_equal(linux_space_list(&objects->memory.kernel, &objects->process, &maps), 0);
	assert_true(maps.partial);
	assert_few_reads(objects);
	/* In every slot: as many ways down as there are numbers. */
	for (unsigned i = 0; i < 16; i++) {
		objects_put(objects, node + 8 + 8 * i, i < 15 ? i + 1 : 0);
		objects_put(objects, node + 128 + 8 * i, node | 2 << 3 | 4);
	}
	begin(objects);
	assert_int_equal(linux_space_list(&objects->memory.kernel, &objects->process, &maps), 0);
	assert_true(maps.partial);
	assert_few_reads(objects);
	maps_clear(&maps);
	free(maps.maps);
}

/* What nodes have below them does not say that it is a root. */
static void trees_of_two_levels_are_followed(void **state)
{
	struct objects *objects = *state;
	uint64_t mm = objects_at(OBJECTS_MM), leaf = objects_at(OBJECTS_NODE), node = leaf + 0x800;
	vmsig_map_list maps = {0};

	objects_set(objects, mm, LINUX_MM_TREE, node | 3 << 3 | 2);
	objects_put(objects, node + 8, 0x5fffff);
	objects_put(objects, node + 16, UINT64_MAX);
	objects_put(objects, node + 80, leaf | 1 << 3 | 4);
	objects_put(objects, node + 88, (leaf + 0x100) | 1 << 3 | 4);
	objects_put(objects, leaf + 24, 0x5fffff);
	objects_put(objects, leaf + 0x100 + 8, UINT64_MAX);
	assert_int_equal(linux_space_list(&objects->memory.kernel, &objects->process, &maps), 0);
	assert_false(maps.partial);
	assert_int_equal(maps.count, 1);
	maps_clear(&maps);
	free(maps.maps);
}

/* ---- counts ---- */

static void counts_are_not_believed(void **state)
{
	struct objects *objects = *state;
	uint64_t files = objects_at(OBJECTS_FILES), log = objects_at(OBJECTS_LOG);
	vmsig_file_list list = {0};
	vmsig_log_list records = {0};

	objects_set(objects, files + 0x100, LINUX_TABLE_MAX, UINT32_MAX);
	begin(objects);
	assert_int_equal(linux_file_list(&objects->memory.kernel, &objects->process, &list), 0);
	assert_true(list.partial);
	assert_few_reads(objects);
	objects_set(objects, log, LINUX_LOG_COUNT_BITS, 20);
	objects_set(objects, log, LINUX_LOG_HEAD, (1u << 20) - 1);
	begin(objects);
	(void)!linux_log_list(&objects->memory.kernel, &records);
	assert_few_reads(objects);
	linux_log_clear(&records);
	linux_file_clear(&list);
	free(records.records);
	free(list.files);
}

/* ---- tables of pages ---- */

static void tables_that_refer_to_themselves_end(void **state)
{
	struct objects *objects = *state;
	vmsig_os_handle *os;
	char error[128];

	/* The whole upper half is the root again, on every level. */
	for (unsigned i = 256; i < 512; i++)
		objects_put(objects, OBJECTS_MAP + 0x4000 + 8ull * i, 0x4003);
	assert_int_equal(
		vmsig_os_open(&os, objects->memory.kernel.mem, 0x4000, error, sizeof(error)),
		-VMSIG_ERR_UNSUPPORTED);
	assert_null(os);
}

/* ---- each word of all ---- */

/* Every word that something was written to leads to every object, a few at a time. */
static void words_may_be_any_pointer(void **state)
{
	struct objects *objects = *state;
	uint64_t end = objects_at(OBJECTS_PLACES);
	unsigned turn = 0;

	for (uint64_t at = objects_at(OBJECTS_INIT); at < end; at += 8) {
		uint64_t was;

		memcpy(&was, objects_bytes(objects, at), sizeof(was));
		if (!was)
			continue;
		for (unsigned i = 0; i < 3; i++) {
			const uint64_t odd[] = {at, UINT64_MAX, was + 1, was << 1,
				objects_at(turn % OBJECTS_PLACES), 0, 1ull << 40};

			objects_put(objects, at, odd[turn++ % 7]);
			begin(objects);
			(void)objects_list_all(objects);
			assert_true(objects->memory.kernel.spent < 12ull * LINUX_READS_MAX);
		}
		objects_put(objects, at, was);
	}
}

/* What is found among such objects is nothing. */
static void nothing_is_inferred_from_objects_that_lie(void **state)
{
	struct objects *objects = *state;
	uint64_t init = objects_at(OBJECTS_INIT);

	for (uint64_t at = 0; at < 0x200; at += 8) {
		objects_put(objects, init + at, init + at);
		objects->memory.kernel.fields = (struct linux_fields){0};
		begin(objects);
		assert_int_equal(linux_infer(&objects->memory.kernel), VMSIG_ERR_UNSUPPORTED);
		assert_true(
			objects->memory.kernel.spent < (LINUX_ATTEMPTS + 1ull) * INFER_READS_MAX);
	}
}

/* That of its namespace, which lies below it. */
static void mounts_begin_with_the_process_root(void **state)
{
	struct objects *objects = *state;
	vmsig_mount_list mounts = {0};

	objects_set(objects, objects_at(OBJECTS_SPACES) + 0x100, LINUX_MNTNS_ROOT,
		objects_at(OBJECTS_MOUNTED));
	assert_int_equal(linux_mounts_list(&objects->memory.kernel, &objects->process, &mounts), 0);
	assert_int_equal(mounts.count, 2);
	assert_int_equal(mounts.mounts[0].object, objects_at(OBJECTS_MOUNT));
	linux_mounts_clear(&mounts);
	free(mounts.mounts);
}

/* Where a guest's types say that a member is. */
static void members_outside_of_tasks_are_none(void **state)
{
	static const enum linux_field members[] = {LINUX_TASK_CRED, LINUX_TASK_REAL_CRED};
	struct objects *objects = *state;
	vmsig_finding_list findings = {0};

	for (size_t i = 0; i < 2; i++) {
		uint32_t *offset = &objects->memory.kernel.fields.field[members[i]].offset,
			 was = *offset;

		*offset = 1u << 29;
		begin(objects);
		assert_int_equal(linux_hidden_processes(&objects->memory.kernel, &findings),
			VMSIG_ERR_UNSUPPORTED);
		*offset = was;
	}
	assert_int_equal(findings.count, 0);
}

#define RING (OBJECTS_MAP + 0x100000)
#define RING_STEP 0x4000u
#define RING_TASKS 5u

/* Tasks in a ring, with their names at `comm`: all that they have. */
static void make_ring(struct objects *objects, uint32_t links, uint32_t comm)
{
	for (uint64_t i = 0; i < RING_TASKS; i++) {
		uint64_t task = RING + i * RING_STEP;
		uint64_t next = RING + (i + 1) % RING_TASKS * RING_STEP;
		uint64_t before = RING + (i + RING_TASKS - 1) % RING_TASKS * RING_STEP;

		memset(objects_bytes(objects, task), 0, RING_STEP);
		objects_put(objects, task + links, next + links);
		objects_put(objects, task + links + 8, before + links);
		strcpy((char *)objects_bytes(objects, task + comm), i ? "task" : "swapper/0");
	}
}

/* Where members are near which others are looked for. */
static void names_at_the_edge_of_tasks_are_none(void **state)
{
	const uint32_t edges[] = {24, 32, 40, 48, 56, 64, 0xf8, INFER_TASK_BYTES - 0x300,
		INFER_TASK_BYTES - 0x20, INFER_TASK_BYTES - 0x18, INFER_TASK_BYTES - 0x10};
	struct objects *objects = *state;

	objects->addrs[0] = RING;
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		make_ring(objects, 8, edges[i]);
		objects->memory.kernel.fields = (struct linux_fields){0};
		begin(objects);
		assert_int_equal(linux_infer(&objects->memory.kernel), VMSIG_ERR_UNSUPPORTED);
	}
	/* In the middle they are some. */
	make_ring(objects, 8, 0x800);
	objects->memory.kernel.fields = (struct linux_fields){0};
	begin(objects);
	assert_int_equal(linux_infer(&objects->memory.kernel), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(honest_objects_are_listed, setup, teardown),
		cmocka_unit_test_setup_teardown(rings_without_end_are_torn, setup, teardown),
		cmocka_unit_test_setup_teardown(many_processes_are_some, setup, teardown),
		cmocka_unit_test_setup_teardown(names_without_end_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(
			paths_that_are_their_own_folder_end, setup, teardown),
		cmocka_unit_test_setup_teardown(texts_of_a_list_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(
			trees_of_areas_that_contain_themselves_end, setup, teardown),
		cmocka_unit_test_setup_teardown(trees_of_two_levels_are_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(counts_are_not_believed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			tables_that_refer_to_themselves_end, setup, teardown),
		cmocka_unit_test_setup_teardown(words_may_be_any_pointer, setup, teardown),
		cmocka_unit_test_setup_teardown(
			nothing_is_inferred_from_objects_that_lie, setup, teardown),
		cmocka_unit_test_setup_teardown(members_outside_of_tasks_are_none, setup, teardown),
		cmocka_unit_test_setup_teardown(
			mounts_begin_with_the_process_root, setup, teardown),
		cmocka_unit_test_setup_teardown(
			names_at_the_edge_of_tasks_are_none, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
