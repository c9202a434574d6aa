/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into vmsigd: CLOCK_REALTIME goes by as many seconds wrong as the file JUMP_SECONDS
 * says, a number with a sign, which may change at any moment.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now);
__attribute__((visibility("default"))) time_t time(time_t *ret_now);

static long offset(void)
{
	const char *path = getenv("JUMP_SECONDS");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char text[32];
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	int r;

	if (!next)
		next = dlsym(RTLD_NEXT, "clock_gettime");
	r = next(clock, now);
	if (r == 0 && clock == CLOCK_REALTIME)
		now->tv_sec += offset();
	return r;
}

time_t time(time_t *ret_now)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now))
		return -1;
	if (ret_now)
		*ret_now = now.tv_sec;
	return now.tv_sec;
}
