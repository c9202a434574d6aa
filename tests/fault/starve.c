/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program: one of its allocations fails, as starve.h says. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fault/starve.h"

#define EXPORT __attribute__((visibility("default")))

/* glibc's own, which need nothing that would allocate to be found. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t n, size_t size);
EXPORT void *realloc(void *old, size_t size);

static struct starve *shared;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("STARVE_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		shared = map;
}

/* libseccomp (2.5.4) frees twice what it had no memory to make larger. */
static int is_spared(const void *caller)
{
	Dl_info info;

	return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "libseccomp");
}

static int starves(const void *caller)
{
	uint32_t at = shared ? __atomic_load_n(&shared->at, __ATOMIC_ACQUIRE) : 0;

	if (!at || is_spared(caller) ||
		__atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST) != at)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return starves(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return starves(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return starves(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
