/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

bool folder_state(const char *variable, const char *name, char ret_path[static PATH_MAX])
{
	const char *own = getenv(variable), *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int n = -1;

	if (own && own[0])
		n = snprintf(ret_path, PATH_MAX, "%s", own);
	else if (state && state[0] == '/')
		n = snprintf(ret_path, PATH_MAX, "%s/vmsig/%s", state, name);
	else if (home && home[0])
		n = snprintf(ret_path, PATH_MAX, "%s/.local/state/vmsig/%s", home, name);
	return n >= 0 && n < PATH_MAX;
}

int folder_make(char *path)
{
	for (char *at = path + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}
