/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/intact.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/finding.h"
#include "clients/os/windows/area.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/sections.h"
#include "clients/os/windows/vad.h"
#include "vmsig/vmsig_error.h"

/* ---- memory of processes ---- */

struct intact_walk {
	struct windows_kernel *kernel;
	const vmsig_proc *process;
	vmsig_finding_list *list;
	int error;
};

static bool look_at_area(void *ctx, const struct windows_vad *vad)
{
	struct intact_walk *walk = ctx;
	struct windows_area area;

	windows_area_read(walk->kernel, vad->node, &area);
	if (!walk->kernel->fault && area.is_private && area.protection & VMSIG_PROT_EXEC)
		walk->error = finding_add(walk->list, VMSIG_FINDING_MAP, walk->process->pid,
			vad->start, "what the area was made with, and that no file is behind it",
			"memory of process %" PRIu32 " (%s) that may be run and is of no file, "
			"0x%" PRIx64 " to 0x%" PRIx64,
			walk->process->pid, walk->process->name, vad->start, vad->end);
	return !walk->error && !walk->kernel->fault;
}

/* Walked once, so that nothing is found twice. */
static int walk_once(struct windows_kernel *kernel, struct intact_walk *walk)
{
	windows_begin(kernel);
	windows_vad_visit(kernel, &kernel->area, walk->process->object, look_at_area, walk);
	if (fault_again(kernel->fault))
		walk->list->partial = true;
	else if (kernel->fault)
		return kernel->fault;
	return walk->error;
}

int windows_intact_maps(struct windows_kernel *kernel, vmsig_finding_list *list)
{
	vmsig_proc_list processes = {0};
	uint64_t reads = 0;
	int r = windows_area_learn(kernel);

	if (r || !kernel->area.flags)
		return r ? r : VMSIG_ERR_UNSUPPORTED;
	r = windows_process_list(kernel, &processes);
	list->partial |= processes.partial;
	for (size_t i = 0; i < processes.count && !r; i++) {
		struct intact_walk walk = {
			.kernel = kernel, .process = &processes.processes[i], .list = list};

		if (processes.processes[i].flags & VMSIG_PROC_ZOMBIE)
			continue;
		if (reads > WINDOWS_READS_MAX) { /* many processes may share one large tree */
			list->partial = true;
			break;
		}
		r = walk_once(kernel, &walk);
		reads += WINDOWS_READS_MAX - kernel->left;
	}
	free(processes.processes);
	return r;
}

/* ---- text of the kernel ---- */

/* What stays in memory after the start, and is not written. */
static bool stays(const struct windows_section *section)
{
	static const char *const moved[] = {"PAGE", "INIT"};

	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		if (strncmp(section->name, moved[i], strlen(moved[i])) == 0)
			return false;
	}
	return (section->flags & WINDOWS_SECTION_EXEC) &&
	       !(section->flags & (WINDOWS_SECTION_WRITE | WINDOWS_SECTION_DISCARDED));
}

int windows_intact_text(struct windows_kernel *kernel, vmsig_text_fn visit, void *ctx)
{
	struct windows_section section;
	uint8_t page[WINDOWS_PAGE];
	bool missing;
	int r = 0;

	for (unsigned i = 0; i < kernel->image.sections && !r; i++) {
		windows_begin(kernel);
		if (!windows_section(kernel, &kernel->image, i, &section) || !stays(&section))
			continue;
		for (uint32_t at = 0; at < section.size && !r; at += WINDOWS_PAGE) {
			uint64_t gva = kernel->image.base + section.at + at;

			windows_read_some(kernel, kernel->root, gva, page, sizeof(page), &missing);
			r = kernel->fault ? -kernel->fault : visit(ctx, gva, page, sizeof(page));
		}
	}
	return r;
}
