/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/dial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

static const struct {
	int error; /* errno */
	enum vmsig_error code;
	const char *next;
} failures[] = {
	{EACCES, VMSIG_ERR_FORBIDDEN, "; this user may not use the broker's socket"},
	{EPERM, VMSIG_ERR_FORBIDDEN, "; this user may not use the broker's socket"},
	{ENOENT, VMSIG_ERR_DISCONNECTED, "; is vmsigd running, and is this its socket?"},
	{ECONNREFUSED, VMSIG_ERR_DISCONNECTED, "; is vmsigd running, and is this its socket?"},
};

static int dial_failed(const char *path, int number, char *error, size_t size)
{
	if (number == EAGAIN) {
		snprintf(error, size, "%s: the broker has too many callers waiting", path);
		return VMSIG_ERR_BUSY;
	}
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		if (failures[i].error != number)
			continue;
		snprintf(error, size, "%s: %s%s", path, strerror(number), failures[i].next);
		return failures[i].code;
	}
	snprintf(error, size, "%s: %s", path, strerror(number));
	return VMSIG_ERR_IO;
}

int dial_connect(const char *path, int *ret_fd, char *error, size_t error_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(error, error_size, "%s: longer than the %zu bytes of a socket's path",
			path, sizeof(address.sun_path) - 1);
		return VMSIG_ERR_BAD_REQUEST;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		snprintf(error, error_size, "socket: %s", strerror(errno));
		return VMSIG_ERR_IO;
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = dial_failed(path, errno, error, error_size);
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}
