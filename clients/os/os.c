/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/os.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/linux/file.h"
#include "clients/os/linux/registers.h"
#include "clients/os/linux/space.h"
#include "clients/os/maps.h"
#include "vmsig/vmsig_error.h"

#define REASON_MAX 256u

/* ---- opening ---- */

/* In the order that they are looked for: what is of one is not there in the others. */
static const struct os_system *const systems[] = {&os_linux, &os_windows};
#define SYSTEMS (sizeof(systems) / sizeof(systems[0]))

/* What was missing for each of them, in one sentence. */
static void add_reason(char *error, size_t size, const char *reason)
{
	size_t len = size ? strlen(error) : 0;

	if (reason[0] && size)
		snprintf(error + len, size - len, "%s%s", len ? "; " : "", reason);
}

/* NULL with what went wrong. */
static vmsig_os_handle *open_on(vmsig_mem *mem, uint64_t kcr3, const struct os_system *const *tried,
	size_t n, char *error, size_t error_size, int *ret_r)
{
	vmsig_os_handle *os = calloc(1, sizeof(*os));
	char reason[REASON_MAX];

	if (error_size)
		error[0] = 0;
	*ret_r = os ? VMSIG_ERR_UNSUPPORTED : VMSIG_ERR_NO_MEMORY;
	for (size_t i = 0; i < n && *ret_r == VMSIG_ERR_UNSUPPORTED; i++) {
		reason[0] = 0;
		os->system = tried[i];
		*ret_r = os->system->init(os, mem, kcr3, reason, sizeof(reason));
		if (*ret_r)
			add_reason(error, error_size, reason);
	}
	if (!*ret_r)
		return os;
	free(os);
	return NULL;
}

int vmsig_os_open(
	vmsig_os_handle **ret_os, vmsig_mem *mem, uint64_t kcr3, char *ret_error, size_t error_size)
{
	int r;

	*ret_os = open_on(mem, kcr3, systems, SYSTEMS, ret_error, error_size, &r);
	return -r;
}

static int open_error(int error)
{
	return error == ENOMEM   ? VMSIG_ERR_NO_MEMORY
	       : error == EMFILE ? VMSIG_ERR_IO
				 : VMSIG_ERR_BAD_REQUEST;
}

static int open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low, uint64_t kcr3,
	unsigned levels, const struct os_system *system, char *ret_error, size_t error_size)
{
	vmsig_mem *mem = vmsig_mem_from_ro_fd(fd, low);
	vmsig_os_handle *os = NULL;
	int r = mem ? -vmsig_mem_set_levels(mem, levels) : open_error(errno);

	if (!r)
		os = open_on(mem, kcr3, &system, 1, ret_error, error_size, &r);
	if (os)
		os->own = mem;
	else
		vmsig_mem_close(mem);
	*ret_os = os;
	return -r;
}

int vmsig_linux_open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low, uint64_t kcr3,
	unsigned levels, char *ret_error, size_t error_size)
{
	return open_ro_fd(ret_os, fd, low, kcr3, levels, &os_linux, ret_error, error_size);
}

int vmsig_win32_open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low, uint64_t kcr3,
	unsigned levels, char *ret_error, size_t error_size)
{
	return open_ro_fd(ret_os, fd, low, kcr3, levels, &os_windows, ret_error, error_size);
}

vmsig_os_handle *vmsig_os_close(vmsig_os_handle *os)
{
	if (!os)
		return NULL;
	os->system->deinit(os);
	vmsig_mem_close(os->own);
	free(os);
	return NULL;
}

int vmsig_os_types(const vmsig_os_handle *os, uint64_t *ret_addr, uint32_t *ret_len)
{
	return os->system->types ? -os->system->types(os, ret_addr, ret_len)
				 : -VMSIG_ERR_UNSUPPORTED;
}

const char *vmsig_os_missing(const vmsig_os_handle *os)
{
	return os->system == &os_linux ? os->linux_kernel.missing : NULL;
}

uint32_t vmsig_os_kind(const vmsig_os_handle *os)
{
	return os->system->kind;
}

const char *vmsig_os_caveat(const vmsig_os_handle *os)
{
	return os->system->caveat;
}

/* ---- symbols ---- */

size_t vmsig_os_symbol_count(const vmsig_os_handle *os)
{
	return os->system->symbol_count(os);
}

vmsig_symbol vmsig_os_symbol(const vmsig_os_handle *os, size_t index)
{
	return os->system->symbol(os, index);
}

bool vmsig_os_symbol_find(const vmsig_os_handle *os, const char *name, vmsig_symbol *ret_symbol)
{
	size_t index;

	if (!os->system->symbol_find(os, name, &index))
		return false;
	*ret_symbol = vmsig_os_symbol(os, index);
	return true;
}

bool vmsig_os_symbol_at(const vmsig_os_handle *os, uint64_t addr, vmsig_symbol *ret_symbol)
{
	size_t index;

	if (!os->system->symbol_before(os, addr, &index))
		return false;
	*ret_symbol = vmsig_os_symbol(os, index);
	return true;
}

/* ---- processes ---- */

void vmsig_proc_list_free(vmsig_proc_list *list)
{
	if (list)
		free(list->processes);
	free(list);
}

int vmsig_os_processes(vmsig_os_handle *os, vmsig_proc_list **ret_list)
{
	vmsig_proc_list *list = calloc(1, sizeof(*list));
	int r = list ? os->system->processes(os, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_proc_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

int vmsig_os_process(vmsig_os_handle *os, uint32_t pid, vmsig_proc *ret_process)
{
	vmsig_proc_list list = {0};
	int r = os->system->processes(os, &list);

	if (!r)
		r = list.partial ? VMSIG_ERR_TORN : VMSIG_ERR_GONE;
	for (size_t i = 0; i < list.count; i++) {
		if (list.processes[i].pid == pid) {
			*ret_process = list.processes[i];
			r = 0;
		}
	}
	free(list.processes);
	return -r;
}

int vmsig_os_threads(vmsig_os_handle *os, const vmsig_proc *process, vmsig_proc_list **ret_list)
{
	vmsig_proc_list *list = calloc(1, sizeof(*list));
	int r = list ? os->system->threads(os, process, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_proc_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

int vmsig_os_command_line(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return -os->system->command_line(os, process, buf, size, ret_len);
}

int vmsig_os_environment(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len)
{
	return -os->system->environment(os, process, buf, size, ret_len);
}

int vmsig_os_registers(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_registers *ret_registers)
{
	struct linux_kernel *kernel = os_linux_kernel(os);

	return kernel ? -linux_registers(kernel, process, ret_registers) : -VMSIG_ERR_UNSUPPORTED;
}

/* ---- address spaces, modules, files ---- */

void vmsig_map_list_free(vmsig_map_list *list)
{
	if (!list)
		return;
	maps_clear(list);
	free(list->maps);
	free(list);
}

int vmsig_os_maps(vmsig_os_handle *os, const vmsig_proc *process, vmsig_map_list **ret_list)
{
	vmsig_map_list *list = calloc(1, sizeof(*list));
	int r = list ? os->system->maps(os, process, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_map_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

void vmsig_module_list_free(vmsig_module_list *list)
{
	if (list)
		free(list->modules);
	free(list);
}

int vmsig_os_modules(vmsig_os_handle *os, vmsig_module_list **ret_list)
{
	vmsig_module_list *list = calloc(1, sizeof(*list));
	int r = list ? os->system->modules(os, list) : VMSIG_ERR_NO_MEMORY;

	if (r) {
		vmsig_module_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}

void vmsig_file_list_free(vmsig_file_list *list)
{
	if (!list)
		return;
	linux_file_clear(list);
	free(list->files);
	free(list);
}

int vmsig_os_files(vmsig_os_handle *os, const vmsig_proc *process, vmsig_file_list **ret_list)
{
	vmsig_file_list *list = calloc(1, sizeof(*list));
	int r = !list               ? VMSIG_ERR_NO_MEMORY
		: os->system->files ? os->system->files(os, process, list)
				    : VMSIG_ERR_UNSUPPORTED;

	if (r) {
		vmsig_file_list_free(list);
		list = NULL;
	}
	*ret_list = list;
	return -r;
}
