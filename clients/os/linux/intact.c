/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/intact.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/finding.h"
#include "clients/os/linux/dispatch.h"
#include "clients/os/linux/space.h"
#include "clients/os/linux/task.h"
#include "clients/os/maps.h"
#include "vmsig/vmsig_error.h"

#define CALLS_MAX 1024u
#define PAGE 4096u
#define DISPATCH "x64_sys_call" /* from 6.9 on, and in older ones that were mended after it */
#define NUMBERS 512u            /* that no x32 call has */
#define CODE_MAX (64u << 10)    /* bytes of it; 6.12 has 5,000 */
#define TEXT_MAX (256u << 20)   /* as of a whole image */
#define PATCH 5u                /* bytes of a jump or call, and of what stands for none */

/* ---- system calls ---- */

/* Names that are there, of which one may do for several. */
static bool is_call(const struct linux_symbols *symbols, size_t index)
{
	uint64_t addr = symbols->addrs[index];

	for (size_t i = index + 1; i-- > 0 && symbols->addrs[i] == addr;) {
		if (strstr(linux_symbols_name(symbols, i), "sys_"))
			return true;
	}
	return false;
}

static int take_call(struct linux_kernel *kernel, unsigned number, uint64_t addr, uint64_t at,
	const char *basis, vmsig_finding_list *list)
{
	const struct linux_symbols *symbols = &kernel->symbols;
	size_t index;

	if (!linux_symbols_before(symbols, addr, &index))
		return finding_add(list, VMSIG_FINDING_CALL, 0, at, basis,
			"system call %u leads to 0x%" PRIx64 ", outside of the kernel's image",
			number, addr);
	if (symbols->addrs[index] == addr && is_call(symbols, index))
		return 0;
	return finding_add(list, VMSIG_FINDING_CALL, 0, at, basis,
		"system call %u leads to %s+0x%" PRIx64, number, linux_symbols_name(symbols, index),
		addr - symbols->addrs[index]);
}

/* The table ends where the next symbol begins. */
static uint64_t end_of(const struct linux_symbols *symbols, uint64_t start)
{
	uint64_t end = UINT64_MAX;

	for (size_t i = 0; i < symbols->count; i++) {
		if (symbols->addrs[i] > start && symbols->addrs[i] < end)
			end = symbols->addrs[i];
	}
	return end;
}

/* Newer kernels have it for those that trace, and do not call by it. */
static int take_table(struct linux_kernel *kernel, uint64_t table, vmsig_finding_list *list)
{
	const char *basis =
		linux_symbols_addr(&kernel->symbols, DISPATCH)
			? "sys_call_table, by which this kernel does not call (" DISPATCH
			  " does), and where the kernel's symbols begin"
			: "sys_call_table, and where the kernel's symbols begin";
	uint64_t entries[CALLS_MAX], n;
	int r = 0;

	n = (end_of(&kernel->symbols, table) - table) / 8;
	n = n < CALLS_MAX ? n : CALLS_MAX;
	linux_read(kernel, table, entries, n * 8);
	for (unsigned i = 0; i < n && !r && !kernel->fault; i++) {
		/* Behind the last one there may be some that fill up. */
		if (entries[i])
			r = take_call(kernel, i, entries[i], table + 8ull * i, basis, list);
	}
	return r ? r : kernel->fault;
}

/* One that leads away before it has looked at the number does so with all of them. */
static int take_numbers(
	struct linux_kernel *kernel, const struct dispatch *dispatch, vmsig_finding_list *list)
{
	static const char basis[] =
		"the code of " DISPATCH ", and where the kernel's symbols begin";
	const struct linux_symbols *symbols = &kernel->symbols;
	bool compared = true;
	int r = 0;

	for (unsigned i = 0; i < NUMBERS && !r && compared; i++) {
		uint64_t target;
		size_t index;

		if (!dispatch_follow(dispatch, i, &target, &compared))
			return linux_lacks(kernel, DISPATCH);
		if (compared)
			r = take_call(kernel, i, target, dispatch->start, basis, list);
		else
			r = finding_add(list, VMSIG_FINDING_CALL, 0, dispatch->start, basis,
				"all system calls lead to 0x%" PRIx64 " (%s) first", target,
				linux_symbols_before(symbols, target, &index)
					? linux_symbols_name(symbols, index)
					: "outside of the kernel's image");
	}
	return r;
}

static int take_code(struct linux_kernel *kernel, uint64_t start, vmsig_finding_list *list)
{
	struct dispatch dispatch = {
		.start = start, .len = (size_t)(end_of(&kernel->symbols, start) - start)};
	uint8_t *code;
	int r;

	if (dispatch.len > CODE_MAX)
		return linux_lacks(kernel, DISPATCH);
	code = malloc(dispatch.len);
	if (!code)
		return VMSIG_ERR_NO_MEMORY;
	linux_read(kernel, start, code, dispatch.len);
	dispatch.code = code;
	r = kernel->fault ? kernel->fault : take_numbers(kernel, &dispatch, list);
	free(code);
	return r;
}

int linux_intact_calls(struct linux_kernel *kernel, vmsig_finding_list *list)
{
	uint64_t table = linux_symbols_addr(&kernel->symbols, "sys_call_table");
	uint64_t code = linux_symbols_addr(&kernel->symbols, DISPATCH);
	int r = 0;

	linux_begin(kernel);
	if (!table && !code)
		return linux_lacks(kernel, "sys_call_table");
	if (table)
		r = take_table(kernel, table, list);
	return r || !code ? r : take_code(kernel, code, list);
}

/* ---- maps ---- */

static int take_maps(
	const vmsig_proc *process, const vmsig_map_list *maps, vmsig_finding_list *list)
{
	int r = 0;

	for (size_t i = 0; i < maps->count && !r; i++) {
		const vmsig_map *map = &maps->maps[i];

		if (!(map->prot & VMSIG_PROT_EXEC) || strcmp(map->path, "[vdso]") == 0 ||
			map->path[0] == '/')
			continue;
		r = finding_add(list, VMSIG_FINDING_MAP, process->pid, map->start,
			"the process' list of what it has mapped",
			"process %" PRIu32 " (%s) may run 0x%" PRIx64 "-0x%" PRIx64
			" (%s%s), which came from no file",
			process->pid, process->name, map->start, map->end,
			map->prot & VMSIG_PROT_WRITE ? "writable" : "read-only", map->path);
	}
	return r;
}

int linux_intact_maps(struct linux_kernel *kernel, vmsig_finding_list *list)
{
	vmsig_proc_list processes = {0};
	uint64_t reads = 0;
	int r = linux_task_list(kernel, &processes);

	list->partial |= processes.partial;
	for (size_t i = 0; i < processes.count && !r; i++) {
		vmsig_map_list maps = {0};

		if (reads > LINUX_READS_MAX) { /* many processes may share one endless space */
			list->partial = true;
			break;
		}
		kernel->spent = 0;
		r = linux_space_list(kernel, &processes.processes[i], &maps);
		reads += kernel->spent;
		if (!r)
			r = take_maps(&processes.processes[i], &maps, list);
		else if (r == VMSIG_ERR_GONE)
			r = 0;
		maps_clear(&maps);
		free(maps.maps);
	}
	free(processes.processes);
	return r;
}

/* ---- text ---- */

struct intact_text {
	uint64_t start, len;
	uint8_t *bytes;
};

static void forget(struct intact_text *text, uint64_t addr)
{
	for (uint64_t i = 0; i < PATCH; i++) {
		if (addr + i >= text->start && addr + i - text->start < text->len)
			text->bytes[addr + i - text->start] = 0;
	}
}

/* Tables of entries whose first word says how far from it the place is. */
static void forget_table(struct linux_kernel *kernel, struct intact_text *text, const char *first,
	const char *last, uint32_t size)
{
	uint64_t at = linux_symbols_addr(&kernel->symbols, first);
	uint64_t end = linux_symbols_addr(&kernel->symbols, last);

	for (; at && at + size <= end && end - at < TEXT_MAX && !kernel->fault; at += size) {
		int32_t distance;

		linux_read(kernel, at, &distance, sizeof(distance));
		/* The lowest bits of a static call's say what kind it is. */
		forget(text, at + (uint64_t)(int64_t)distance);
		forget(text, (at + (uint64_t)(int64_t)distance) & ~3ull);
	}
}

static void forget_patched(struct linux_kernel *kernel, struct intact_text *text)
{
	const struct linux_symbols *symbols = &kernel->symbols;

	forget_table(kernel, text, "__start___jump_table", "__stop___jump_table", 16);
	forget_table(kernel, text, "__start_static_call_sites", "__stop_static_call_sites", 8);
	for (size_t i = 0; i < symbols->count; i++) {
		if (strncmp(linux_symbols_name(symbols, i), "__SCT__", 7) == 0)
			forget(text, symbols->addrs[i]);
	}
}

static int visit_pages(const struct intact_text *text, vmsig_text_fn visit, void *ctx)
{
	int r = 0;

	for (uint64_t at = 0; at < text->len && !r; at += PAGE)
		r = visit(ctx, text->start + at, text->bytes + at,
			(size_t)(text->len - at < PAGE ? text->len - at : PAGE));
	return r;
}

int linux_intact_text(struct linux_kernel *kernel, vmsig_text_fn visit, void *ctx)
{
	struct intact_text text = {.start = linux_symbols_addr(&kernel->symbols, "_stext")};
	uint64_t end = linux_symbols_addr(&kernel->symbols, "_etext");
	int r;

	if (!text.start || end <= text.start || end - text.start > TEXT_MAX)
		return -VMSIG_ERR_UNSUPPORTED;
	text.len = end - text.start;
	text.bytes = malloc(text.len);
	if (!text.bytes)
		return -VMSIG_ERR_NO_MEMORY;
	linux_begin(kernel);
	linux_read(kernel, text.start, text.bytes, text.len);
	forget_patched(kernel, &text);
	r = kernel->fault ? -kernel->fault : visit_pages(&text, visit, ctx);
	free(text.bytes);
	return r;
}
