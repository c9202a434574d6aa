/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/hidden.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/finding.h"
#include "clients/os/grow.h"
#include "clients/os/windows/exports.h"
#include "clients/os/windows/find.h"
#include "clients/os/windows/image.h"
#include "clients/os/windows/memory.h"
#include "clients/os/windows/module.h"
#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "clients/os/windows/sections.h"
#include "clients/os/windows/thread.h"
#include "vmsig/vmsig_error.h"

#define OBJECT_ALIGN 16u
#define FOUND_MAX 100000u

/* Of a hostile guest every byte may look like the beginning of one: how many are looked at closely.
 */
#define OBJECTS_MAX 500000u
#define IMAGES_MAX 20000u

/* DISPATCHER_HEADER has a list behind its first word: of who waits, or of nobody but itself. */
#define WAITERS 0x08u
#define NAME_BYTES 128u

/* Addresses, each once or a few times. */
struct hidden_objects {
	uint64_t *at;
	size_t count;
	bool full;
};

static int add(struct hidden_objects *objects, uint64_t at)
{
	uint64_t *grown;

	if (objects->count == FOUND_MAX) {
		objects->full = true;
		return 0;
	}
	grown = grow_array(objects->at, objects->count, sizeof(*grown));
	if (!grown)
		return VMSIG_ERR_NO_MEMORY;
	objects->at = grown;
	grown[objects->count++] = at;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, two = *(const uint64_t *)b;

	return one < two ? -1 : one > two;
}

static void sort(struct hidden_objects *objects)
{
	if (objects->count)
		qsort(objects->at, objects->count, sizeof(*objects->at), by_number);
}

static bool has(const struct hidden_objects *objects, uint64_t at)
{
	return objects->count &&
	       bsearch(&at, objects->at, objects->count, sizeof(*objects->at), by_number);
}

/* ---- what is one ---- */

/* The first of a ring; 0: it is empty, or none. */
static uint64_t first_thread(struct windows_kernel *kernel, uint64_t process)
{
	struct windows_ring ring =
		windows_ring(kernel, process + kernel->offset.threads, kernel->offset.thread_links);
	uint64_t thread;

	return windows_ring_next(&ring, &thread) ? thread : 0;
}

/* It runs: its root leads to the kernel, and its first thread back to it. */
static bool is_process(struct windows_kernel *kernel, uint64_t object, vmsig_proc *ret_process)
{
	vmsig_range ours, its;
	uint64_t thread;
	uint32_t tid;

	windows_begin(kernel);
	windows_process_read(kernel, object, 0, ret_process);
	if (kernel->fault || ret_process->flags & VMSIG_PROC_ZOMBIE || !ret_process->name[0])
		return false;
	thread = first_thread(kernel, object);
	if (!windows_thread_is(kernel, thread, object, ret_process->pid, &tid))
		return false;
	return !vmsig_gva_translate(kernel->mem, kernel->root, kernel->image.base, &ours) &&
	       !vmsig_gva_translate(kernel->mem, ret_process->root, kernel->image.base, &its) &&
	       ours.gpa == its.gpa;
}

/* It runs, in a process that is one. */
static bool is_thread(
	struct windows_kernel *kernel, uint64_t thread, vmsig_proc *ret_process, uint32_t *ret_tid)
{
	uint64_t process;

	windows_begin(kernel);
	process = windows_word(kernel, thread + kernel->offset.thread_process);
	if (kernel->fault || !windows_is_object(process) ||
		windows_word32(kernel, thread + WINDOWS_PROCESS_SIGNAL))
		return false;
	windows_process_read(kernel, process, 0, ret_process);
	return !kernel->fault && !(ret_process->flags & VMSIG_PROC_ZOMBIE) &&
	       windows_thread_is(kernel, thread, process, ret_process->pid, ret_tid);
}

/* Its neighbours in the ring of threads know it. */
static bool is_linked(struct windows_kernel *kernel, uint64_t thread)
{
	uint64_t links = thread + kernel->offset.thread_links;
	uint64_t next = windows_word(kernel, links), previous = windows_word(kernel, links + 8);

	return next != links && windows_word(kernel, next + 8) == links &&
	       windows_word(kernel, previous) == links && !kernel->fault;
}

/* ---- processes and threads ---- */

struct hidden_scan {
	struct windows_kernel *kernel;
	struct hidden_objects listed; /* before and after */
	struct hidden_objects processes, threads;
	uint8_t process_kind, thread_kind; /* how such objects begin */
	uint32_t objects;                  /* that may still be looked at closely */
	bool partial;                      /* the list of processes */
	bool spent;
};

static int take_list(struct hidden_scan *scan)
{
	vmsig_proc_list list = {0};
	int r = windows_process_list(scan->kernel, &list);

	scan->partial |= list.partial;
	for (size_t i = 0; i < list.count && !r; i++)
		r = add(&scan->listed, list.processes[i].object);
	free(list.processes);
	return r;
}

static int look_at_object(struct hidden_scan *scan, uint8_t kind, uint64_t at)
{
	vmsig_proc process;
	uint32_t tid;

	if (!scan->objects) {
		scan->spent = true;
		return 0;
	}
	scan->objects--;
	if (kind == scan->process_kind && is_process(scan->kernel, at, &process))
		return add(&scan->processes, at);
	if (kind == scan->thread_kind && is_thread(scan->kernel, at, &process, &tid) &&
		!is_linked(scan->kernel, at))
		return add(&scan->threads, at);
	return 0;
}

/* What can be said of the first bytes alone; of those at the end of a page that is less. */
static bool may_be_object(const struct hidden_scan *scan, const uint8_t *bytes, size_t len)
{
	uint64_t waiters[2];
	uint32_t signal;

	memcpy(&signal, bytes + WINDOWS_PROCESS_SIGNAL, sizeof(signal));
	if (signal || (bytes[0] != scan->process_kind && bytes[0] != scan->thread_kind))
		return false;
	if (len < WAITERS + sizeof(waiters))
		return true;
	memcpy(waiters, bytes + WAITERS, sizeof(waiters));
	return windows_is_object(waiters[0]) && windows_is_object(waiters[1]);
}

static int look_at_page(void *ctx, uint64_t gva, const uint8_t page[WINDOWS_PAGE])
{
	struct hidden_scan *scan = ctx;
	int r = 0;

	for (size_t at = 0; at < WINDOWS_PAGE && !r; at += OBJECT_ALIGN) {
		if (may_be_object(scan, page + at, WINDOWS_PAGE - at))
			r = look_at_object(scan, page[at], gva + at);
	}
	return r;
}

static int report_processes(struct hidden_scan *scan, vmsig_finding_list *list)
{
	vmsig_proc process;
	int r = 0;

	for (size_t i = 0; i < scan->processes.count && !r; i++) {
		uint64_t at = scan->processes.at[i];

		if (has(&scan->listed, at) || !is_process(scan->kernel, at, &process))
			continue;
		r = finding_add(list, VMSIG_FINDING_PROCESS, process.pid, at,
			"a process in memory whose threads lead back to it, and the list of "
			"processes before and after",
			"process %" PRIu32 " (%s) is not in the list of processes", process.pid,
			process.name);
	}
	return r;
}

static int report_threads(struct hidden_scan *scan, vmsig_finding_list *list)
{
	vmsig_proc process;
	uint32_t tid;
	int r = 0;

	for (size_t i = 0; i < scan->threads.count && !r; i++) {
		uint64_t at = scan->threads.at[i];

		if (!is_thread(scan->kernel, at, &process, &tid) || is_linked(scan->kernel, at))
			continue;
		r = finding_add(list, VMSIG_FINDING_THREAD, process.pid, at,
			"a thread in memory that names its process, and the list of that process' "
			"threads, twice",
			"thread %" PRIu32 " of process %" PRIu32
			" (%s) is not in the list of its threads",
			tid, process.pid, process.name);
	}
	return r;
}

static int scan_objects(struct hidden_scan *scan, vmsig_finding_list *list)
{
	struct windows_kernel *kernel = scan->kernel;
	uint64_t thread;
	bool spent = false;
	int r;

	windows_begin(kernel);
	thread = kernel->offset.threads ? first_thread(kernel, kernel->system) : 0;
	if (!thread)
		return VMSIG_ERR_UNSUPPORTED;
	scan->process_kind = (uint8_t)windows_word32(kernel, kernel->system);
	scan->thread_kind = (uint8_t)windows_word32(kernel, thread);
	r = kernel->fault ? kernel->fault : take_list(scan);
	if (!r)
		r = windows_memory_visit(kernel, look_at_page, scan, &spent);
	vmsig_mem_flush(kernel->mem);
	if (!r)
		r = take_list(scan);
	sort(&scan->listed);
	list->partial |=
		scan->partial || scan->spent || spent || scan->processes.full || scan->threads.full;
	/* What is missing in a list that is not whole would be found here. */
	if (!r && !scan->partial)
		r = report_processes(scan, list);
	return r ? r : report_threads(scan, list);
}

int windows_hidden_objects(struct windows_kernel *kernel, vmsig_finding_list *list)
{
	struct hidden_scan scan = {.kernel = kernel, .objects = OBJECTS_MAX};
	int r = scan_objects(&scan, list);

	free(scan.listed.at);
	free(scan.processes.at);
	free(scan.threads.at);
	return r;
}

/* ---- modules ---- */

struct hidden_drivers {
	struct windows_kernel *kernel;
	struct hidden_objects listed, found;
	uint64_t pages;
	uint32_t images; /* that may still be looked at closely */
};

/* A section of it may be run: it is no file that is just being read. */
static bool is_module(struct windows_kernel *kernel, uint64_t base, struct windows_image *ret_image)
{
	struct windows_section section;
	vmsig_range page;

	windows_begin(kernel);
	if (windows_image_open(kernel, kernel->root, base, ret_image) || !ret_image->wide)
		return false;
	for (unsigned i = 0; i < ret_image->sections; i++) {
		if (windows_section(kernel, ret_image, i, &section) &&
			section.flags & WINDOWS_SECTION_EXEC &&
			!vmsig_gva_translate(kernel->mem, kernel->root, base + section.at, &page) &&
			page.prot & VMSIG_PROT_EXEC)
			return true;
	}
	return false;
}

static int look_at_range(void *ctx, const vmsig_range *range)
{
	struct hidden_drivers *modules = ctx;
	struct windows_kernel *kernel = modules->kernel;
	struct windows_image image;
	uint8_t magic[2];
	int r = 0;

	if (range->prot & VMSIG_PROT_USER)
		return 0;
	for (uint64_t at = 0; at < range->len && !r; at += WINDOWS_PAGE) {
		if (!modules->pages-- || !modules->images) {
			modules->found.full = true;
			return VMSIG_ERR_TORN;
		}
		if (vmsig_gva_read(
			    kernel->mem, kernel->root, range->gva + at, magic, sizeof(magic)) ||
			memcmp(magic, "MZ", sizeof(magic)) != 0)
			continue;
		modules->images--;
		if (is_module(kernel, range->gva + at, &image))
			r = add(&modules->found, range->gva + at);
	}
	return r;
}

static int take_modules(struct hidden_drivers *modules, bool *partial)
{
	vmsig_module_list list = {0};
	int r = windows_module_list(modules->kernel, &list);

	*partial |= list.partial;
	for (size_t i = 0; i < list.count && !r; i++)
		r = add(&modules->listed, list.modules[i].base);
	free(list.modules);
	return r;
}

static int report_modules(struct hidden_drivers *modules, vmsig_finding_list *list)
{
	struct windows_kernel *kernel = modules->kernel;
	struct windows_image image;
	char name[NAME_BYTES];
	int r = 0;

	for (size_t i = 0; i < modules->found.count && !r; i++) {
		uint64_t base = modules->found.at[i];

		if (has(&modules->listed, base) || !is_module(kernel, base, &image))
			continue;
		if (!windows_exports_self(kernel, &image, name, sizeof(name)) || !name[0])
			memcpy(name, "without a name", sizeof("without a name"));
		r = finding_add(list, VMSIG_FINDING_MODULE, 0, base,
			"an image that is mapped to be run where modules are, and the list of "
			"modules before and after",
			"module %s is not in the list of modules", name);
	}
	return r;
}

int windows_hidden_modules(struct windows_kernel *kernel, vmsig_finding_list *list)
{
	struct hidden_drivers modules = {.kernel = kernel,
		.pages = vmsig_phys_end(kernel->mem) / WINDOWS_PAGE,
		.images = IMAGES_MAX};
	bool partial = false;
	int r = take_modules(&modules, &partial);

	if (!r)
		r = vmsig_pmap(kernel->mem, kernel->root, WINDOWS_IMAGES_FIRST, WINDOWS_IMAGES_LAST,
			look_at_range, &modules);
	r = r < 0 ? -r : r;
	if (r == VMSIG_ERR_TORN && modules.found.full)
		r = 0;
	if (!r)
		r = take_modules(&modules, &partial);
	sort(&modules.listed);
	list->partial |= partial || modules.found.full;
	if (!r && !partial)
		r = report_modules(&modules, list);
	free(modules.listed.at);
	free(modules.found.at);
	return r;
}
