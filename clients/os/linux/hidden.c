/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/hidden.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/finding.h"
#include "clients/os/grow.h"
#include "clients/os/linux/module.h"
#include "clients/os/linux/radix.h"
#include "clients/os/linux/task.h"
#include "vmsig/vmsig_error.h"

#define COMM 16u
#define PID_MAX (4u << 20) /* PID_MAX_LIMIT of 64-bit kernels */
#define TASK_ALIGN 64u     /* of the objects that tasks are allotted as */
#define CHUNK (256u << 10) /* bytes of memory that are looked at at once */
#define PAGE 4096u
#define FOUND_MAX 100000u

/* Of modules, where it is not known at which place they have a pointer to themselves: behind the
 * name, and not far (7.3: 0x50). They are aligned to cache lines, and have three states beside
 * being used. */
#define SELF_FIRST (LINUX_MODULE_NAME_AT + LINUX_MODULE_NAME_BYTES)
#define SELF_END 0x200u
#define MODULE_ALIGN 64u
#define MODULE_STATES 4u

/* Addresses of objects that were found; each once, or a few times. */
struct hidden_set {
	uint64_t *objects;
	size_t count;
	int error;
};

static bool set_add(struct hidden_set *set, uint64_t object)
{
	uint64_t *objects = grow_array(set->objects, set->count, sizeof(*objects));

	if (!objects || set->count == FOUND_MAX) {
		set->objects = objects ? objects : set->objects;
		set->error = objects ? VMSIG_ERR_TORN : VMSIG_ERR_NO_MEMORY;
		return false;
	}
	set->objects = objects;
	objects[set->count++] = object;
	return true;
}

static int by_number(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, two = *(const uint64_t *)b;

	return one < two ? -1 : one > two;
}

static void set_sort(struct hidden_set *set)
{
	if (set->count)
		qsort(set->objects, set->count, sizeof(*set->objects), by_number);
}

static bool set_has(const struct hidden_set *set, uint64_t object)
{
	return set->count &&
	       bsearch(&object, set->objects, set->count, sizeof(*set->objects), by_number);
}

static int text_looks_right(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++) {
		if (text[i] < 0x20 || text[i] == 0x7f)
			return 0;
	}
	return len > 0;
}

/* ---- processes ---- */

struct hidden_tasks {
	struct linux_kernel *kernel;
	struct hidden_set listed[2]; /* before and after */
	struct hidden_set table, memory;
};

static int take_list(struct hidden_tasks *tasks, struct hidden_set *set, bool *partial)
{
	vmsig_proc_list list = {0};
	int r = linux_task_list(tasks->kernel, &list);

	*partial |= list.partial;
	for (size_t i = 0; i < list.count && !r; i++)
		r = set_add(set, list.processes[i].object) ? 0 : set->error;
	free(list.processes);
	set_sort(set);
	return r;
}

static bool take_pid(void *ctx, uint64_t index, uint64_t entry)
{
	struct hidden_tasks *tasks = ctx;
	struct linux_kernel *kernel = tasks->kernel;
	uint64_t first = linux_word(kernel, linux_at(kernel, entry, LINUX_PID_TASKS));

	/* Of sessions and groups whose leader has ended there is a pid, and no task. */
	if (kernel->fault || !first)
		return !kernel->fault;
	return set_add(&tasks->table, first - kernel->fields.field[LINUX_TASK_PID_LINKS].offset);
}

static int walk_table(struct linux_kernel *kernel, void *ctx)
{
	struct hidden_tasks *tasks = ctx;
	uint64_t space = linux_symbols_addr(&kernel->symbols, "init_pid_ns");

	tasks->table.count = 0;
	linux_radix_visit(kernel, linux_get(kernel, space, LINUX_PIDNS_TABLE), take_pid, tasks);
	return tasks->table.error;
}

/* Whether a task's thread group or its pid leads back to it: what the kernel undoes before it frees
 * one. A thread that does not lead its group is none. */
static bool is_alive(struct linux_kernel *kernel, uint64_t task)
{
	char comm[COMM + 1] = "";
	uint64_t pid, link, node;
	bool by_pid, by_group;

	linux_begin(kernel);
	pid = linux_get(kernel, task, LINUX_TASK_PID);
	if (kernel->fault || !pid || pid > PID_MAX ||
		linux_get(kernel, task, LINUX_TASK_TGID) != pid)
		return false;
	linux_text(kernel, linux_at(kernel, task, LINUX_TASK_COMM), comm, sizeof(comm));
	if (kernel->fault || !text_looks_right(comm))
		return false;
	link = linux_get(kernel, task, LINUX_TASK_THREAD_PID);
	by_pid = link && linux_word(kernel, linux_at(kernel, link, LINUX_PID_TASKS)) ==
				 linux_at(kernel, task, LINUX_TASK_PID_LINKS);
	by_pid = by_pid && !kernel->fault;
	linux_begin(kernel);
	node = linux_word(kernel, linux_at(kernel, linux_get(kernel, task, LINUX_TASK_SIGNAL),
					  LINUX_SIGNAL_THREAD_HEAD));
	by_group = node == linux_at(kernel, task, LINUX_TASK_THREAD_NODE) && !kernel->fault;
	return by_pid || by_group;
}

/* Two words of a task are the same address: its credentials, and those it began with. */
static void scan_chunk(
	struct hidden_tasks *tasks, const uint8_t *bytes, size_t len, uint64_t gva, uint64_t map)
{
	struct linux_kernel *kernel = tasks->kernel;
	size_t cred = kernel->fields.field[LINUX_TASK_CRED].offset;
	size_t real = kernel->fields.field[LINUX_TASK_REAL_CRED].offset;
	size_t size = kernel->fields.size[LINUX_STRUCT_TASK];

	for (size_t at = 0; at + size <= len && at < CHUNK; at += TASK_ALIGN) {
		uint64_t one, two;

		memcpy(&one, bytes + at + cred, sizeof(one));
		memcpy(&two, bytes + at + real, sizeof(two));
		if (one == two && one >= map && one % 8 == 0 && is_alive(kernel, gva + at) &&
			!set_add(&tasks->memory, gva + at))
			return;
	}
}

/* A guest that lies about its types may have a member outside of what it is a member of. */
static bool is_in_task(const struct linux_kernel *kernel, enum linux_field field)
{
	return (uint64_t)kernel->fields.field[field].offset + sizeof(uint64_t) <=
	       kernel->fields.size[LINUX_STRUCT_TASK];
}

/* All memory, in pieces that overlap by a task. What is no memory ends a piece. */
static int scan_memory(struct hidden_tasks *tasks)
{
	struct linux_kernel *kernel = tasks->kernel;
	uint64_t end = vmsig_phys_end(kernel->mem), map;
	size_t size = kernel->fields.size[LINUX_STRUCT_TASK];
	uint8_t *bytes = malloc(CHUNK + size);

	linux_begin(kernel);
	map = linux_word(kernel, linux_symbols_addr(&kernel->symbols, "page_offset_base"));
	if (kernel->fault || !bytes) {
		free(bytes);
		return bytes ? kernel->fault : VMSIG_ERR_NO_MEMORY;
	}
	for (uint64_t gpa = 0; gpa < end && !tasks->memory.error; gpa += CHUNK) {
		size_t len = CHUNK + size;
		int r = -vmsig_phys_read(kernel->mem, gpa, bytes, len);

		if (r == VMSIG_ERR_OUT_OF_RANGE) {
			len = CHUNK;
			r = -vmsig_phys_read(kernel->mem, gpa, bytes, len);
		}
		if (!r)
			scan_chunk(tasks, bytes, len, map + gpa, map);
		else if (r != VMSIG_ERR_OUT_OF_RANGE)
			tasks->memory.error = r;
	}
	free(bytes);
	return tasks->memory.error == VMSIG_ERR_TORN ? 0 : tasks->memory.error;
}

static int report(struct hidden_tasks *tasks, const struct hidden_set *found, const char *basis,
	vmsig_finding_list *list)
{
	struct linux_kernel *kernel = tasks->kernel;
	int r = 0;

	for (size_t i = 0; i < found->count && !r; i++) {
		uint64_t task = found->objects[i];
		char comm[COMM + 1];
		uint32_t pid;

		if (set_has(&tasks->listed[0], task) || set_has(&tasks->listed[1], task) ||
			!is_alive(kernel, task))
			continue;
		linux_begin(kernel);
		pid = (uint32_t)linux_get(kernel, task, LINUX_TASK_PID);
		linux_text(kernel, linux_at(kernel, task, LINUX_TASK_COMM), comm, sizeof(comm));
		r = finding_add(list, VMSIG_FINDING_PROCESS, pid, task, basis,
			"process %" PRIu32 " (%s) is not in the list of processes", pid, comm);
	}
	return r;
}

/* The other way round. */
static int report_unnumbered(struct hidden_tasks *tasks, vmsig_finding_list *list)
{
	struct linux_kernel *kernel = tasks->kernel;
	int r = 0;

	for (size_t i = 0; i < tasks->listed[0].count && !r; i++) {
		uint64_t task = tasks->listed[0].objects[i];
		uint32_t pid;

		if (set_has(&tasks->table, task) || !set_has(&tasks->listed[1], task))
			continue;
		linux_begin(kernel);
		pid = (uint32_t)linux_get(kernel, task, LINUX_TASK_PID);
		r = finding_add(list, VMSIG_FINDING_PROCESS, pid, task,
			"the list of processes, and the table of pids between two looks at it",
			"process %" PRIu32 " is not in the table of pids", pid);
	}
	return r;
}

static int look(struct hidden_tasks *tasks, vmsig_finding_list *list)
{
	static const enum linux_field needed[] = {LINUX_TASK_REAL_CRED, LINUX_TASK_THREAD_PID,
		LINUX_TASK_PID_LINKS, LINUX_PID_TASKS, LINUX_PIDNS_TABLE, LINUX_NODE_SHIFT,
		LINUX_NODE_SLOTS};
	struct linux_kernel *kernel = tasks->kernel;
	bool partial = false;
	int r;

	linux_begin(kernel);
	linux_need(kernel, needed, sizeof(needed) / sizeof(needed[0]));
	r = kernel->fault ? kernel->fault : take_list(tasks, &tasks->listed[0], &partial);
	if (!r &&
		(!is_in_task(kernel, LINUX_TASK_CRED) || !is_in_task(kernel, LINUX_TASK_REAL_CRED)))
		r = VMSIG_ERR_UNSUPPORTED;
	if (!r)
		r = linux_walk(kernel, walk_table, tasks, &list->partial);
	set_sort(&tasks->table);
	if (!r)
		r = scan_memory(tasks);
	if (!r)
		r = take_list(tasks, &tasks->listed[1], &partial);
	if (r || partial) { /* what is missing there would be found here */
		list->partial |= partial;
		return r;
	}
	r = report(tasks, &tasks->table,
		"the table of pids, and the list of processes before and after", list);
	if (!r)
		r = report(tasks, &tasks->memory,
			"a task in memory whose threads or pid lead back to it, and the list of "
			"processes before and after",
			list);
	return r || list->partial ? r : report_unnumbered(tasks, list);
}

int linux_hidden_processes(struct linux_kernel *kernel, vmsig_finding_list *list)
{
	struct hidden_tasks tasks = {.kernel = kernel};
	int r = look(&tasks, list);

	free(tasks.listed[0].objects);
	free(tasks.listed[1].objects);
	free(tasks.table.objects);
	free(tasks.memory.objects);
	return r;
}

/* ---- modules ---- */

struct hidden_modules {
	struct linux_kernel *kernel;
	struct hidden_set listed, found;
};

/* Whether a word at `at` may be the pointer that a module has to itself. */
static bool may_be_self(const struct linux_kernel *kernel, uint64_t at, uint64_t word)
{
	const struct linux_fields *fields = &kernel->fields;

	if (linux_has(kernel, LINUX_MODULE_SELF))
		return word == at - fields->field[LINUX_MODULE_SELF].offset;
	return word % MODULE_ALIGN == 0 && word <= at - SELF_FIRST && word > at - SELF_END;
}

static bool has_self(struct linux_kernel *kernel, uint64_t module)
{
	uint64_t words[SELF_END / 8];

	if (linux_has(kernel, LINUX_MODULE_SELF))
		return linux_get(kernel, module, LINUX_MODULE_SELF) == module;
	/* Of a kernel without types that has listed none: by all that a module begins with. */
	linux_read(kernel, module, words, sizeof(words));
	if ((uint32_t)words[0] >= MODULE_STATES)
		return false;
	for (size_t i = SELF_FIRST / 8; i < SELF_END / 8; i++) {
		if (words[i] == module)
			return true;
	}
	return false;
}

static bool is_module(struct linux_kernel *kernel, uint64_t module, char ret_name[static COMM * 4])
{
	linux_begin(kernel);
	if (module < LINUX_MODULES_FIRST || module % 8 || !has_self(kernel, module))
		return false;
	linux_text(kernel, linux_at(kernel, module, LINUX_MODULE_NAME), ret_name, COMM * 3 + 8);
	return !kernel->fault && text_looks_right(ret_name);
}

static int take_range(void *ctx, const vmsig_range *range)
{
	struct hidden_modules *modules = ctx;
	struct linux_kernel *kernel = modules->kernel;
	uint64_t words[PAGE / 8];
	char name[COMM * 4];

	for (uint64_t at = range->gva; at - range->gva < range->len && !modules->found.error;
		at += PAGE) {
		if (vmsig_gva_read(kernel->mem, kernel->root, at, words, sizeof(words)))
			continue;
		for (size_t i = 0; i < PAGE / 8; i++) {
			if (may_be_self(kernel, at + 8 * i, words[i]) &&
				is_module(kernel, words[i], name))
				(void)set_add(&modules->found, words[i]);
		}
	}
	return modules->found.error;
}

static int take_modules(struct hidden_modules *modules, bool *partial)
{
	vmsig_module_list list = {0};
	int r = linux_module_list(modules->kernel, &list);

	*partial |= list.partial;
	for (size_t i = 0; i < list.count && !r; i++)
		r = set_add(&modules->listed, list.modules[i].object) ? 0 : modules->listed.error;
	free(list.modules);
	return r;
}

static int look_at_modules(struct hidden_modules *modules, vmsig_finding_list *list)
{
	struct linux_kernel *kernel = modules->kernel;
	bool partial = false;
	char name[COMM * 4];
	int r;

	r = take_modules(modules, &partial);
	if (!r)
		r = vmsig_pmap(kernel->mem, kernel->root, LINUX_MODULES_FIRST, LINUX_MODULES_LAST,
			take_range, modules);
	if (r < 0)
		r = -r;
	if (!r)
		r = take_modules(modules, &partial);
	list->partial |= partial;
	set_sort(&modules->listed);
	for (size_t i = 0; i < modules->found.count && !r && !partial; i++) {
		uint64_t module = modules->found.objects[i];

		if (set_has(&modules->listed, module) || !is_module(kernel, module, name))
			continue;
		r = finding_add(list, VMSIG_FINDING_MODULE, 0, module,
			"a module's description where modules are mapped, and the list of modules "
			"before and after",
			"module %s is not in the list of modules", name);
	}
	return r;
}

int linux_hidden_modules(struct linux_kernel *kernel, vmsig_finding_list *list)
{
	struct hidden_modules modules = {.kernel = kernel};
	int r = look_at_modules(&modules, list);

	free(modules.listed.objects);
	free(modules.found.objects);
	return r;
}
