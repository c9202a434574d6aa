/* SPDX-License-Identifier: Apache-2.0 */
/* Windows guests, as the public calls see a system. */
#include "clients/os/os.h"
#include "clients/os/windows/exports.h"
#include "clients/os/windows/hidden.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/images.h"
#include "clients/os/windows/imports.h"
#include "clients/os/windows/intact.h"
#include "clients/os/windows/learn.h"
#include "clients/os/windows/module.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/sections.h"
#include "clients/os/windows/space.h"
#include "clients/os/windows/start.h"
#include "clients/os/windows/symbols.h"
#include "clients/os/windows/thread.h"
#include "vmsig/vmsig_error.h"

static int init(vmsig_os_handle *os, vmsig_mem *mem, uint64_t kcr3, char *error, size_t error_size)
{
	return windows_learn(&os->windows_kernel, mem, kcr3, error, error_size);
}

static void deinit(vmsig_os_handle *os)
{
	windows_forget(&os->windows_kernel);
}

/* ---- symbols ---- */

static size_t symbol_count(const vmsig_os_handle *os)
{
	return os->windows_kernel.symbols.count;
}

static vmsig_symbol symbol(const vmsig_os_handle *os, size_t index)
{
	const vmsig_name *name = &os->windows_kernel.symbols.names[index];

	return (vmsig_symbol){.addr = name->addr, .name = name->name, .type = 'T'};
}

static bool symbol_find(const vmsig_os_handle *os, const char *name, size_t *ret_index)
{
	return windows_symbols_find(&os->windows_kernel.symbols, name, ret_index);
}

static bool symbol_before(const vmsig_os_handle *os, uint64_t addr, size_t *ret_index)
{
	return windows_symbols_before(&os->windows_kernel.symbols, addr, ret_index);
}

/* ---- lists ---- */

static int processes(vmsig_os_handle *os, vmsig_proc_list *list)
{
	return windows_process_list(&os->windows_kernel, list);
}

static int threads(vmsig_os_handle *os, const vmsig_proc *process, vmsig_proc_list *list)
{
	int r = windows_process_is(&os->windows_kernel, process);

	return r ? r : windows_thread_list(&os->windows_kernel, process, list);
}

static int command_line(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return windows_start_command(&os->windows_kernel, process, buf, size, ret_len);
}

static int environment(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return windows_start_environment(&os->windows_kernel, process, buf, size, ret_len);
}

static int maps(vmsig_os_handle *os, const vmsig_proc *process, vmsig_map_list *list)
{
	return windows_space_list(&os->windows_kernel, process, list);
}

static int modules(vmsig_os_handle *os, vmsig_module_list *list)
{
	return windows_module_list(&os->windows_kernel, list);
}

/* ---- what modules are made of ---- */

typedef int (*parts_fn)(struct windows_kernel *kernel, const struct windows_image *image,
	vmsig_name_list *list, bool *ret_missing);

struct windows_parts {
	uint64_t root, base; /* 0: the kernel itself */
	parts_fn take;
	vmsig_name_list *list;
	bool missing;
};

static int walk_parts(struct windows_kernel *kernel, void *ctx)
{
	struct windows_parts *walk = ctx;
	struct windows_image image = kernel->image;
	int r = 0;

	if (walk->base)
		r = windows_image_open(kernel, walk->root, walk->base, &image);
	return r ? r : walk->take(kernel, &image, walk->list, &walk->missing);
}

static int take_parts(
	vmsig_os_handle *os, struct windows_parts *walk, parts_fn take, vmsig_name_list *list)
{
	int r;

	walk->take = take;
	walk->list = list;
	r = windows_walk(&os->windows_kernel, walk_parts, walk, &list->partial);
	list->partial |= walk->missing;
	return r;
}

static int module_part(
	vmsig_os_handle *os, const vmsig_module *module, enum os_part part, vmsig_name_list *list)
{
	static const parts_fn parts[OS_PARTS] = {
		[OS_SECTIONS] = windows_sections,
		[OS_EXPORTS] = windows_exports,
		[OS_IMPORTS] = windows_imports,
	};
	struct windows_parts walk = {
		.root = os->windows_kernel.root, .base = module ? module->base : 0};

	return parts[part] ? take_parts(os, &walk, parts[part], list) : VMSIG_ERR_UNSUPPORTED;
}

/* ---- programs and libraries ---- */

static int images(vmsig_os_handle *os, const vmsig_proc *process, vmsig_image_list *list)
{
	return windows_images_list(&os->windows_kernel, process, list);
}

/* Whose process may have ended meanwhile. */
static int images_part(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *images,
	size_t count, enum os_part part, vmsig_name_list *const *lists)
{
	static const parts_fn parts[OS_PARTS] = {
		[OS_SECTIONS] = windows_sections,
		[OS_EXPORTS] = windows_exports,
		[OS_IMPORTS] = windows_imports,
		[OS_NEEDED] = windows_imports_from,
	};
	int r = parts[part] ? windows_process_is(&os->windows_kernel, process)
			    : VMSIG_ERR_UNSUPPORTED;

	for (size_t i = 0; i < count && !r; i++) {
		struct windows_parts walk = {.root = process->root, .base = images[i].base};

		r = take_parts(os, &walk, parts[part], lists[i]);
	}
	return r ? r : windows_process_is(&os->windows_kernel, process);
}

/* ---- comparing ---- */

static int (*const checks[])(struct windows_kernel *, vmsig_finding_list *) = {
	windows_hidden_objects, windows_hidden_modules, windows_intact_maps};

static int check(vmsig_os_handle *os, size_t index, vmsig_finding_list *list)
{
	return checks[index](&os->windows_kernel, list);
}

static int text(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx)
{
	return windows_intact_text(&os->windows_kernel, visit, ctx);
}

const struct os_system os_windows = {
	.kind = VMSIG_OS_WINDOWS,
	.caveat = "verified on constructed images, not on Windows",
	.init = init,
	.deinit = deinit,
	.symbol_count = symbol_count,
	.symbol = symbol,
	.symbol_find = symbol_find,
	.symbol_before = symbol_before,
	.processes = processes,
	.threads = threads,
	.command_line = command_line,
	.environment = environment,
	.maps = maps,
	.modules = modules,
	.module_part = module_part,
	.images = images,
	.images_part = images_part,
	.check = check,
	.check_count = sizeof(checks) / sizeof(checks[0]),
	.text = text,
};
