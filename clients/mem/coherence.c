/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/coherence.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proto/guest/span.h"

/* A small write lasts well under a microsecond: first spin, then let the writer have the
 * processor. */
#define SPINS 1000u
#define YIELDS 1000u

/* The end of the broker wakes nobody who sleeps: how often to look. */
#define LOOK_NS (500 * NSEC_PER_MSEC)

#define NSEC_PER_SEC 1000000000ll
#define NSEC_PER_MSEC 1000000ll

/* Only a memfd can promise that it will not shrink, and a page that has gone is a SIGBUS. */
static bool fd_is_safe(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & F_SEAL_SHRINK) && !fstat(fd, &st) && S_ISREG(st.st_mode) &&
	       st.st_size >= (off_t)VMSIG_COHERENCE_SIZE && span_page_size(fd) == SPAN_PAGE;
}

static bool page_is_valid(const vmsig_coherence *page, uint32_t endpoint)
{
	return page->magic == VMSIG_COHERENCE_MAGIC && page->version == VMSIG_COHERENCE_VERSION &&
	       (!endpoint || page->endpoint == endpoint);
}

int mem_coherence_init(struct mem_coherence *coherence, int fd, uint32_t epoch, uint32_t endpoint)
{
	void *page;

	if (!fd_is_safe(fd))
		return VMSIG_ERR_BAD_REQUEST;
	page = mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return errno == ENOMEM ? -ENOMEM : VMSIG_ERR_IO;
	if (!page_is_valid(page, endpoint)) {
		munmap(page, VMSIG_COHERENCE_SIZE);
		return VMSIG_ERR_BAD_REQUEST;
	}
	*coherence =
		(struct mem_coherence){.page = page, .epoch = epoch, .clock = mem_clock_find()};
	coherence->state = __atomic_load_n(&coherence->page->state, __ATOMIC_ACQUIRE);
	return 0;
}

void mem_coherence_deinit(struct mem_coherence *coherence)
{
	if (coherence->page)
		munmap((void *)(uintptr_t)coherence->page, VMSIG_COHERENCE_SIZE);
	*coherence = COHERENCE_INIT;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

int mem_coherence_wait_even(const struct mem_coherence *coherence, uint64_t *ret_sequence)
{
	for (unsigned i = 0; i < SPINS + YIELDS; i++) {
		uint64_t sequence = __atomic_load_n(&coherence->page->sequence, __ATOMIC_ACQUIRE);

		if (!(sequence & 1)) {
			*ret_sequence = sequence;
			return 0;
		}
		if (i < SPINS)
			relax();
		else
			sched_yield();
	}
	/* A broker that died in the middle leaves it odd. */
	return mem_coherence_owned(coherence) ? VMSIG_ERR_NO_BROKER : VMSIG_ERR_TORN;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Not FUTEX_PRIVATE: the waker is another process. 0: look again. */
static int futex_wait(const uint32_t *word, uint32_t value, int64_t left_ns)
{
	struct timespec ts = {
		.tv_sec = left_ns / NSEC_PER_SEC, .tv_nsec = (long)(left_ns % NSEC_PER_SEC)};

	if (!syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0))
		return 0;
	switch (errno) {
	case EAGAIN:
		return 0;
	case ETIMEDOUT:
		return VMSIG_ERR_TIMEOUT;
	case EINTR:
		return VMSIG_ERR_WOULD_BLOCK;
	default:
		return VMSIG_ERR_IO;
	}
}

int mem_coherence_wait(struct mem_coherence *coherence, int timeout_ms)
{
	const vmsig_coherence *page = coherence->page;
	int64_t deadline = timeout_ms < 0 ? 0 : now_ns() + timeout_ms * NSEC_PER_MSEC;

	for (;;) {
		/* Before what it announces, so that no change falls between look and sleep. */
		uint32_t change = __atomic_load_n(&page->change, __ATOMIC_ACQUIRE);
		uint32_t epoch = __atomic_load_n(&page->epoch, __ATOMIC_ACQUIRE);
		uint32_t state = __atomic_load_n(&page->state, __ATOMIC_ACQUIRE);
		int64_t left = LOOK_NS;
		int r;

		if (state == VMSIG_STATE_UNATTENDED && epoch == coherence->epoch)
			return VMSIG_ERR_NO_BROKER;
		if (epoch != coherence->epoch || state != coherence->state) {
			coherence->state = state;
			return 0;
		}
		if (mem_coherence_owned(coherence) || mem_coherence_vouched(coherence))
			return VMSIG_ERR_NO_BROKER;
		if (timeout_ms >= 0 && deadline - now_ns() < left) {
			left = deadline - now_ns();
			if (left <= 0)
				return VMSIG_ERR_TIMEOUT;
		}
		r = futex_wait(&page->change, change, left);
		if (r && r != VMSIG_ERR_TIMEOUT)
			return r;
	}
}
