/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/thread_compare.h"

#include <string.h>

#include "clients/os/windows/process.h"
#include "clients/os/windows/reader.h"
#include "clients/os/windows/ring.h"
#include "clients/os/windows/thread.h"

#define THREAD_BYTES 0xa00u /* of a thread that are looked at; all there are have less */
#define THREADS_MAX 8u
#define THREADS_MIN 3u /* the first process has many */
#define OTHERS_MAX 16u /* processes that are asked whether it is true of them */

/* DISPATCHER_HEADER: what every thread begins with, unchanged from 7 to 11. */
#define KIND_THREAD 6u /* KOBJECTS: ThreadObject */
#define WAITERS 0x08u

/* Where members have been, and some more. */
#define PROCESS_FIRST 0x40u
#define PROCESS_END 0x600u
#define CLIENT_FIRST 0x200u

struct compare_threads {
	struct windows_kernel *kernel;
	uint64_t pid;
	uint64_t entries[THREADS_MAX]; /* where they are linked */
	size_t count;
	struct compare_thread {
		uint64_t at;
		uint8_t bytes[THREAD_BYTES];
	} threads[THREADS_MAX];
};

static uint64_t word(const struct compare_thread *thread, uint32_t offset)
{
	uint64_t value;

	memcpy(&value, thread->bytes + offset, sizeof(value));
	return value;
}

/* False: no ring of enough objects begins there. */
static bool take_ring(struct compare_threads *threads, uint64_t head)
{
	struct windows_ring ring = windows_ring(threads->kernel, head, 0);

	windows_begin(threads->kernel);
	threads->count = 0;
	while (threads->count < THREADS_MAX &&
		windows_ring_next(&ring, &threads->entries[threads->count]))
		threads->count++;
	return threads->count >= THREADS_MIN && !threads->kernel->fault;
}

/* ---- where they begin ---- */

/* Nobody may wait for it, or somebody. */
static bool begins(struct windows_kernel *kernel, uint64_t at, bool *ret_alone)
{
	struct {
		uint32_t kind, signal;
		uint64_t next, previous;
	} header;

	windows_begin(kernel);
	windows_read(kernel, at, &header, sizeof(header));
	*ret_alone = header.next == at + WAITERS && header.previous == at + WAITERS;
	return !kernel->fault && (uint8_t)header.kind == KIND_THREAD && !header.signal &&
	       windows_is_object(header.next) && windows_is_object(header.previous);
}

static bool all_begin(const struct compare_threads *threads, uint32_t links)
{
	size_t alone = 0;

	for (size_t i = 0; i < threads->count; i++) {
		bool is_alone;

		if (!begins(threads->kernel, threads->entries[i] - links, &is_alone))
			return false;
		alone += is_alone;
	}
	/* Of most threads nobody awaits the end. */
	return 2 * alone > threads->count;
}

static void read_threads(struct compare_threads *threads, uint32_t links)
{
	bool missing;

	for (size_t i = 0; i < threads->count; i++) {
		struct compare_thread *thread = &threads->threads[i];

		thread->at = threads->entries[i] - links;
		windows_read_some(threads->kernel, threads->kernel->root, thread->at, thread->bytes,
			sizeof(thread->bytes), &missing);
	}
}

/* ---- what is in them ---- */

/* CLIENT_ID: the process' number, and each one's own. */
static bool is_client(const struct compare_threads *threads, uint32_t at)
{
	for (size_t i = 0; i < threads->count; i++) {
		uint64_t tid = word(&threads->threads[i], at + 8);

		if (word(&threads->threads[i], at) != threads->pid || !tid || tid % 4 ||
			tid > WINDOWS_PID_MAX)
			return false;
		for (size_t j = 0; j < i; j++) {
			if (word(&threads->threads[j], at + 8) == tid)
				return false;
		}
	}
	return true;
}

static uint32_t find_client(const struct compare_threads *threads)
{
	for (uint32_t at = CLIENT_FIRST; at + 16 <= THREAD_BYTES; at += 8) {
		if (is_client(threads, at))
			return at;
	}
	return 0;
}

/* The last one: what is before it is the process whose memory a thread works with, which may be
 * another for a while. */
static uint32_t find_process(const struct compare_threads *threads)
{
	for (uint32_t at = PROCESS_END - 8; at >= PROCESS_FIRST; at -= 8) {
		size_t i = 0;

		while (i < threads->count &&
			word(&threads->threads[i], at) == threads->kernel->system)
			i++;
		if (i == threads->count)
			return at;
	}
	return 0;
}

/* ---- all ---- */

/* False: the process has none, or those are something else. */
static bool has_threads(struct windows_kernel *kernel, uint64_t process, bool *ret_some)
{
	const struct windows_offsets *offset = &kernel->offset;
	struct windows_ring ring =
		windows_ring(kernel, process + offset->threads, offset->thread_links);
	uint64_t pid = windows_word(kernel, process + offset->pid), thread;
	uint32_t tid;

	while (windows_ring_next(&ring, &thread)) {
		if (!windows_thread_is(kernel, thread, process, pid, &tid))
			return false;
		*ret_some = true;
	}
	return !kernel->fault;
}

static bool is_true_of_others(struct windows_kernel *kernel)
{
	uint64_t links = kernel->system + kernel->offset.links, process;
	struct windows_ring ring = windows_ring(kernel, links, kernel->offset.links);
	bool some = false;

	windows_begin(kernel);
	for (size_t n = 0; n < OTHERS_MAX && !some && windows_ring_next(&ring, &process); n++) {
		/* Its head is the kernel's. */
		if (ring.at - kernel->image.base >= kernel->image.size &&
			!has_threads(kernel, process, &some))
			return false;
	}
	return some && !kernel->fault;
}

static bool try_links(struct compare_threads *threads, uint32_t head, uint32_t links)
{
	struct windows_offsets *offset = &threads->kernel->offset;
	uint32_t client;

	if (!all_begin(threads, links))
		return false;
	windows_begin(threads->kernel);
	read_threads(threads, links);
	client = find_client(threads);
	offset->thread_process = find_process(threads);
	offset->thread_id = client + 8;
	offset->threads = head;
	offset->thread_links = links;
	return client && offset->thread_process && is_true_of_others(threads->kernel);
}

static bool try_head(struct compare_threads *threads, uint32_t head)
{
	if (!take_ring(threads, threads->kernel->system + head))
		return false;
	for (uint32_t links = WINDOWS_THREAD_LINKS_FIRST; links < WINDOWS_THREAD_LINKS_END;
		links += 8) {
		if (try_links(threads, head, links))
			return true;
	}
	return false;
}

void windows_thread_compare(struct windows_kernel *kernel)
{
	static const struct compare_threads none;
	struct compare_threads threads = none;
	struct windows_offsets *offset = &kernel->offset;
	uint32_t head = WINDOWS_THREAD_HEADS_FIRST;

	threads.kernel = kernel;
	windows_begin(kernel);
	threads.pid = windows_word(kernel, kernel->system + offset->pid);
	while (head < WINDOWS_THREAD_HEADS_END && !try_head(&threads, head))
		head += 8;
	if (head >= WINDOWS_THREAD_HEADS_END)
		offset->threads = offset->thread_links = offset->thread_id =
			offset->thread_process = 0;
	windows_begin(kernel);
}
