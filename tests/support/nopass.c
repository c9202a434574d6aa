/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD: a kernel that does not know SO_PASSRIGHTS, as before Linux 6.16.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#define SO_PASSRIGHTS_NUMBER 83

__attribute__((visibility("default"))) int setsockopt(
	int fd, int level, int name, const void *value, socklen_t len)
{
	int (*real)(int, int, int, const void *, socklen_t);

	if (level == SOL_SOCKET && name == SO_PASSRIGHTS_NUMBER) {
		errno = ENOPROTOOPT;
		return -1;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "setsockopt");
	return real(fd, level, name, value, len);
}
