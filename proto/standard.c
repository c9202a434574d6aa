/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int standard_secure(void)
{
	static const int modes[] = {
		[STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		/* The lowest free number is this one: those below are in use. */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			return -errno;
	}
	return 0;
}
