/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into vmsigd: once the file CRASH_ARMED exists, the process dies by SIGKILL at its
 * CRASH_AT-th call (from 1) of those that CRASH_CALLS has the letters of, before the call or,
 * with CRASH_AFTER, after it. Into the file goes the letter of the call that it died at.
 *
 *   C  clock_gettime() of the loop, which looks at it at every step of a write: between them are
 *      the stores to memory that make an intent, bytes and a result last
 *   P  pwrite(2), pwrite64(2)  entries reach a segment, a transaction the snapshot
 *   S  sendmsg(2)            an answer leaves
 *   E  epoll_wait(2), epoll_pwait(2)  a turn of the loop is over
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t pwrite64(
	int fd, const void *buf, size_t len, off64_t offset);
__attribute__((visibility("default"))) ssize_t pwrite(
	int fd, const void *buf, size_t len, off_t offset);
__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now);
__attribute__((visibility("default"))) ssize_t sendmsg(
	int fd, const struct msghdr *message, int flags);
__attribute__((visibility("default"))) int epoll_pwait(
	int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask);
__attribute__((visibility("default"))) int epoll_wait(
	int fd, struct epoll_event *events, int most, int timeout);

static int calls;

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Whether this is the call. */
static int is_due(char letter)
{
	const char *armed = getenv("CRASH_ARMED"), *at = getenv("CRASH_AT");
	const char *letters = getenv("CRASH_CALLS");

	if (!armed || !at || !letters || !strchr(letters, letter) || access(armed, F_OK) < 0)
		return 0;
	return __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == atoi(at);
}

static void die(char letter)
{
	int fd = open(getenv("CRASH_ARMED"), O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, &letter, 1) == 1)
		close(fd);
	kill(getpid(), SIGKILL);
}

static int before(char letter)
{
	int due = is_due(letter);

	if (due && !getenv("CRASH_AFTER"))
		die(letter);
	return due;
}

static void after(char letter, int due)
{
	if (due)
		die(letter);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	ssize_t (*next)(int, const void *, size_t, off64_t) = real("pwrite64");
	int due = before('P');
	ssize_t n = next(fd, buf, len, offset);

	after('P', due);
	return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	ssize_t (*next)(int, const void *, size_t, off_t) = real("pwrite");
	int due = before('P');
	ssize_t n = next(fd, buf, len, offset);

	after('P', due);
	return n;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	int due = gettid() == getpid() && before('C');
	int r;

	if (!next)
		next = real("clock_gettime");
	r = next(clock, now);
	after('C', due);
	return r;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*next)(int, const struct msghdr *, int) = real("sendmsg");
	int due = before('S');
	ssize_t n = next(fd, message, flags);

	after('S', due);
	return n;
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask)
{
	int (*next)(int, struct epoll_event *, int, int, const sigset_t *) = real("epoll_pwait");
	int due = before('E');
	int n = next(fd, events, most, timeout, mask);

	after('E', due);
	return n;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
	int (*next)(int, struct epoll_event *, int, int) = real("epoll_wait");
	int due = before('E');
	int n = next(fd, events, most, timeout);

	after('E', due);
	return n;
}
