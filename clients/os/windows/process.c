/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/process.h"

#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/windows/clock.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "clients/os/windows/thread.h"
#include "vmsig/vmsig_error.h"

/* Of DISPATCHER_HEADER: the type of an object. */
#define KIND_MASK 0xffu

/* ---- one ---- */

static void read_name(struct windows_kernel *kernel, uint64_t object, vmsig_proc *process)
{
	char name[WINDOWS_PROCESS_NAME + 1] = "";

	windows_read(kernel, object + kernel->offset.name, name, WINDOWS_PROCESS_NAME);
	memcpy(process->name, name, sizeof(name));
}

/* Objects of one kind begin alike. */
static bool is_process(struct windows_kernel *kernel, uint64_t object, uint64_t pid)
{
	uint32_t kind = windows_word32(kernel, object),
		 system = windows_word32(kernel, kernel->system);

	return windows_is_object(object) && ((kind ^ system) & KIND_MASK) == 0 && pid &&
	       pid % 4 == 0 && pid <= WINDOWS_PID_MAX;
}

void windows_process_read(
	struct windows_kernel *kernel, uint64_t object, uint64_t start, vmsig_proc *ret_process)
{
	const struct windows_offsets *offset = &kernel->offset;
	uint64_t pid = windows_word(kernel, object + offset->pid);
	uint64_t root = windows_word(kernel, object + WINDOWS_PROCESS_ROOT);

	*ret_process = (vmsig_proc){.object = object,
		.root = root & WINDOWS_ROOT_MASK,
		.pid = (uint32_t)pid,
		.uid = VMSIG_PROC_NO_UID,
		.state = '?'};
	if (!is_process(kernel, object, pid))
		windows_torn(kernel);
	if (offset->parent)
		ret_process->parent = (uint32_t)windows_word(kernel, object + offset->parent);
	if (offset->created)
		ret_process->start_ns =
			windows_clock_since(start, windows_word(kernel, object + offset->created));
	read_name(kernel, object, ret_process);
	if (windows_word32(kernel, object + WINDOWS_PROCESS_SIGNAL)) {
		ret_process->flags |= VMSIG_PROC_ZOMBIE;
		ret_process->state = 'Z';
	} else if (offset->peb && !windows_word(kernel, object + offset->peb)) {
		ret_process->flags |= VMSIG_PROC_KERNEL;
	}
}

int windows_process_is(struct windows_kernel *kernel, const vmsig_proc *process)
{
	vmsig_proc now;

	windows_begin(kernel);
	windows_process_read(kernel, process->object, windows_clock_start(kernel), &now);
	/* Where it was there may be no memory of the kernel's any more. The clock may have been set
	 * meanwhile, which changes when it was started. */
	if (fault_again(kernel->fault) ||
		(!kernel->fault && (now.pid != process->pid || now.root != process->root ||
					   strcmp(now.name, process->name) != 0)))
		return VMSIG_ERR_GONE;
	return kernel->fault;
}

/* ---- all ---- */

struct process_walk {
	vmsig_proc_list *list;
	uint64_t start;
};

static int append(struct process_walk *walk, const vmsig_proc *process)
{
	vmsig_proc_list *list = walk->list;
	vmsig_proc *processes = grow_array(list->processes, list->count, sizeof(*processes));

	if (!processes)
		return VMSIG_ERR_NO_MEMORY;
	list->processes = processes;
	processes[list->count++] = *process;
	return 0;
}

static int take(struct windows_kernel *kernel, struct process_walk *walk, uint64_t object)
{
	vmsig_proc process;

	windows_process_read(kernel, object, walk->start, &process);
	process.threads = windows_thread_count(kernel, object);
	return kernel->fault ? 0 : append(walk, &process);
}

/* The ring through all of them has a head, which is the kernel's own data; the first process is
 * where the walk begins. */
static int walk_once(struct windows_kernel *kernel, void *ctx)
{
	struct process_walk *walk = ctx;
	uint64_t links = kernel->system + kernel->offset.links, object;
	struct windows_ring ring = windows_ring(kernel, links, kernel->offset.links);
	unsigned heads = 0;
	int r;

	walk->list->count = 0;
	walk->start = windows_clock_start(kernel);
	r = take(kernel, walk, kernel->system);
	while (!r && !kernel->fault && windows_ring_next(&ring, &object)) {
		if (ring.at - kernel->image.base < kernel->image.size)
			heads++;
		else
			r = take(kernel, walk, object);
	}
	if (heads != 1)
		windows_torn(kernel);
	return r;
}

int windows_process_list(struct windows_kernel *kernel, vmsig_proc_list *ret_list)
{
	struct process_walk walk = {.list = ret_list};

	return windows_walk(kernel, walk_once, &walk, &ret_list->partial);
}
