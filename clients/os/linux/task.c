/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/task.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/fault.h"
#include "clients/os/grow.h"
#include "clients/os/linux/ring.h"
#include "vmsig/vmsig_error.h"

/* include/linux/sched.h, unchanged from 4.14 to 7.3. */
#define PF_KTHREAD 0x00200000u
#define TASK_IDLE 0x402u
#define TASK_REPORT 0x7fu
#define EXIT_ZOMBIE 0x20u

#define COMM 16u

/* ---- one ---- */

/* As fs/proc/array.c has it: the highest bit that is reported names the state. */
static char state_letter(uint32_t state, uint32_t exit_state)
{
	static const char letters[] = "RSDTtXZPI";
	uint32_t reported = (state | exit_state) & TASK_REPORT;
	unsigned bit = 0;

	if ((state & TASK_IDLE) == TASK_IDLE && !exit_state)
		return 'I';
	while (reported >> bit)
		bit++;
	return letters[bit];
}

uint64_t linux_task_mm(struct linux_kernel *kernel, const vmsig_proc *process)
{
	return process->flags & VMSIG_PROC_KERNEL
		       ? 0
		       : linux_get(kernel, process->object, LINUX_TASK_MM);
}

/* A root of page tables is named by its address in the kernel's map of all memory. */
static uint64_t root_of(struct linux_kernel *kernel, uint64_t mm)
{
	uint64_t pgd = linux_get(kernel, mm, LINUX_MM_PGD);
	vmsig_range page;

	if (kernel->fault)
		return 0;
	kernel->fault = -vmsig_gva_translate(kernel->mem, kernel->root, pgd, &page);
	return kernel->fault ? 0 : page.gpa + (pgd - page.gva);
}

static void read_names(struct linux_kernel *kernel, uint64_t task, vmsig_proc *process)
{
	char comm[COMM + 1];

	linux_text(kernel, linux_at(kernel, task, LINUX_TASK_COMM), comm, sizeof(comm));
	memcpy(process->name, comm, sizeof(comm));
}

static void read_facts(struct linux_kernel *kernel, uint64_t task, vmsig_proc *process)
{
	uint64_t signal = linux_get(kernel, task, LINUX_TASK_SIGNAL);
	uint64_t cred = linux_get(kernel, task, LINUX_TASK_CRED);
	uint64_t parent = linux_get(kernel, task, LINUX_TASK_REAL_PARENT);
	uint32_t exit_state = (uint32_t)linux_get(kernel, task, LINUX_TASK_EXIT_STATE);

	process->object = task;
	process->pid = (uint32_t)linux_get(kernel, task, LINUX_TASK_PID);
	process->start_ns = linux_get(kernel, task, LINUX_TASK_START);
	process->parent = (uint32_t)linux_get(kernel, parent, LINUX_TASK_TGID);
	process->uid = (uint32_t)linux_get(kernel, cred, LINUX_CRED_UID);
	process->threads = (uint32_t)linux_get(kernel, signal, LINUX_SIGNAL_NR_THREADS);
	process->state =
		state_letter((uint32_t)linux_get(kernel, task, LINUX_TASK_STATE), exit_state);
	if (linux_get(kernel, task, LINUX_TASK_FLAGS) & PF_KTHREAD)
		process->flags |= VMSIG_PROC_KERNEL;
	if (exit_state & EXIT_ZOMBIE)
		process->flags |= VMSIG_PROC_ZOMBIE;
}

/* With what it has to be the same before and after. */
static void read_task(struct linux_kernel *kernel, uint64_t task, vmsig_proc *process)
{
	uint64_t mm;

	*process = (vmsig_proc){0};
	read_facts(kernel, task, process);
	read_names(kernel, task, process);
	mm = linux_task_mm(kernel, process);
	if (mm)
		process->root = root_of(kernel, mm);
	if (linux_get(kernel, task, LINUX_TASK_START) != process->start_ns ||
		linux_get(kernel, task, LINUX_TASK_PID) != process->pid ||
		linux_task_mm(kernel, process) != mm)
		linux_torn(kernel);
}

int linux_task_is(struct linux_kernel *kernel, const vmsig_proc *process)
{
	uint32_t left = kernel->left, room = kernel->room; /* of the walk that this is a part of */
	uint64_t start, pid;

	linux_begin(kernel);
	start = linux_get(kernel, process->object, LINUX_TASK_START);
	pid = linux_get(kernel, process->object, LINUX_TASK_PID);
	kernel->left = left;
	kernel->room = room;
	/* What it was in may be no memory of the kernel's any more. */
	if (fault_again(kernel->fault) ||
		(!kernel->fault && (start != process->start_ns || pid != process->pid)))
		return VMSIG_ERR_GONE;
	return kernel->fault;
}

/* ---- lists ---- */

static int append(vmsig_proc_list *list, const vmsig_proc *process)
{
	vmsig_proc *processes = grow_array(list->processes, list->count, sizeof(*processes));

	if (!processes)
		return VMSIG_ERR_NO_MEMORY;
	list->processes = processes;
	processes[list->count++] = *process;
	return 0;
}

/* One walk of a ring of tasks; what was found stays in the list when it did not hold together. */
static int walk(struct linux_kernel *kernel, uint64_t head, enum linux_field links, uint32_t parent,
	vmsig_proc_list *list)
{
	struct linux_ring ring = linux_ring(kernel, head, links);
	vmsig_proc process;
	uint64_t task;
	int r = 0;

	list->count = 0;
	while (!r && linux_ring_next(&ring, &task)) {
		read_task(kernel, task, &process);
		if (kernel->fault)
			break;
		if (links == LINUX_TASK_THREAD_NODE)
			process.parent = parent;
		r = append(list, &process);
	}
	return r ? r : kernel->fault;
}

static int walk_until_whole(struct linux_kernel *kernel, uint64_t head, enum linux_field links,
	uint32_t parent, vmsig_proc_list *list)
{
	int r = VMSIG_ERR_TORN;

	for (unsigned i = 0; linux_attempt(kernel, i, r); i++)
		r = walk(kernel, head, links, parent, list);
	list->partial = fault_again(r);
	return list->partial ? 0 : r;
}

int linux_task_list(struct linux_kernel *kernel, vmsig_proc_list *ret_list)
{
	static const enum linux_field needed[] = {LINUX_TASK_TASKS, LINUX_TASK_COMM};
	uint64_t init;

	linux_begin(kernel);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	init = linux_symbol(kernel, "init_task");
	if (kernel->fault)
		return kernel->fault;
	return walk_until_whole(
		kernel, linux_at(kernel, init, LINUX_TASK_TASKS), LINUX_TASK_TASKS, 0, ret_list);
}

int linux_task_threads(
	struct linux_kernel *kernel, const vmsig_proc *process, vmsig_proc_list *ret_list)
{
	static const enum linux_field needed[] = {LINUX_TASK_THREAD_NODE, LINUX_SIGNAL_THREAD_HEAD};
	uint64_t signal;
	int r = linux_task_is(kernel, process);

	if (r)
		return r;
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	signal = linux_get(kernel, process->object, LINUX_TASK_SIGNAL);
	if (kernel->fault)
		return kernel->fault;
	r = walk_until_whole(kernel, linux_at(kernel, signal, LINUX_SIGNAL_THREAD_HEAD),
		LINUX_TASK_THREAD_NODE, process->pid, ret_list);
	return r ? r : linux_task_is(kernel, process);
}

/* ---- texts ---- */

int linux_task_text(struct linux_kernel *kernel, const vmsig_proc *process, enum linux_field start,
	enum linux_field end, char *buf, size_t size, size_t *ret_len)
{
	int r = linux_task_is(kernel, process);
	uint64_t mm, from, to, len;

	*ret_len = 0;
	if (r)
		return r;
	mm = linux_task_mm(kernel, process);
	if (!mm || kernel->fault)
		return kernel->fault;
	from = linux_get(kernel, mm, start);
	to = linux_get(kernel, mm, end);
	if (kernel->fault)
		return kernel->fault;
	len = to > from ? to - from : 0;
	len = len < VMSIG_OS_TEXT_MAX ? len : VMSIG_OS_TEXT_MAX;
	r = -vmsig_gva_read(kernel->mem, process->root, from, buf, len < size ? len : size);
	if (!r)
		*ret_len = len;
	return r ? r : linux_task_is(kernel, process);
}
