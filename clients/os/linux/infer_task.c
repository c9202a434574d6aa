/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/infer_task.h"

#include <stdlib.h>

#include "clients/os/linux/infer_probe.h"
#include "clients/os/linux/radix.h"
#include "vmsig/vmsig_error.h"

#define COMM 16u
#define TASKS_MIN 3u
#define RING_MAX 100000u
#define FIRST_KEPT (INFER_TASKS_MAX / 2) /* the others are the last ones: user space is there */
#define NEAR 0x300u                      /* bytes between members that are close to one another */

/* Where a name may be: others are looked for before and behind it, in what was read of a task. */
#define COMM_FIRST 0x100u
#define COMM_END (INFER_TASK_BYTES - NEAR - COMM)

/* Values that have been the same since 4.19 (include/linux/sched.h, include/uapi/asm/signal.h). */
#define PF_KTHREAD 0x00200000u
#define SIGCHLD 17u

static uint64_t word_of(const struct infer *infer, size_t task, uint32_t offset)
{
	return infer_load(infer->tasks[task].bytes, offset);
}

static uint32_t half_of(const struct infer *infer, size_t task, uint32_t offset)
{
	return infer_load32(infer->tasks[task].bytes, offset);
}

/* ---- the list ---- */

/* A ring through `offset` of tasks, all of which have a name at `comm`; how many there are beside
 * the first, or 0. `keep`: those from this index on are noted, and the first ones. */
static size_t walk_ring(struct infer *infer, uint32_t offset, uint32_t comm, size_t keep)
{
	uint64_t head = infer->init + offset, at = head, links[2];
	uint8_t name[COMM];
	size_t n = 0;

	if (!infer_read(infer, head, links, sizeof(links)))
		return 0;
	while (links[0] != head && n < RING_MAX) {
		uint64_t next = links[0];

		if (!infer_is_pointer(next) || !infer_read(infer, next, links, sizeof(links)) ||
			links[1] != at ||
			!infer_read(infer, next - offset + comm, name, sizeof(name)) ||
			!infer_is_text(name, sizeof(name)))
			return 0;
		at = next;
		n++;
		if ((n < FIRST_KEPT || n > keep) && infer->task_count < INFER_TASKS_MAX)
			infer->tasks[infer->task_count++].at = at - offset;
	}
	return n < RING_MAX ? n : 0;
}

static bool find_comm(struct infer *infer, uint32_t *ret_comm)
{
	static const char *const names[] = {"swapper/0", "swapper"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (uint32_t at = COMM_FIRST; at < COMM_END; at += 8) {
			if (strcmp(names[i], (const char *)infer->tasks[0].bytes + at) == 0) {
				*ret_comm = at;
				return true;
			}
		}
	}
	return false;
}

/* The longest ring. */
static bool find_tasks(struct infer *infer, uint32_t comm, uint32_t *ret_tasks, size_t *ret_count)
{
	*ret_count = 0;
	for (uint32_t at = 8; at < comm; at += 8) {
		uint64_t next = word_of(infer, 0, at);
		size_t n;

		if (!infer_is_pointer(next) || next == infer->init + at)
			continue;
		infer->task_count = INFER_TASKS_MAX; /* nothing is noted */
		n = walk_ring(infer, at, comm, SIZE_MAX);
		if (n > *ret_count) {
			*ret_count = n;
			*ret_tasks = at;
		}
	}
	return *ret_count >= TASKS_MIN;
}

static void read_tasks(struct infer *infer)
{
	for (size_t i = 1; i < infer->task_count; i++)
		infer_read_some(infer, infer->tasks[i].at, infer->tasks[i].bytes, INFER_TASK_BYTES);
}

int infer_tasks(struct infer *infer)
{
	uint32_t comm, tasks;
	size_t n;

	infer->tasks[0].at = infer->init;
	/* A text may end where they do. */
	if (!infer_read_some(infer, infer->init, infer->tasks[0].bytes, INFER_TASK_BYTES - COMM) ||
		!find_comm(infer, &comm) || !find_tasks(infer, comm, &tasks, &n))
		return VMSIG_ERR_UNSUPPORTED;
	infer->task_count = 1;
	if (walk_ring(infer, tasks, comm, n > FIRST_KEPT ? n - FIRST_KEPT : 0) < TASKS_MIN)
		return VMSIG_ERR_UNSUPPORTED;
	read_tasks(infer);
	infer_set(infer, LINUX_TASK_COMM, comm, COMM);
	infer_set(infer, LINUX_TASK_TASKS, tasks, 16);
	return 0;
}

/* ---- parents and pids ---- */

/* real_parent, parent, children, sibling, group_leader, of which init_task is its own. */
static bool is_family(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < 3; i++) {
		if (word_of(infer, i, at) != infer->init ||
			word_of(infer, i, at + 8) != infer->init)
			return false;
	}
	for (size_t i = 0; i < infer->task_count; i++) {
		if (word_of(infer, i, at + 48) != infer->tasks[i].at)
			return false;
	}
	return true;
}

static bool is_pid(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->task_count; i++) {
		uint32_t pid = half_of(infer, i, at);

		if (pid != half_of(infer, i, at + 4) || (i < 3 ? pid != i : pid < 3))
			return false;
	}
	return true;
}

void infer_family(struct infer *infer)
{
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), family, pid;

	if (!infer_find(infer, 16, comm - 48, 8, is_family, &family))
		return;
	infer_set(infer, LINUX_TASK_REAL_PARENT, family, 8);
	/* Between them there may be a canary of the stack. */
	if (!infer_find(infer, family - 16, family, 8, is_pid, &pid))
		return;
	infer_set(infer, LINUX_TASK_PID, pid, 4);
	infer_set(infer, LINUX_TASK_TGID, pid + 4, 4);
}

/* ---- state, flags, how it ended ---- */

/* Of the first page of a stack, each task has its own. */
static bool is_stack(struct infer *infer, uint32_t at)
{
	uint64_t before = 0;
	size_t n = 0;

	for (size_t i = 0; i < infer->task_count; i++) {
		uint64_t stack = word_of(infer, i, at);

		if (!stack) /* of one that has ended */
			continue;
		if (!infer_is_pointer(stack) || stack % 4096 || stack == before)
			return false;
		before = stack;
		n++;
	}
	return n >= TASKS_MIN;
}

static bool is_flags(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->task_count; i++) {
		bool kernel = half_of(infer, i, at) & PF_KTHREAD;

		if (kernel ? word_of(infer, i, infer_offset(infer, LINUX_TASK_MM)) != 0 : i == 2)
			return false;
		if (kernel && i == 1)
			return false;
	}
	return true;
}

/* The state, then the stack, a counter and the flags; before 5.14 the state has eight bytes, of
 * which four are ever used. */
static void find_state(struct infer *infer)
{
	uint32_t stack, flags;

	if (!infer_find(infer, 24, 128, 8, is_stack, &stack))
		return;
	infer_set(infer, LINUX_TASK_STATE, stack - 8, 4);
	if (infer_knows(infer, LINUX_TASK_MM) &&
		infer_find(infer, stack + 8, stack + 40, 4, is_flags, &flags))
		infer_set(infer, LINUX_TASK_FLAGS, flags, 4);
}

/* exit_state, exit_code, exit_signal: what kthreadd starts tells it of its end by SIGCHLD. */
static bool is_exit_signal(struct infer *infer, uint32_t at)
{
	size_t n = 0;

	for (size_t i = 3; i < infer->task_count; i++) {
		uint32_t state = half_of(infer, i, at - 8);

		if (half_of(infer, i, at) != SIGCHLD || state & ~0x30u)
			return false;
		n++;
	}
	return n && !half_of(infer, 0, at - 8) && !half_of(infer, 0, at - 4) &&
	       !half_of(infer, 2, at - 8) && !half_of(infer, 2, at - 4);
}

static void find_exit(struct infer *infer)
{
	uint32_t at;

	if (!infer_knows(infer, LINUX_TASK_MM) || !infer_knows(infer, LINUX_TASK_PID))
		return;
	if (infer_find(infer, infer_offset(infer, LINUX_TASK_MM) + 24,
		    infer_offset(infer, LINUX_TASK_PID), 4, is_exit_signal, &at))
		infer_set(infer, LINUX_TASK_EXIT_STATE, at - 8, 4);
}

/* ---- credentials ---- */

/* The ones it began with, and those that it has; nobody in the middle of a change. */
static bool is_cred(struct infer *infer, uint32_t at)
{
	for (size_t i = 0; i < infer->task_count; i++) {
		uint64_t cred = word_of(infer, i, at);

		if (!infer_is_pointer(cred) || word_of(infer, i, at - 8) != cred)
			return false;
	}
	return true;
}

/* Where init_task has all capabilities: none to be inherited, and three full sets. */
static bool find_capabilities(struct infer *infer, uint64_t cred, uint32_t *ret_at)
{
	uint8_t bytes[160];

	if (!infer_read(infer, cred, bytes, sizeof(bytes)))
		return false;
	for (uint32_t at = 24; at <= 120; at += 4) {
		uint64_t full = infer_load(bytes, at + 8);

		if (!infer_load(bytes, at) && infer_load(bytes, at + 16) == full &&
			infer_load(bytes, at + 24) == full && __builtin_popcountll(full) >= 35) {
			*ret_at = at;
			return true;
		}
	}
	return false;
}

static void find_cred(struct infer *infer)
{
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), cred, capabilities;

	/* Between them there may be a key that was asked for. */
	for (cred = comm - 8; cred >= comm - 32; cred -= 8) {
		if (is_cred(infer, cred))
			break;
	}
	if (cred < comm - 32)
		return;
	infer_set(infer, LINUX_TASK_CRED, cred, 8);
	infer_set(infer, LINUX_TASK_REAL_CRED, cred - 8, 8);
	if (!find_capabilities(infer, word_of(infer, 0, cred), &capabilities))
		return;
	/* A counter of 4 or 8 bytes, eight ids of 4 bytes, and 4 of bits before them. */
	if (capabilities == 44 || capabilities == 48)
		infer_set(infer, LINUX_CRED_UID, 8, 4);
	else if (capabilities == 40)
		infer_set(infer, LINUX_CRED_UID, 4, 4);
}

/* ---- times ---- */

/* Since boot without and with sleep; processes are listed in the order of their beginnings. */
static bool is_start(struct infer *infer, uint32_t at)
{
	const uint64_t longest = 1ull << 56; /* two years */

	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t start = word_of(infer, i, at), boot = word_of(infer, i, at + 8);

		if (!start || boot < start || boot >= longest)
			return false;
		if (i > 1 &&
			(word_of(infer, i - 1, at) > start || word_of(infer, i - 1, at + 8) > boot))
			return false;
	}
	return word_of(infer, infer->task_count - 1, at) > word_of(infer, 1, at);
}

/* ---- threads ---- */

/* A ring of one through the head in signal_struct, of each task without threads. */
static bool is_thread_node(struct infer *infer, uint32_t at)
{
	size_t n = 0;

	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t own = infer->tasks[i].at + at, head = word_of(infer, i, at), links[2];

		if (!infer_is_pointer(head) || head == own)
			return false;
		if (head != word_of(infer, i, at + 8))
			continue;
		if (!infer_read(infer, head, links, sizeof(links)) || links[0] != own ||
			links[1] != own)
			return false;
		n++;
	}
	return n >= TASKS_MIN;
}

/* The head is in signal_struct, at the same place of each. */
static bool is_signal(struct infer *infer, uint32_t at)
{
	uint32_t node = infer_offset(infer, LINUX_TASK_THREAD_NODE);
	uint64_t distance = 0;

	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t head = word_of(infer, i, node), signal = word_of(infer, i, at);

		if (head != word_of(infer, i, node + 8))
			continue;
		if (!infer_is_pointer(signal) || head - signal >= 0x100 || head == signal ||
			(distance && head - signal != distance))
			return false;
		distance = head - signal;
	}
	return distance != 0;
}

static void find_threads(struct infer *infer)
{
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), node, signal, head;

	if (!infer_knows(infer, LINUX_TASK_REAL_PARENT) ||
		!infer_find(infer, infer_offset(infer, LINUX_TASK_REAL_PARENT) + 56, comm, 8,
			is_thread_node, &node))
		return;
	infer_set(infer, LINUX_TASK_THREAD_NODE, node, 16);
	if (!infer_find(infer, comm + COMM, comm + NEAR, 8, is_signal, &signal))
		return;
	infer_set(infer, LINUX_TASK_SIGNAL, signal, 8);
	head = (uint32_t)(word_of(infer, 1, node) - word_of(infer, 1, signal));
	for (size_t i = 1; i < infer->task_count; i++) {
		if (word_of(infer, i, node) == word_of(infer, i, node + 8))
			head = (uint32_t)(word_of(infer, i, node) - word_of(infer, i, signal));
	}
	infer_set(infer, LINUX_SIGNAL_THREAD_HEAD, head, 16);
	/* sigcnt, live and nr_threads; from 6.1 on one more counter, that fills up. */
	infer_set(infer, LINUX_SIGNAL_NR_THREADS, 8, 4);
}

/* ---- the table of pids ---- */

/* struct pid, whose list of processes begins with the link behind the pointer to it. */
static bool is_thread_pid(struct infer *infer, uint32_t at)
{
	uint32_t tasks = 0;

	for (size_t i = 1; i < infer->task_count; i++) {
		uint64_t pid = word_of(infer, i, at);
		uint8_t bytes[128];
		uint32_t found = 0;

		if (!pid) /* of one that has ended */
			continue;
		/* A list of nothing in the task itself leads there, too. */
		if (!infer_is_pointer(pid) || pid - infer->tasks[i].at < INFER_TASK_BYTES ||
			!infer_read_some(infer, pid, bytes, sizeof(bytes)))
			return false;
		while (found < sizeof(bytes) &&
			infer_load(bytes, found) != infer->tasks[i].at + at + 8)
			found += 8;
		if (found == sizeof(bytes) || (tasks && tasks != found))
			return false;
		tasks = found;
	}
	if (tasks)
		infer_set(infer, LINUX_PID_TASKS, tasks, 8);
	return tasks != 0;
}

/* The numbers 1 and 2 lead to the pids of the tasks that have them. */
static bool is_pid_table(struct infer *infer, uint64_t head, uint32_t pid)
{
	for (size_t i = 1; i < 3; i++) {
		linux_begin(infer->kernel);
		if (linux_radix_get(infer->kernel, head, i) != word_of(infer, i, pid) ||
			infer->kernel->fault)
			return false;
	}
	return true;
}

static void find_pids(struct infer *infer)
{
	uint32_t pid, comm = infer_offset(infer, LINUX_TASK_COMM);
	uint64_t space = infer_symbol(infer, "init_pid_ns");
	uint8_t bytes[128];

	if (!infer_knows(infer, LINUX_TASK_REAL_PARENT) ||
		!infer_find(infer, infer_offset(infer, LINUX_TASK_REAL_PARENT) + 56, comm, 8,
			is_thread_pid, &pid))
		return;
	infer_set(infer, LINUX_TASK_THREAD_PID, pid, 8);
	infer_set(infer, LINUX_TASK_PID_LINKS, pid + 8, 64);
	if (!space || !infer_read(infer, space, bytes, sizeof(bytes)))
		return;
	for (uint32_t at = 0; at < sizeof(bytes); at += 8) {
		uint64_t head = infer_load(bytes, at);

		if ((head & 3) == 2 && is_pid_table(infer, head, pid)) {
			infer_set(infer, LINUX_PIDNS_TABLE, at, 8);
			return;
		}
	}
}

void infer_task_members(struct infer *infer)
{
	uint32_t comm = infer_offset(infer, LINUX_TASK_COMM), start;

	find_state(infer);
	find_exit(infer);
	find_cred(infer);
	if (infer_knows(infer, LINUX_TASK_REAL_PARENT) &&
		infer_find(infer, infer_offset(infer, LINUX_TASK_REAL_PARENT) + 56, comm - 16, 8,
			is_start, &start))
		infer_set(infer, LINUX_TASK_START, start + 8, 8);
	find_threads(infer);
	find_pids(infer);
	/* Whoever looks for tasks in memory needs all that was found to be in one piece. */
	infer->kernel->fields.size[LINUX_STRUCT_TASK] = comm + NEAR;
}
