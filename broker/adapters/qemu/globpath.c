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

/* Behind what `name` has of other parts: a hyphen stands between two, so one of a part's own is
 * doubled, and may not be next to that. False: it does not fit, or cannot be told. */
static bool add_part(char *name, size_t size, const char *part, size_t len, bool is_one_of_several)
{
	size_t used = strlen(name);

	if (is_one_of_several && len && (part[0] == '-' || part[len - 1] == '-'))
		return false;
	if (used)
		name[used++] = '-';
	for (size_t i = 0; i < len; i++) {
		bool is_doubled = is_one_of_several && part[i] == '-';

		if (used + 1 + is_doubled >= size)
			return false;
		name[used++] = part[i];
		if (is_doubled)
			name[used++] = '-';
	}
	if (used >= size)
		return false;
	name[used] = '\0';
	return true;
}

static unsigned count_globs(const struct globpath *glob)
{
	unsigned n = 0;

	for (unsigned i = 0; i < glob->n; i++)
		n += is_glob(glob->levels[i], strlen(glob->levels[i]));
	return n;
}

void globpath_name(const struct globpath *glob, const char *file, char *name, size_t size)
{
	bool are_several = count_globs(glob) > 1;

	name[0] = '\0';
	for (unsigned i = 0; i < glob->n && *file; i++) {
		size_t len = strcspn(file, "/"), taken = stem(file, len, i + 1 == glob->n);

		if (is_glob(glob->levels[i], strlen(glob->levels[i])) &&
			!add_part(name, size, file, taken, are_several)) {
			name[0] = '\0';
			return;
		}
		file += len + (file[len] == '/');
	}
}
