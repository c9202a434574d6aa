/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into vmsigd: once the file CRASH_ARMED exists, the process dies by SIGKILL at its
 * CRASH_AT-th call (from 1) of pwrite64(2) (a transaction reaches the database) or
 * process_vm_writev(2) (bytes reach the guest) or sendmsg(2) (an answer leaves), before the call
 * or, with CRASH_AFTER, after it. So it dies at every boundary between intent, bytes, result
 * and reply.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t pwrite64(
	int fd, const void *buf, size_t len, off64_t offset);
__attribute__((visibility("default"))) ssize_t sendmsg(
	int fd, const struct msghdr *message, int flags);
__attribute__((visibility("default"))) ssize_t process_vm_writev(pid_t pid,
	const struct iovec *local, unsigned long nlocal, const struct iovec *remote,
	unsigned long nremote, unsigned long flags);

static int calls;

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Whether this is the call. */
static int is_due(void)
{
	const char *armed = getenv("CRASH_ARMED"), *at = getenv("CRASH_AT");

	if (!armed || !at || access(armed, F_OK) < 0)
		return 0;
	return __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) == atoi(at);
}

static int before(void)
{
	int due = is_due();

	if (due && !getenv("CRASH_AFTER"))
		kill(getpid(), SIGKILL);
	return due;
}

static void after(int due)
{
	if (due)
		kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	ssize_t (*next)(int, const void *, size_t, off64_t) = real("pwrite64");
	int due = before();
	ssize_t n = next(fd, buf, len, offset);

	after(due);
	return n;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t (*next)(int, const struct msghdr *, int) = real("sendmsg");
	int due = before();
	ssize_t n = next(fd, message, flags);

	after(due);
	return n;
}

ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long nlocal,
	const struct iovec *remote, unsigned long nremote, unsigned long flags)
{
	ssize_t (*next)(pid_t, const struct iovec *, unsigned long, const struct iovec *,
		unsigned long, unsigned long) = real("process_vm_writev");
	int due = before();
	ssize_t n = next(pid, local, nlocal, remote, nremote, flags);

	after(due);
	return n;
}
