/* SPDX-License-Identifier: Apache-2.0 */
/* Lists, trees and texts of a Windows guest. The first process lies at OBJECT, and its members
 * where the constants say. */
#include "clients/os/maps.h"
#include "clients/os/windows/area.h"
#include "clients/os/windows/compare.h"
#include "clients/os/windows/module.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/space.h"
#include "clients/os/windows/start.h"
#include "clients/os/windows/thread.h"
#include "clients/os/windows/thread_compare.h"
#include "clients/os/windows/vad.h"
#include "tests/fuzz/windows.h"

#define OBJECT (WINDOWS_FUZZ_KERNEL + 0x100)
#define MODULES (WINDOWS_FUZZ_KERNEL + 0x40)
#define IMAGE (WINDOWS_FUZZ_KERNEL + 0x8000) /* where the heads of lists are */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_process(struct windows_kernel *kernel, const vmsig_proc *process)
{
	static char text[4096];
	vmsig_proc_list threads = {0};
	vmsig_map_list maps = {0};
	size_t len;

	(void)!windows_thread_list(kernel, process, &threads);
	(void)!windows_space_list(kernel, process, &maps);
	(void)!windows_start_command(kernel, process, text, sizeof(text), &len);
	(void)!windows_start_environment(kernel, process, text, sizeof(text), &len);
	maps_clear(&maps);
	free(maps.maps);
	free(threads.processes);
}

static void set_members(struct windows_kernel *kernel, uint8_t choice)
{
	kernel->offset = (struct windows_offsets){.pid = 0x40,
		.links = 0x48,
		.parent = 0x58,
		.name = 0x60,
		.peb = 0x70,
		.section_base = 0x78,
		.created = 0x80,
		.exit_status = 0x88,
		.thread_id = 0x48,
		.thread_process = 0x20};
	kernel->system = OBJECT;
	kernel->modules = MODULES;
	kernel->image = (struct windows_image){.root = kernel->root, .base = IMAGE, .size = 0x1000};
	/* What is found by itself, and what is given. */
	if (choice & 1) {
		kernel->offset.threads = 0x30;
		kernel->offset.thread_links = 0x10;
	}
	if (choice & 2) {
		kernel->area = windows_vad_shapes[choice / 4 % WINDOWS_SHAPES];
		kernel->area.root = 0x90;
		kernel->area.flags = 0x28;
		kernel->area.protection_bit = 3;
		kernel->area.private_bit = 15;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct windows_kernel kernel = windows_fuzz_kernel(data, size);
	vmsig_proc_list processes = {0};
	vmsig_module_list modules = {0};

	set_members(&kernel, size ? data[0] : 0);
	if (!kernel.offset.threads)
		windows_thread_find(&kernel);
	if (!kernel.offset.threads)
		windows_thread_compare(&kernel);
	(void)!windows_module_list(&kernel, &modules);
	(void)!windows_process_list(&kernel, &processes);
	for (size_t i = 0; i < processes.count && i < 8; i++)
		look_at_process(&kernel, &processes.processes[i]);
	windows_compare(&kernel, false);
	free(processes.processes);
	free(modules.modules);
	return 0;
}
