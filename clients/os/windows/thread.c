/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/thread.h"

#include <string.h>

#include "clients/os/grow.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "vmsig/vmsig_error.h"

#define TID_MAX 0x7ffffffcu
#define PROOFS 4u /* threads that have to agree; a process may have fewer */

/* ---- one ---- */

/* CLIENT_ID: the process' number, and the thread's. */
bool windows_thread_is(struct windows_kernel *kernel, uint64_t thread, uint64_t process,
	uint64_t pid, uint32_t *ret_tid)
{
	struct {
		uint64_t pid, tid;
	} client;

	*ret_tid = 0;
	if (!windows_is_object(thread))
		return false;
	windows_read(kernel, thread + kernel->offset.thread_id - 8, &client, sizeof(client));
	if (kernel->fault || client.pid != pid || !client.tid || client.tid % 4 ||
		client.tid > TID_MAX ||
		windows_word(kernel, thread + kernel->offset.thread_process) != process)
		return false;
	*ret_tid = (uint32_t)client.tid;
	return !kernel->fault;
}

/* ---- where they are ---- */

static bool all_are_threads(struct windows_kernel *kernel, uint64_t head, uint32_t links)
{
	struct windows_ring ring = windows_ring(kernel, head, links);
	uint64_t pid = windows_word(kernel, kernel->system + kernel->offset.pid), thread;
	unsigned n = 0;
	uint32_t tid;

	while (n < PROOFS && windows_ring_next(&ring, &thread)) {
		if (!windows_thread_is(kernel, thread, kernel->system, pid, &tid))
			return false;
		n++;
	}
	return n && !kernel->fault;
}

static uint32_t links_of(struct windows_kernel *kernel, uint64_t head)
{
	for (uint32_t links = WINDOWS_THREAD_LINKS_FIRST; links < WINDOWS_THREAD_LINKS_END;
		links += 8) {
		windows_begin(kernel);
		if (all_are_threads(kernel, head, links))
			return links;
	}
	return 0;
}

static bool is_ring(struct windows_kernel *kernel, uint64_t head)
{
	struct windows_ring ring = windows_ring(kernel, head, 0);
	uint64_t object;

	windows_begin(kernel);
	return windows_ring_next(&ring, &object);
}

void windows_thread_find(struct windows_kernel *kernel)
{
	struct windows_offsets *offset = &kernel->offset;

	if (!offset->thread_process || offset->thread_id < 8)
		return;
	for (uint32_t at = WINDOWS_THREAD_HEADS_FIRST;
		at < WINDOWS_THREAD_HEADS_END && !offset->threads; at += 8) {
		if (!is_ring(kernel, kernel->system + at))
			continue;
		offset->thread_links = links_of(kernel, kernel->system + at);
		offset->threads = offset->thread_links ? at : 0;
	}
	windows_begin(kernel);
}

/* ---- lists ---- */

uint32_t windows_thread_count(struct windows_kernel *kernel, uint64_t object)
{
	const struct windows_offsets *offset = &kernel->offset;
	struct windows_ring ring =
		windows_ring(kernel, object + offset->threads, offset->thread_links);
	uint32_t n = 0;
	uint64_t thread;

	if (!offset->threads || kernel->fault)
		return 0;
	while (windows_ring_next(&ring, &thread))
		n++;
	if (!kernel->fault)
		return n;
	windows_forgive(kernel);
	return 0;
}

struct thread_walk {
	const vmsig_proc *process;
	vmsig_proc_list *list;
};

static int append(struct thread_walk *walk, uint64_t object, uint32_t tid)
{
	vmsig_proc_list *list = walk->list;
	vmsig_proc *threads = grow_array(list->processes, list->count, sizeof(*threads));

	if (!threads)
		return VMSIG_ERR_NO_MEMORY;
	list->processes = threads;
	threads[list->count] = *walk->process;
	threads[list->count].object = object;
	threads[list->count].pid = tid;
	threads[list->count].parent = walk->process->pid;
	threads[list->count].start_ns = 0;
	threads[list->count++].threads = 1;
	return 0;
}

static int walk_once(struct windows_kernel *kernel, void *ctx)
{
	const struct windows_offsets *offset = &kernel->offset;
	struct thread_walk *walk = ctx;
	const vmsig_proc *process = walk->process;
	struct windows_ring ring =
		windows_ring(kernel, process->object + offset->threads, offset->thread_links);
	uint64_t thread;
	uint32_t tid;
	int r = 0;

	walk->list->count = 0;
	while (!r && windows_ring_next(&ring, &thread)) {
		if (!windows_thread_is(kernel, thread, process->object, process->pid, &tid)) {
			windows_torn(kernel);
			break;
		}
		r = append(walk, thread, tid);
	}
	return r;
}

int windows_thread_list(
	struct windows_kernel *kernel, const vmsig_proc *process, vmsig_proc_list *ret_list)
{
	struct thread_walk walk = {.process = process, .list = ret_list};

	if (!kernel->offset.threads)
		return VMSIG_ERR_UNSUPPORTED;
	return windows_walk(kernel, walk_once, &walk, &ret_list->partial);
}
