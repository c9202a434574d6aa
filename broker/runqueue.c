/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/runqueue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int runqueue_open(void)
{
	int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

uint64_t runqueue_waited_ns(int fd)
{
	char text[96], *waited;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* What it ran, what it waited, how often. */
	waited = strchr(text, ' ');
	return waited ? strtoull(waited, NULL, 10) : 0;
}
