/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/globpath.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_glob(const char *level, size_t len)
{
	return strcspn(level, "*?[") < len;
}

/* Where the first component with a glob begins; the path's end: there is none. */
static size_t first_glob(const char *path)
{
	size_t at = strcspn(path, "*?[");

	if (!path[at])
		return at;
	while (at && path[at - 1] != '/')
		at--;
	return at;
}

static int add_level(struct globpath *glob, const char *text, size_t len)
{
	if (glob->n == CONFIG_GLOBS_MAX)
		return -E2BIG;
	glob->levels[glob->n] = strndup(text, len);
	return glob->levels[glob->n] ? (glob->n++, 0) : -ENOMEM;
}

int globpath_init(struct globpath *glob, const char *path)
{
	size_t folder = first_glob(path);
	const char *rest = path + folder;
	int r = 0;

	*glob = (struct globpath){0};
	while (folder && path[folder - 1] == '/')
		folder--;
	glob->folder = strndup(path, folder);
	if (!glob->folder)
		return -ENOMEM;
	while (!r && *(rest += strspn(rest, "/"))) {
		size_t len = strcspn(rest, "/");

		r = add_level(glob, rest, len);
		rest += len;
	}
	if (!r && !glob->n)
		r = add_level(glob, "*", 1);
	if (r)
		globpath_deinit(glob);
	return r;
}

void globpath_deinit(struct globpath *glob)
{
	for (unsigned i = 0; i < glob->n; i++)
		free(glob->levels[i]);
	free(glob->folder);
	*glob = (struct globpath){0};
}

/* Without what follows its last dot, if it is a file's. */
static size_t stem(const char *part, size_t len, bool is_file)
{
	const char *dot = is_file ? memrchr(part, '.', len) : NULL;

	return dot ? (size_t)(dot - part) : len;
}

void globpath_name(const struct globpath *glob, const char *file, char *name, size_t size)
{
	size_t used = 0;

	name[0] = '\0';
	for (unsigned i = 0; i < glob->n && *file; i++) {
		size_t len = strcspn(file, "/"), taken = stem(file, len, i + 1 == glob->n);

		if (is_glob(glob->levels[i], strlen(glob->levels[i]))) {
			if (used + taken + 2 > size) {
				name[0] = '\0';
				return;
			}
			if (used)
				name[used++] = '-';
			memcpy(name + used, file, taken);
			used += taken;
			name[used] = '\0';
		}
		file += len + (file[len] == '/');
	}
}
