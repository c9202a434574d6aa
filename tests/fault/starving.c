/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/starving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void starving_init(struct starving *starving, const char *dir)
{
	int fd;

	snprintf(starving->path, sizeof(starving->path), "%s/starve", dir);
	fd = open(starving->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(*starving->shared)), 0);
	starving->shared =
		mmap(NULL, sizeof(*starving->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(starving->shared != MAP_FAILED);
	close(fd);
}

void starving_deinit(struct starving *starving)
{
	munmap(starving->shared, sizeof(*starving->shared));
}

void starving_preload(const struct starving *starving, bool on)
{
	if (on) {
		setenv("LD_PRELOAD", STARVE_LIBRARY, 1);
		setenv("STARVE_FILE", starving->path, 1);
	} else {
		unsetenv("LD_PRELOAD");
		unsetenv("STARVE_FILE");
	}
}

void starving_fail_at(struct starving *starving, uint32_t at)
{
	__atomic_store_n(&starving->shared->count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&starving->shared->at, at, __ATOMIC_SEQ_CST);
}

bool starving_has_failed(struct starving *starving, uint32_t at)
{
	__atomic_store_n(&starving->shared->at, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&starving->shared->count, __ATOMIC_SEQ_CST) >= at;
}
