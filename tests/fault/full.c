/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into vmsigd: while the file FULL_ARMED exists the disk is full, and pwrite(2) and
 * pwrite64(2) say so.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t pwrite64(
	int fd, const void *buf, size_t len, off64_t offset);

__attribute__((visibility("default"))) ssize_t pwrite(
	int fd, const void *buf, size_t len, off_t offset);

static ssize_t write_unless_full(
	const char *name, int fd, const void *buf, size_t len, off64_t offset)
{
	ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, name);
	const char *armed = getenv("FULL_ARMED");

	if (armed && access(armed, F_OK) == 0) {
		errno = ENOSPC;
		return -1;
	}
	return next(fd, buf, len, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	return write_unless_full("pwrite64", fd, buf, len, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return write_unless_full("pwrite", fd, buf, len, offset);
}
