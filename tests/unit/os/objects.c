/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/os/objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/finding.h"
#include "clients/os/linux/cache.h"
#include "clients/os/linux/file.h"
#include "clients/os/linux/hidden.h"
#include "clients/os/linux/intact.h"
#include "clients/os/linux/log.h"
#include "clients/os/linux/lookup.h"
#include "clients/os/linux/module.h"
#include "clients/os/linux/mounts.h"
#include "clients/os/linux/parts.h"
#include "clients/os/linux/socket.h"
#include "clients/os/linux/space.h"
#include "clients/os/linux/task.h"
#include "clients/os/maps.h"
#include "clients/os/names.h"

uint8_t *objects_bytes(struct objects *objects, uint64_t gva)
{
	return objects->memory.bytes + (gva - OBJECTS_MAP);
}

void objects_put(struct objects *objects, uint64_t gva, uint64_t word)
{
	memcpy(objects_bytes(objects, gva), &word, sizeof(word));
}

uint64_t objects_member(const struct objects *objects, uint64_t object, enum linux_field field)
{
	return object + objects->memory.kernel.fields.field[field].offset;
}

void objects_set(struct objects *objects, uint64_t object, enum linux_field field, uint64_t word)
{
	uint32_t size = objects->memory.kernel.fields.field[field].size;

	memcpy(objects_bytes(objects, objects_member(objects, object, field)), &word,
		size < sizeof(word) ? size : sizeof(word));
}

/* ---- members ---- */

/* Bytes of those that are not of 8. */
static uint32_t size_of(enum linux_field field)
{
	static const struct {
		enum linux_field field;
		uint32_t size;
	} sizes[] = {{LINUX_TASK_TASKS, 16}, {LINUX_TASK_THREAD_NODE, 16}, {LINUX_TASK_COMM, 16},
		{LINUX_SIGNAL_THREAD_HEAD, 16}, {LINUX_MOUNT_MOUNTS, 16}, {LINUX_MOUNT_CHILD, 16},
		{LINUX_MOUNT_VFSMOUNT, 32}, {LINUX_MODULE_LIST, 16}, {LINUX_MODULE_NAME, 56},
		{LINUX_MODULE_MEM, 7 * 16}, {LINUX_TASK_PID_LINKS, 64}, {LINUX_TASK_PID, 4},
		{LINUX_TASK_TGID, 4}, {LINUX_TASK_STATE, 4}, {LINUX_TASK_EXIT_STATE, 4},
		{LINUX_TASK_FLAGS, 4}, {LINUX_SIGNAL_NR_THREADS, 4}, {LINUX_CRED_UID, 4},
		{LINUX_MM_MAP_COUNT, 4}, {LINUX_TABLE_MAX, 4}, {LINUX_DENTRY_NAME_LEN, 4},
		{LINUX_INODE_MODE, 2}, {LINUX_NODE_SHIFT, 1}, {LINUX_NODE_SLOTS, 512},
		{LINUX_SOCK_FAMILY, 2}, {LINUX_SOCK_STATE, 1}, {LINUX_SOCK_PROTOCOL, 2},
		{LINUX_SOCK_LOCAL_PORT, 2}, {LINUX_SOCK_REMOTE_PORT, 2}, {LINUX_SOCK_LOCAL, 4},
		{LINUX_SOCK_REMOTE, 4}, {LINUX_SOCK_LOCAL6, 16}, {LINUX_SOCK_REMOTE6, 16},
		{LINUX_LOG_COUNT_BITS, 4}, {LINUX_LOG_SIZE_BITS, 4}, {LINUX_INFO_LEN, 2},
		{LINUX_INFO_FACILITY, 1}, {LINUX_MODULE_NUM_SYMS, 4},
		{LINUX_MODULE_NUM_GPL_SYMS, 4}, {LINUX_MODULE_MEM_SIZE, 4},
		{LINUX_SECTIONS_COUNT, 4}, {LINUX_EXPORT_VALUE, 4}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sizes[i].field == field)
			return sizes[i].size;
	}
	return 8;
}

/* What other kernels have in its place. */
static bool is_absent(enum linux_field field)
{
	static const enum linux_field absent[] = {LINUX_MM_LIST, LINUX_VMA_NEXT, LINUX_MODULE_BASE,
		LINUX_MODULE_SIZE, LINUX_DENTRY_SUBDIRS, LINUX_DENTRY_CHILD, LINUX_SECTIONS_GROUP};

	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		if (absent[i] == field)
			return true;
	}
	return false;
}

/* Bytes of the struct before a member: those of the same struct that come before it in the list. */
static uint32_t offset_of(enum linux_field field)
{
	const char *path = linux_field_path(field);
	size_t len = strcspn(path, ".") + 1;
	uint32_t offset = 0;

	for (enum linux_field before = 0; before < field; before++) {
		if (strncmp(linux_field_path(before), path, len) == 0)
			offset += (size_of(before) + 7) & ~7u;
	}
	return offset;
}

static void make_fields(struct linux_fields *fields)
{
	static const struct {
		enum linux_field field;
		uint32_t offset, size;
	} fixed[] = {{LINUX_MAPLE_RANGE_PIVOT, 8, 120}, {LINUX_MAPLE_RANGE_SLOT, 128, 128},
		{LINUX_MAPLE_ARANGE_PIVOT, 8, 72}, {LINUX_MAPLE_ARANGE_SLOT, 80, 80},
		{LINUX_VFSMOUNT_ROOT, 0, 8}, {LINUX_VFSMOUNT_SB, 8, 8},
		{LINUX_VFSMOUNT_FLAGS, 16, 4}};
	static const uint32_t sizes[LINUX_STRUCTS] = {[LINUX_STRUCT_TASK] = 1024,
		[LINUX_STRUCT_MODULE] = 512,
		[LINUX_STRUCT_MODULE_MEMORY] = 16,
		[LINUX_STRUCT_SECTION] = 16,
		[LINUX_STRUCT_EXPORT] = 12,
		[LINUX_STRUCT_LOG_DESC] = 24,
		[LINUX_STRUCT_LOG_INFO] = 32,
		[LINUX_STRUCT_PAGE] = 64};

	for (enum linux_field field = 0; field < LINUX_FIELDS; field++) {
		fields->field[field].known = !is_absent(field);
		fields->field[field].offset = offset_of(field);
		fields->field[field].size = size_of(field);
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		fields->field[fixed[i].field].offset = fixed[i].offset;
		fields->field[fixed[i].field].size = fixed[i].size;
	}
	memcpy(fields->size, sizes, sizeof(sizes));
}

/* ---- symbols ---- */

static void make_symbols(struct objects *objects)
{
	static const struct {
		const char *name;
		uint64_t addr;
	} symbols[] = {{"init_task", OBJECTS_MAP + OBJECTS_FIRST + OBJECTS_INIT * OBJECTS_STEP},
		{"modules", OBJECTS_MAP + OBJECTS_FIRST},
		{"prb", OBJECTS_MAP + OBJECTS_FIRST + 0x10},
		{"vmemmap_base", OBJECTS_MAP + OBJECTS_FIRST + 0x18},
		{"page_offset_base", OBJECTS_MAP + OBJECTS_FIRST + 0x20},
		{"init_pid_ns", OBJECTS_MAP + OBJECTS_FIRST + OBJECTS_PIDS * OBJECTS_STEP}};
	size_t n = sizeof(symbols) / sizeof(symbols[0]), at = 0;

	for (size_t i = 0; i < n; i++) {
		objects->addrs[i] = symbols[i].addr;
		objects->offsets[i] = (uint32_t)at;
		at += (size_t)snprintf(objects->names + at, sizeof(objects->names) - at, "D%s",
			      symbols[i].name) +
		      1;
	}
	objects->memory.kernel.symbols = (struct linux_symbols){.addrs = objects->addrs,
		.names = objects->offsets,
		.count = n,
		.text = objects->names};
}

/* ---- objects ---- */

/* A list_head of nothing, or of one. */
static void make_ring(struct objects *objects, uint64_t head, uint64_t link)
{
	objects_put(objects, head, link);
	objects_put(objects, head + 8, link);
	objects_put(objects, link, head);
	objects_put(objects, link + 8, head);
}

static void make_task(struct objects *objects, uint64_t task, uint32_t pid, const char *name)
{
	objects_set(objects, task, LINUX_TASK_PID, pid);
	objects_set(objects, task, LINUX_TASK_TGID, pid);
	objects_set(objects, task, LINUX_TASK_REAL_PARENT, objects_at(OBJECTS_INIT));
	objects_set(objects, task, LINUX_TASK_SIGNAL, objects_at(OBJECTS_SIGNAL));
	objects_set(objects, task, LINUX_TASK_CRED, objects_at(OBJECTS_CRED));
	objects_set(objects, task, LINUX_TASK_REAL_CRED, objects_at(OBJECTS_CRED));
	objects_set(objects, task, LINUX_TASK_START, 1000 + pid);
	memcpy(objects_bytes(objects, objects_member(objects, task, LINUX_TASK_COMM)), name,
		strlen(name) + 1);
}

static void make_tasks(struct objects *objects)
{
	uint64_t init = objects_at(OBJECTS_INIT), task = objects_at(OBJECTS_TASK);
	uint64_t signal = objects_at(OBJECTS_SIGNAL);

	make_task(objects, init, 0, "swapper/0");
	make_task(objects, task, 1, "program");
	objects_set(objects, init, LINUX_TASK_FLAGS, 0x00200000);
	make_ring(objects, objects_member(objects, init, LINUX_TASK_TASKS),
		objects_member(objects, task, LINUX_TASK_TASKS));
	make_ring(objects, objects_member(objects, signal, LINUX_SIGNAL_THREAD_HEAD),
		objects_member(objects, task, LINUX_TASK_THREAD_NODE));
	objects_set(objects, signal, LINUX_SIGNAL_NR_THREADS, 1);
	objects_set(objects, task, LINUX_TASK_MM, objects_at(OBJECTS_MM));
	objects_set(objects, task, LINUX_TASK_FILES, objects_at(OBJECTS_FILES));
	objects_set(objects, task, LINUX_TASK_FS, objects_at(OBJECTS_SPACES) + 0x200);
	objects_set(objects, task, LINUX_TASK_NSPROXY, objects_at(OBJECTS_SPACES));
	objects->process =
		(vmsig_proc){.object = task, .root = MEMORY_ROOT, .start_ns = 1001, .pid = 1};
}

static void make_space(struct objects *objects)
{
	uint64_t mm = objects_at(OBJECTS_MM), node = objects_at(OBJECTS_NODE);
	uint64_t area = objects_at(OBJECTS_AREA);

	objects_set(objects, mm, LINUX_MM_PGD, OBJECTS_MAP + MEMORY_ROOT);
	objects_set(objects, mm, LINUX_MM_MAP_COUNT, 1);
	objects_set(objects, mm, LINUX_MM_TREE, node | 1 << 3 | 2);
	/* One of [0x400000, 0x401000), nothing before it and behind it. */
	objects_put(objects, node + 8, 0x3fffff);
	objects_put(objects, node + 16, 0x400fff);
	objects_put(objects, node + 24, UINT64_MAX);
	objects_put(objects, node + 128 + 8, area);
	objects_set(objects, area, LINUX_VMA_START, 0x400000);
	objects_set(objects, area, LINUX_VMA_END, 0x401000);
	objects_set(objects, area, LINUX_VMA_FLAGS, 5);
	objects_set(objects, area, LINUX_VMA_FILE, objects_at(OBJECTS_FILE));
}

static void make_name(struct objects *objects, uint64_t dentry, uint64_t parent, const char *name)
{
	uint64_t text = dentry + 0x200;

	memcpy(objects_bytes(objects, text), name, strlen(name) + 1);
	objects_set(objects, dentry, LINUX_DENTRY_PARENT, parent);
	objects_set(objects, dentry, LINUX_DENTRY_NAME, text);
	objects_set(objects, dentry, LINUX_DENTRY_NAME_LEN, strlen(name));
	objects_set(objects, dentry, LINUX_DENTRY_INODE, objects_at(OBJECTS_INODE));
	objects_set(objects, dentry, LINUX_DENTRY_SB, objects_at(OBJECTS_SB));
	objects_set(objects, dentry, LINUX_DENTRY_HASHED, text);
}

static void make_mount(struct objects *objects, uint64_t mount, uint64_t parent, uint64_t root)
{
	uint64_t vfsmount = objects_member(objects, mount, LINUX_MOUNT_VFSMOUNT);
	uint64_t mounts = objects_member(objects, mount, LINUX_MOUNT_MOUNTS);

	objects_set(objects, mount, LINUX_MOUNT_PARENT, parent);
	objects_set(objects, mount, LINUX_MOUNT_POINT, objects_at(OBJECTS_ROOT));
	objects_put(objects, vfsmount, root);
	objects_put(objects, vfsmount + 8, objects_at(OBJECTS_SB));
	objects_put(objects, mounts, mounts);
	objects_put(objects, mounts + 8, mounts);
}

static void make_files(struct objects *objects)
{
	uint64_t files = objects_at(OBJECTS_FILES), file = objects_at(OBJECTS_FILE);
	uint64_t root = objects_at(OBJECTS_ROOT), dentry = objects_at(OBJECTS_DENTRY);
	uint64_t mount = objects_at(OBJECTS_MOUNT), sb = objects_at(OBJECTS_SB);
	uint64_t vfsmount = objects_member(objects, mount, LINUX_MOUNT_VFSMOUNT);

	objects_set(objects, files, LINUX_FILES_TABLE, files + 0x100);
	objects_set(objects, files + 0x100, LINUX_TABLE_MAX, 64);
	objects_set(objects, files + 0x100, LINUX_TABLE_FILES, files + 0x200);
	objects_put(objects, files + 0x200 + 3 * 8, file);
	objects_set(objects, file, LINUX_FILE_MNT, vfsmount);
	objects_set(objects, file, LINUX_FILE_DENTRY, dentry);
	objects_set(objects, file, LINUX_FILE_PRIVATE, objects_at(OBJECTS_SOCKET));
	objects_set(objects, file, LINUX_FILE_INODE, objects_at(OBJECTS_INODE));
	objects_set(objects, file, LINUX_FILE_MAPPING, objects_at(OBJECTS_INODE) + 0x100);
	make_name(objects, root, root, "/");
	make_name(objects, dentry, root, "file");
	objects_set(objects, root, LINUX_DENTRY_CHILDREN,
		objects_member(objects, dentry, LINUX_DENTRY_SIB));
	objects_set(objects, objects_at(OBJECTS_INODE), LINUX_INODE_MODE, 0100644);
	objects_set(objects, objects_at(OBJECTS_INODE), LINUX_INODE_MAPPING,
		objects_at(OBJECTS_INODE) + 0x100);
	objects_set(objects, sb, LINUX_SB_TYPE, sb + 0x100);
	objects_set(objects, sb + 0x100, LINUX_FS_NAME, sb + 0x200);
	memcpy(objects_bytes(objects, sb + 0x200), "tmpfs", 6);
}

static void make_mounts(struct objects *objects)
{
	uint64_t mount = objects_at(OBJECTS_MOUNT), mounted = objects_at(OBJECTS_MOUNTED);
	uint64_t spaces = objects_at(OBJECTS_SPACES), fs = spaces + 0x200;

	make_mount(objects, mount, mount, objects_at(OBJECTS_ROOT));
	make_mount(objects, mounted, mount, objects_at(OBJECTS_ROOT));
	make_ring(objects, objects_member(objects, mount, LINUX_MOUNT_MOUNTS),
		objects_member(objects, mounted, LINUX_MOUNT_CHILD));
	objects_set(objects, spaces, LINUX_NSPROXY_MNT, spaces + 0x100);
	objects_set(objects, spaces + 0x100, LINUX_MNTNS_ROOT, mount);
	objects_set(objects, fs, LINUX_FS_ROOT_MNT,
		objects_member(objects, mount, LINUX_MOUNT_VFSMOUNT));
	objects_set(objects, fs, LINUX_FS_ROOT_DENTRY, objects_at(OBJECTS_ROOT));
}

static void make_rest(struct objects *objects)
{
	uint64_t module = objects_at(OBJECTS_MODULE), log = objects_at(OBJECTS_LOG);
	uint64_t sock = objects_at(OBJECTS_SOCK);

	objects_put(objects, OBJECTS_MAP + OBJECTS_FIRST + 0x10, log);
	objects_put(objects, OBJECTS_MAP + OBJECTS_FIRST + 0x18, OBJECTS_MAP);
	objects_put(objects, OBJECTS_MAP + OBJECTS_FIRST + 0x20, OBJECTS_MAP);
	make_ring(objects, objects_at(OBJECTS_SYMBOLS),
		objects_member(objects, module, LINUX_MODULE_LIST));
	memcpy(objects_bytes(objects, objects_member(objects, module, LINUX_MODULE_NAME)), "mod",
		4);
	objects_set(objects, objects_at(OBJECTS_SOCKET), LINUX_SOCKET_SOCK, sock);
	objects_set(objects, sock, LINUX_SOCK_FAMILY, 2);
	objects_set(objects, log, LINUX_LOG_COUNT_BITS, 2);
	objects_set(objects, log, LINUX_LOG_SIZE_BITS, 8);
	objects_set(objects, log, LINUX_LOG_DESCS, log + 0x100);
	objects_set(objects, log, LINUX_LOG_INFOS, log + 0x200);
	objects_set(objects, log, LINUX_LOG_DATA, log + 0x300);
	objects_set(objects, log + 0x100, LINUX_DESC_STATE, 2ull << 62);
	objects_set(objects, log + 0x200, LINUX_INFO_LEN, 5);
	memcpy(objects_bytes(objects, log + 0x308), "hello", 5);
}

bool objects_make(struct objects *objects)
{
	*objects = (struct objects){0};
	if (!memory_make(&objects->memory, OBJECTS_SIZE))
		return false;
	memory_map_all(&objects->memory, OBJECTS_MAP);
	make_fields(&objects->memory.kernel.fields);
	make_symbols(objects);
	make_tasks(objects);
	make_space(objects);
	make_files(objects);
	make_mounts(objects);
	make_rest(objects);
	linux_begin(&objects->memory.kernel);
	return true;
}

void objects_free(struct objects *objects)
{
	memory_free(&objects->memory);
}

/* ---- lists ---- */

static size_t list_process(struct objects *objects)
{
	struct linux_kernel *kernel = &objects->memory.kernel;
	const vmsig_proc *process = &objects->process;
	vmsig_proc_list threads = {0};
	vmsig_map_list maps = {0};
	vmsig_file_list files = {0};
	vmsig_socket_list sockets = {0};
	vmsig_mount_list mounts = {0};
	size_t n;

	(void)!linux_task_threads(kernel, process, &threads);
	(void)!linux_space_list(kernel, process, &maps);
	(void)!linux_file_list(kernel, process, &files);
	(void)!linux_socket_list(kernel, process, &sockets);
	(void)!linux_mounts_list(kernel, process, &mounts);
	n = threads.count * sizeof(*threads.processes) + maps.count * sizeof(*maps.maps) +
	    files.count * sizeof(*files.files) + sockets.count * sizeof(*sockets.sockets) +
	    mounts.count * sizeof(*mounts.mounts);
	maps_clear(&maps);
	linux_file_clear(&files);
	linux_mounts_clear(&mounts);
	free(threads.processes);
	free(maps.maps);
	free(files.files);
	free(sockets.sockets);
	free(mounts.mounts);
	return n;
}

static size_t list_modules(struct objects *objects)
{
	struct linux_kernel *kernel = &objects->memory.kernel;
	vmsig_module module = {.object = objects_at(OBJECTS_MODULE)};
	vmsig_module_list modules = {0};
	vmsig_name_list sections = {0}, exports = {0};
	size_t n;

	(void)!linux_module_list(kernel, &modules);
	(void)!linux_parts_sections(kernel, &module, &sections);
	(void)!linux_parts_exports(kernel, &module, &exports);
	n = modules.count * sizeof(*modules.modules) +
	    (sections.count + exports.count) * sizeof(*sections.names);
	names_clear(&sections);
	names_clear(&exports);
	free(modules.modules);
	free(sections.names);
	free(exports.names);
	return n;
}

static int count_page(void *ctx, uint64_t index)
{
	++*(size_t *)ctx;
	return 0;
}

static size_t list_contents(struct objects *objects)
{
	struct linux_kernel *kernel = &objects->memory.kernel;
	uint8_t page[LINUX_PAGE];
	vmsig_file file;
	size_t n = 0;

	if (linux_lookup(kernel, &objects->process, "/file/../file", &file))
		return 0;
	(void)!linux_cache_visit(kernel, &file, count_page, &n);
	(void)!linux_cache_page(kernel, &file, 0, page);
	return n;
}

size_t objects_list_all(struct objects *objects)
{
	struct linux_kernel *kernel = &objects->memory.kernel;
	vmsig_proc_list processes = {0};
	vmsig_log_list log = {0};
	vmsig_finding_list findings = {0};
	size_t n;

	(void)!linux_task_list(kernel, &processes);
	(void)!linux_log_list(kernel, &log);
	(void)!linux_hidden_processes(kernel, &findings);
	(void)!linux_intact_maps(kernel, &findings);
	n = processes.count * sizeof(*processes.processes) + log.count * sizeof(*log.records) +
	    findings.count * sizeof(*findings.findings);
	linux_log_clear(&log);
	finding_clear(&findings);
	free(processes.processes);
	free(log.records);
	free(findings.findings);
	return n + list_process(objects) + list_modules(objects) + list_contents(objects);
}
