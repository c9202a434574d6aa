/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/mount_tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/isf.h"
#include "clients/common/symfile.h"
#include "clients/common/typeinfo.h"

#define FOUR_GIB (1ull << 32)

/* 0 or a negated enum vmsig_error; whether it could be written is the stream's to say. */
typedef int (*make_fn)(FILE *to, const struct mount_node *node);

/* As the kernel has it in its own files: a name that the guest chose makes no line. */
static void put_name(FILE *to, const char *name)
{
	const char *end;

	for (; (end = strchr(name, '\n')); name = end + 1)
		fprintf(to, "%.*s\\012", (int)(end - name), name);
	fputs(name, to);
}

/* ---- what files of a guest say ---- */

static int make_epoch(FILE *to, const struct mount_node *node)
{
	fprintf(to, "%" PRIu32 "\n", node->guest->guest.context.pod.epoch);
	return 0;
}

static int make_kcr3(FILE *to, const struct mount_node *node)
{
	fprintf(to, "0x%" PRIx64 "\n", node->guest->guest.context.pod.kcr3);
	return 0;
}

static void put_range(FILE *to, uint64_t gpa, uint64_t len, uint64_t off)
{
	if (len)
		fprintf(to, "%" PRIx64 " - %" PRIx64 " -> %" PRIx64 "\n", gpa, gpa + len - 1, off);
}

/* As LeechCore's memmap files have it, into `mem`, where each byte is at its address. */
static int make_memmap(FILE *to, const struct mount_node *node)
{
	const struct context *context = &node->guest->guest.context;
	uint64_t end = vmsig_phys_end(context->mem);

	for (uint32_t i = 0; i < context->nseg; i++)
		put_range(to, context->segs[i].gpa, context->segs[i].len, context->segs[i].gpa);
	if (context->nseg)
		return 0;
	put_range(to, 0, context->pod.low, 0);
	if (end > FOUR_GIB)
		put_range(to, FOUR_GIB, end - FOUR_GIB, FOUR_GIB);
	return 0;
}

static int make_kallsyms(FILE *to, const struct mount_node *node)
{
	const vmsig_os_handle *os = node->guest->guest.os;
	size_t n = vmsig_os_symbol_count(os);

	for (size_t i = 0; i < n; i++) {
		vmsig_symbol symbol = vmsig_os_symbol(os, i);

		fprintf(to, "%016" PRIx64 " %c ", symbol.addr, symbol.type);
		put_name(to, symbol.name);
		fputc('\n', to);
	}
	return 0;
}

static int make_btf(FILE *to, const struct mount_node *node)
{
	uint32_t len;
	uint8_t *bytes;
	int r = typeinfo_read(&node->guest->guest.context, node->guest->guest.os, &bytes, &len);

	if (!r)
		(void)fwrite(bytes, 1, len, to);
	free(bytes);
	return -r;
}

static int make_vmlinux(FILE *to, const struct mount_node *node)
{
	struct symfile file;
	int r = symfile_init(&file, &node->guest->guest.context, node->guest->guest.os);

	if (r)
		return -r;
	(void)fwrite(file.bytes, 1, file.len, to);
	symfile_deinit(&file);
	return 0;
}

static int make_isf(FILE *to, const struct mount_node *node)
{
	return -isf_write(to, &node->guest->guest.context, node->guest->guest.os, NULL, 0);
}

/* ---- what files of a process say ---- */

static int make_maps(FILE *to, const struct mount_node *node)
{
	vmsig_map_list *list;
	int r = vmsig_os_maps(node->guest->guest.os, &node->process, &list);

	if (r)
		return r;
	for (size_t i = 0; i < list->count; i++) {
		const vmsig_map *map = &list->maps[i];

		fprintf(to, "%08" PRIx64 "-%08" PRIx64 " %c%c%c%c %08" PRIx64 " 00:00 0%s",
			map->start, map->end, map->prot & VMSIG_PROT_READ ? 'r' : '-',
			map->prot & VMSIG_PROT_WRITE ? 'w' : '-',
			map->prot & VMSIG_PROT_EXEC ? 'x' : '-',
			map->prot & VMSIG_MAP_SHARED ? 's' : 'p', map->offset,
			map->path[0] ? "                   " : "");
		put_name(to, map->path);
		fputc('\n', to);
	}
	vmsig_map_list_free(list);
	return 0;
}

static int make_words(FILE *to, const struct mount_node *node,
	int (*get)(vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size,
		size_t *ret_len))
{
	char *buf = malloc(VMSIG_OS_TEXT_MAX);
	size_t len;
	int r = buf ? get(node->guest->guest.os, &node->process, buf, VMSIG_OS_TEXT_MAX, &len)
		    : -VMSIG_ERR_NO_MEMORY;

	if (!r)
		(void)fwrite(buf, 1, len < VMSIG_OS_TEXT_MAX ? len : VMSIG_OS_TEXT_MAX, to);
	free(buf);
	return r;
}

static int make_cmdline(FILE *to, const struct mount_node *node)
{
	return make_words(to, node, vmsig_os_command_line);
}

static int make_environ(FILE *to, const struct mount_node *node)
{
	return make_words(to, node, vmsig_os_environment);
}

/* ---- the tree ---- */

struct mount_file {
	const char *name;
	enum mount_kind kind;
	bool needs_os;
	enum corefile_format format; /* MOUNT_CORE */
	make_fn make;                /* MOUNT_TEXT, MOUNT_FRESH */
};

/* MOUNT_TEXTs first: the guest keeps them by their number. */
static const struct mount_file guest_files[] = {
	{.name = "epoch", .kind = MOUNT_TEXT, .make = make_epoch},
	{.name = "kcr3", .kind = MOUNT_TEXT, .make = make_kcr3},
	{.name = "memmap", .kind = MOUNT_TEXT, .make = make_memmap},
	{.name = "kallsyms", .kind = MOUNT_TEXT, .needs_os = true, .make = make_kallsyms},
	{.name = "btf", .kind = MOUNT_TEXT, .needs_os = true, .make = make_btf},
	{.name = "vmlinux", .kind = MOUNT_TEXT, .needs_os = true, .make = make_vmlinux},
	{.name = "isf.json", .kind = MOUNT_TEXT, .needs_os = true, .make = make_isf},
	{.name = "mem", .kind = MOUNT_CORE, .format = COREFILE_RAW},
	{.name = "vmcore", .kind = MOUNT_CORE, .needs_os = true, .format = COREFILE_ELF},
	{.name = "kcore", .kind = MOUNT_CORE, .needs_os = true, .format = COREFILE_KCORE},
	{.name = "pid", .kind = MOUNT_PIDS, .needs_os = true},
};
static const struct mount_file process_files[] = {
	{.name = "maps", .kind = MOUNT_FRESH, .make = make_maps},
	{.name = "cmdline", .kind = MOUNT_FRESH, .make = make_cmdline},
	{.name = "environ", .kind = MOUNT_FRESH, .make = make_environ},
	{.name = "mem", .kind = MOUNT_MEMORY},
	{.name = "exe", .kind = MOUNT_EXE},
	{.name = "fd", .kind = MOUNT_FDS},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT(guest_files) - 4 <= MOUNT_TEXTS, "each text has its place");

static int take_file(
	struct mount_node *node, const struct mount_file *files, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(files[i].name, name) != 0)
			continue;
		if (files[i].needs_os && !node->guest->guest.os)
			return -ENOENT;
		node->kind = files[i].kind;
		node->file = &files[i];
		return 0;
	}
	return -ENOENT;
}

static bool is_number(const char *text, uint32_t *ret_number)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	*ret_number = (uint32_t)number;
	return text[0] >= '0' && text[0] <= '9' && !*end && number <= INT32_MAX;
}

static int take_process(struct mount_node *node, const char *name)
{
	uint32_t pid;

	if (!is_number(name, &pid))
		return -ENOENT;
	node->kind = MOUNT_PROCESS;
	return mount_errno(vmsig_os_process(node->guest->guest.os, pid, &node->process));
}

static int take_fd(struct mount_node *node, const char *name)
{
	uint32_t fd;

	if (!is_number(name, &fd))
		return -ENOENT;
	node->kind = MOUNT_FD;
	node->fd = (int32_t)fd;
	return 0;
}

static int take_endpoint(struct mount_guests *guests, struct mount_node *node, const char *name)
{
	if (strlen(name) > VMSIG_NAME_MAX)
		return -ENOENT;
	node->kind = MOUNT_ENDPOINT;
	return mount_guest_find(guests, name, &node->guest);
}

/* One step down. */
static int take(struct mount_guests *guests, struct mount_node *node, const char *name)
{
	switch (node->kind) {
	case MOUNT_ROOT:
		return take_endpoint(guests, node, name);
	case MOUNT_ENDPOINT:
		return take_file(node, guest_files, COUNT(guest_files), name);
	case MOUNT_PIDS:
		return take_process(node, name);
	case MOUNT_PROCESS:
		return take_file(node, process_files, COUNT(process_files), name);
	case MOUNT_FDS:
		return take_fd(node, name);
	default:
		return -ENOTDIR;
	}
}

int mount_tree_find(struct mount_guests *guests, const char *path, struct mount_node *ret_node)
{
	char *copy = strdup(path), *rest = NULL;
	int r = copy ? 0 : -ENOMEM;

	*ret_node = (struct mount_node){.kind = MOUNT_ROOT};
	for (char *part = copy ? strtok_r(copy, "/", &rest) : NULL; part && !r;
		part = strtok_r(NULL, "/", &rest))
		r = take(guests, ret_node, part);
	free(copy);
	return r;
}

/* ---- directories ---- */

static bool is_there(const struct mount_node *node, const struct mount_file *file)
{
	vmsig_file unused;

	return file->kind == MOUNT_EXE ? mount_tree_program(node, &unused) != -ENOENT
				       : !file->needs_os || node->guest->guest.os;
}

static void list_files(const struct mount_node *node, const struct mount_file *files, size_t n,
	mount_name_fn add, void *ctx)
{
	for (size_t i = 0; i < n; i++) {
		if (is_there(node, &files[i]))
			add(ctx, files[i].name);
	}
}

static void add_number(mount_name_fn add, void *ctx, int64_t number)
{
	char name[24];

	snprintf(name, sizeof(name), "%" PRId64, number);
	add(ctx, name);
}

static int list_processes(const struct mount_node *node, mount_name_fn add, void *ctx)
{
	vmsig_proc_list *list;
	int r = vmsig_os_processes(node->guest->guest.os, &list);

	if (r)
		return mount_errno(r);
	for (size_t i = 0; i < list->count; i++)
		add_number(add, ctx, list->processes[i].pid);
	vmsig_proc_list_free(list);
	return 0;
}

static int list_fds(const struct mount_node *node, mount_name_fn add, void *ctx)
{
	vmsig_file_list *list;
	int r = vmsig_os_files(node->guest->guest.os, &node->process, &list);

	if (r)
		return mount_errno(r);
	for (size_t i = 0; i < list->count; i++)
		add_number(add, ctx, list->files[i].number);
	vmsig_file_list_free(list);
	return 0;
}

int mount_tree_list(
	struct mount_guests *guests, const struct mount_node *node, mount_name_fn add, void *ctx)
{
	switch (node->kind) {
	case MOUNT_ROOT:
		return mount_guests_list(guests, add, ctx);
	case MOUNT_ENDPOINT:
		list_files(node, guest_files, COUNT(guest_files), add, ctx);
		return 0;
	case MOUNT_PIDS:
		return list_processes(node, add, ctx);
	case MOUNT_PROCESS:
		list_files(node, process_files, COUNT(process_files), add, ctx);
		return 0;
	case MOUNT_FDS:
		return list_fds(node, add, ctx);
	default:
		return -ENOTDIR;
	}
}

/* ---- files ---- */

enum corefile_format mount_tree_format(const struct mount_node *node)
{
	return node->file->format;
}

int mount_tree_fresh(const struct mount_node *node, struct mount_text *ret_text)
{
	FILE *to = open_memstream(&ret_text->bytes, &ret_text->len);
	int r;

	if (!to)
		return -ENOMEM;
	r = node->file->make(to, node);
	if (fclose(to) == 0 && !r)
		return 0;
	free(ret_text->bytes);
	*ret_text = (struct mount_text){0};
	return r ? mount_errno(r) : -ENOMEM;
}

int mount_tree_text(const struct mount_node *node, const struct mount_text **ret_text)
{
	struct mount_text *text = &node->guest->texts[node->file - guest_files];

	*ret_text = text;
	return text->bytes ? 0 : mount_tree_fresh(node, text);
}

int mount_tree_program(const struct mount_node *node, vmsig_file *ret_file)
{
	int r = vmsig_os_program(node->guest->guest.os, &node->process, ret_file);

	if (r == -VMSIG_ERR_NOT_MAPPED || r == -VMSIG_ERR_UNSUPPORTED)
		return -ENOENT;
	return r ? mount_errno(r) : ret_file->size > MOUNT_SIZE_MAX ? -EOVERFLOW : 0;
}

int mount_tree_target(const struct mount_node *node, char *buf, size_t size)
{
	vmsig_file_list *list;
	int r = vmsig_os_files(node->guest->guest.os, &node->process, &list);

	if (r)
		return mount_errno(r);
	r = -ENOENT;
	for (size_t i = 0; i < list->count; i++) {
		if (list->files[i].number != node->fd)
			continue;
		/* Of ours there is none in this folder, so a path leads nowhere on the host. */
		snprintf(buf, size, "%s%s", strchr(list->files[i].path, '/') ? "guest:" : "",
			list->files[i].path);
		r = 0;
	}
	vmsig_file_list_free(list);
	return r;
}
