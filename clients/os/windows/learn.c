/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/learn.h"

#include <stdio.h>
#include <string.h>

#include "clients/os/windows/accessor.h"
#include "clients/os/windows/compare.h"
#include "clients/os/windows/find.h"
#include "clients/os/windows/module.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/symbols.h"
#include "clients/os/windows/thread.h"
#include "clients/os/windows/thread_compare.h"
#include "vmsig/vmsig_error.h"

/* Exported functions that return a member. */
static const struct {
	const char *function;
	size_t offset; /* in struct windows_offsets */
} accessors[] = {
	{"PsGetProcessId", offsetof(struct windows_offsets, pid)},
	{"PsGetProcessInheritedFromUniqueProcessId", offsetof(struct windows_offsets, parent)},
	{"PsGetProcessImageFileName", offsetof(struct windows_offsets, name)},
	{"PsGetProcessPeb", offsetof(struct windows_offsets, peb)},
	{"PsGetProcessSectionBaseAddress", offsetof(struct windows_offsets, section_base)},
	{"PsGetProcessCreateTimeQuadPart", offsetof(struct windows_offsets, created)},
	{"PsGetProcessExitStatus", offsetof(struct windows_offsets, exit_status)},
	{"PsGetThreadId", offsetof(struct windows_offsets, thread_id)},
	{"PsGetThreadProcess", offsetof(struct windows_offsets, thread_process)},
};

static void read_accessors(struct windows_kernel *kernel)
{
	for (size_t i = 0; i < sizeof(accessors) / sizeof(accessors[0]); i++) {
		uint32_t offset = windows_accessor(kernel, accessors[i].function);

		memcpy((char *)&kernel->offset + accessors[i].offset, &offset, sizeof(offset));
	}
	/* ActiveProcessLinks follow the number. */
	kernel->offset.links = kernel->offset.pid ? kernel->offset.pid + 8 : 0;
}

/* A root that leads to the kernel's image, as every process' does. */
static bool leads_to_kernel(struct windows_kernel *kernel, uint64_t root)
{
	vmsig_range one, other;

	return !vmsig_gva_translate(kernel->mem, kernel->root, kernel->image.base, &one) &&
	       !vmsig_gva_translate(kernel->mem, root, kernel->image.base, &other) &&
	       one.gpa == other.gpa;
}

/* The first process is known: what was learnt has to be true of it. */
static bool fits_system(struct windows_kernel *kernel)
{
	vmsig_proc system;

	windows_begin(kernel);
	if (!kernel->offset.pid || !kernel->offset.name)
		return false;
	windows_process_read(kernel, kernel->system, 0, &system);
	return !kernel->fault && system.pid == 4 && strcmp(system.name, "System") == 0 &&
	       leads_to_kernel(kernel, system.root);
}

static bool learn_processes(struct windows_kernel *kernel)
{
	uint64_t at = windows_symbols_addr(&kernel->symbols, "PsInitialSystemProcess");

	windows_begin(kernel);
	kernel->system = at ? windows_word(kernel, at) : 0;
	if (kernel->fault || !windows_is_object(kernel->system))
		return false;
	read_accessors(kernel);
	/* Else their code was changed, or is written otherwise. */
	windows_compare(kernel, fits_system(kernel));
	return fits_system(kernel);
}

int windows_learn(struct windows_kernel *kernel, vmsig_mem *mem, uint64_t root, char *error,
	size_t error_size)
{
	int r;

	*kernel = (struct windows_kernel){.mem = mem, .root = root};
	windows_begin(kernel);
	r = windows_find(kernel);
	if (r == VMSIG_ERR_UNSUPPORTED)
		snprintf(error, error_size, "no ntoskrnl.exe is mapped where Windows has it");
	if (!r)
		r = windows_symbols_read(kernel);
	if (!r && !learn_processes(kernel)) {
		snprintf(error, error_size,
			"ntoskrnl.exe is there, but where its processes keep numbers and names was "
			"not found");
		r = VMSIG_ERR_UNSUPPORTED;
	}
	if (!r) {
		windows_module_find(kernel);
		windows_thread_find(kernel);
		/* Code that tells of them was changed, or does more than to return a member. */
		if (!kernel->offset.threads)
			windows_thread_compare(kernel);
	}
	if (r)
		windows_forget(kernel);
	return r;
}

void windows_forget(struct windows_kernel *kernel)
{
	windows_symbols_deinit(&kernel->symbols);
}
