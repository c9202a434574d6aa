/* SPDX-License-Identifier: Apache-2.0 */
/* Linux guests, as the public calls see a system. */
#include "clients/os/linux/contents.h"
#include "clients/os/linux/file.h"
#include "clients/os/linux/hidden.h"
#include "clients/os/linux/images.h"
#include "clients/os/linux/intact.h"
#include "clients/os/linux/learn.h"
#include "clients/os/linux/module.h"
#include "clients/os/linux/parts.h"
#include "clients/os/linux/space.h"
#include "clients/os/linux/task.h"
#include "clients/os/os.h"
#include "vmsig/vmsig_error.h"

static int init(vmsig_os_handle *os, vmsig_mem *mem, uint64_t kcr3, char *error, size_t error_size)
{
	return linux_init(&os->linux_kernel, mem, kcr3, error, error_size);
}

static void deinit(vmsig_os_handle *os)
{
	linux_deinit(&os->linux_kernel);
}

static int types(const vmsig_os_handle *os, uint64_t *ret_addr, uint32_t *ret_len)
{
	*ret_addr = os->linux_kernel.fields.types;
	*ret_len = os->linux_kernel.fields.types_len;
	return *ret_len ? 0 : VMSIG_ERR_UNSUPPORTED;
}

/* ---- symbols ---- */

static size_t symbol_count(const vmsig_os_handle *os)
{
	return os->linux_kernel.symbols.count;
}

static vmsig_symbol symbol(const vmsig_os_handle *os, size_t index)
{
	const struct linux_symbols *symbols = &os->linux_kernel.symbols;

	return (vmsig_symbol){.addr = symbols->addrs[index],
		.name = linux_symbols_name(symbols, index),
		.type = linux_symbols_type(symbols, index)};
}

static bool symbol_find(const vmsig_os_handle *os, const char *name, size_t *ret_index)
{
	return linux_symbols_index(&os->linux_kernel.symbols, name, ret_index);
}

static bool symbol_before(const vmsig_os_handle *os, uint64_t addr, size_t *ret_index)
{
	return linux_symbols_before(&os->linux_kernel.symbols, addr, ret_index);
}

/* ---- lists ---- */

/* What one lacked may be there by now: linux_learn_more(). */

static int processes(vmsig_os_handle *os, vmsig_proc_list *list)
{
	int r;

	do
		r = linux_task_list(&os->linux_kernel, list);
	while (linux_learn_more(&os->linux_kernel, r));
	return r;
}

static int threads(vmsig_os_handle *os, const vmsig_proc *process, vmsig_proc_list *list)
{
	int r;

	do
		r = linux_task_threads(&os->linux_kernel, process, list);
	while (linux_learn_more(&os->linux_kernel, r));
	return r;
}

static int command_line(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return linux_task_text(&os->linux_kernel, process, LINUX_MM_ARG_START, LINUX_MM_ARG_END,
		buf, size, ret_len);
}

static int environment(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return linux_task_text(&os->linux_kernel, process, LINUX_MM_ENV_START, LINUX_MM_ENV_END,
		buf, size, ret_len);
}

static int maps(vmsig_os_handle *os, const vmsig_proc *process, vmsig_map_list *list)
{
	int r;

	do
		r = linux_space_list(&os->linux_kernel, process, list);
	while (linux_learn_more(&os->linux_kernel, r));
	return r;
}

static int files(vmsig_os_handle *os, const vmsig_proc *process, vmsig_file_list *list)
{
	int r;

	do
		r = linux_file_list(&os->linux_kernel, process, list);
	while (linux_learn_more(&os->linux_kernel, r));
	return r;
}

static int modules(vmsig_os_handle *os, vmsig_module_list *list)
{
	int r;

	do
		r = linux_module_list(&os->linux_kernel, list);
	while (linux_learn_more(&os->linux_kernel, r));
	return r;
}

/* ---- what modules, programs and libraries are made of ---- */

static int module_part(
	vmsig_os_handle *os, const vmsig_module *module, enum os_part part, vmsig_name_list *list)
{
	static int (*const parts[OS_PARTS])(
		struct linux_kernel *, const vmsig_module *, vmsig_name_list *) = {
		[OS_SECTIONS] = linux_parts_sections,
		[OS_EXPORTS] = linux_parts_exports,
		[OS_SYMBOLS] = linux_parts_symbols,
	};

	return parts[part] ? parts[part](&os->linux_kernel, module, list) : VMSIG_ERR_UNSUPPORTED;
}

static int images(vmsig_os_handle *os, const vmsig_proc *process, vmsig_image_list *list)
{
	return linux_images_list(&os->linux_kernel, process, list);
}

static int images_part(vmsig_os_handle *os, const vmsig_proc *process, const vmsig_image *images,
	size_t count, enum os_part part, vmsig_name_list *const *lists)
{
	static const linux_contents_fn parts[OS_PARTS] = {
		[OS_SECTIONS] = linux_elf_sections,
		[OS_EXPORTS] = linux_dynamic_exports,
		[OS_IMPORTS] = linux_dynamic_imports,
		[OS_NEEDED] = linux_dynamic_needed,
	};

	return parts[part] ? linux_contents(
				     &os->linux_kernel, process, images, count, parts[part], lists)
			   : VMSIG_ERR_UNSUPPORTED;
}

/* ---- comparing ---- */

static int (*const checks[])(struct linux_kernel *, vmsig_finding_list *) = {
	linux_hidden_processes, linux_hidden_modules, linux_intact_calls, linux_intact_maps};

static int check(vmsig_os_handle *os, size_t index, vmsig_finding_list *list)
{
	return checks[index](&os->linux_kernel, list);
}

static int text(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx)
{
	return linux_intact_text(&os->linux_kernel, visit, ctx);
}

const struct os_system os_linux = {
	.kind = VMSIG_OS_LINUX,
	.init = init,
	.deinit = deinit,
	.types = types,
	.symbol_count = symbol_count,
	.symbol = symbol,
	.symbol_find = symbol_find,
	.symbol_before = symbol_before,
	.processes = processes,
	.threads = threads,
	.command_line = command_line,
	.environment = environment,
	.maps = maps,
	.files = files,
	.modules = modules,
	.module_part = module_part,
	.images = images,
	.images_part = images_part,
	.check = check,
	.check_count = sizeof(checks) / sizeof(checks[0]),
	.text = text,
};
