/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/memwrite/fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "vmsig/vmsig_error.h"

#define FAULT_PAGE 4096u /* no page is smaller */

static __thread sigjmp_buf escape;
static __thread volatile sig_atomic_t guarded;

static void on_sigbus(int signum, siginfo_t *info, void *context)
{
	const ucontext_t *interrupted = context;

	if (guarded) {
		/* Not by the jump: saving it would cost each access a system call. */
		pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, NULL);
		siglongjmp(escape, 1);
	}
	/* Not ours: the default action, when the access is repeated. */
	signal(SIGBUS, SIG_DFL);
}

int fault_setup(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

/* Up to the end of the page of `guest`, `len` at most. */
static size_t in_page(const uint8_t *guest, size_t len)
{
	size_t left = FAULT_PAGE - (uintptr_t)guest % FAULT_PAGE;

	return left < len ? left : len;
}

int fault_read(void *to, const void *guest, size_t len)
{
	if (sigsetjmp(escape, 0)) {
		guarded = 0;
		return VMSIG_ERR_OUT_OF_RANGE;
	}
	guarded = 1;
	memcpy(to, guest, len);
	guarded = 0;
	return 0;
}

/* Faults here and not half way through the page, if the page is not there. */
static void touch(uint8_t *guest)
{
	__asm__ volatile("lock orb $0, %0" : "+m"(*guest) : : "cc");
}

static void exchange(
	uint8_t *guest, const uint8_t *from, uint8_t *old, size_t len, volatile size_t *ret_done)
{
	for (size_t at = 0, n; at < len; at += n) {
		n = in_page(guest + at, len - at);
		touch(guest + at);
		memcpy(old + at, guest + at, n);
		memcpy(guest + at, from + at, n);
		*ret_done = at + n;
	}
}

int fault_exchange(void *guest, const void *from, void *old, size_t len, size_t *ret_done)
{
	volatile size_t done = 0;
	int r = VMSIG_ERR_OUT_OF_RANGE;

	if (!sigsetjmp(escape, 0)) {
		guarded = 1;
		exchange(guest, from, old, len, &done);
		r = 0;
	}
	guarded = 0;
	*ret_done = done;
	return r;
}

/* The guest's CPUs are concurrent writers: each width is one locked instruction. */
#define DEFINE_STORE(bits)                                                                         \
	static int store_##bits(                                                                   \
		uint##bits##_t *guest, const struct fault_store *store, uint64_t *ret_old)         \
	{                                                                                          \
		uint##bits##_t old = __atomic_load_n(guest, __ATOMIC_SEQ_CST), next;               \
                                                                                                   \
		do {                                                                               \
			*ret_old = old;                                                            \
			if (store->has_expect && ((old ^ store->expect) & store->expect_mask &     \
							 (uint##bits##_t)UINT64_MAX))              \
				return VMSIG_ERR_COMPARE_FAILED;                                   \
			next = (uint##bits##_t)(                                                   \
				(old & ~store->mask) | (store->value & store->mask));              \
		} while (!__atomic_compare_exchange_n(                                             \
			guest, &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));            \
		return 0;                                                                          \
	}
DEFINE_STORE(8)
DEFINE_STORE(16)
DEFINE_STORE(32)
DEFINE_STORE(64)

static int store_sized(void *guest, const struct fault_store *store, uint64_t *ret_old)
{
	switch (store->size) {
	case 1:
		return store_8(guest, store, ret_old);
	case 2:
		return store_16(guest, store, ret_old);
	case 4:
		return store_32(guest, store, ret_old);
	default:
		return store_64(guest, store, ret_old);
	}
}

int fault_store(void *guest, const struct fault_store *store, uint64_t *ret_old)
{
	int r;

	if (sigsetjmp(escape, 0)) {
		guarded = 0;
		return VMSIG_ERR_OUT_OF_RANGE;
	}
	guarded = 1;
	r = store_sized(guest, store, ret_old);
	guarded = 0;
	return r;
}
