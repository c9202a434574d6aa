/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/kept.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define REST_MAX 40 /* two numbers of 64 bits */

static int rest_of(int place, char rest[static REST_MAX])
{
	struct stat st;

	if (fstat(place, &st) < 0)
		return -errno;
	snprintf(rest, REST_MAX, "%llx-%llx", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	return 0;
}

int kept_leave(const char *endpoint, int place, int fd)
{
	char name[MANAGER_NAME_MAX], rest[REST_MAX];
	int r = rest_of(place, rest);

	if (r)
		return r;
	snprintf(name, sizeof(name), KEPT_KIND "/%s/%s", endpoint, rest);
	return manager_keep(name, fd);
}

int kept_take(struct kept_name *ret_kept, int place)
{
	char rest[REST_MAX];
	int r = rest_of(place, rest);

	return r ? r : manager_take(KEPT_KIND, rest, ret_kept->name);
}

void kept_return(const struct kept_name *kept, int fd)
{
	manager_return(kept->name, fd);
}

void kept_drop(const char *endpoint)
{
	manager_drop(KEPT_KIND, endpoint);
}
