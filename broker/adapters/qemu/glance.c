/* SPDX-License-Identifier: Apache-2.0 */
/* A look into a folder of QMP sockets; see glance.h. */
#include "broker/adapters/qemu/glance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/ram/beneath.h"
#include "vmsig/vmsig_error.h"

#define STEP 256 /* names in a step of the job; about a millisecond */
#define NS_PER_S 1000000000
#define HERE_MASK                                                                                  \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF |        \
		IN_MOVE_SELF | IN_ONLYDIR)
#define ABOVE_MASK                                                                                 \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF |     \
		IN_ONLYDIR)

struct glance_search {
	struct beneath_folder place;
	DIR *names;
	size_t seen;   /* names */
	size_t opened; /* of those found, tried: when all names are read */
	size_t taken;  /* of these, ours */
	size_t room;
	size_t refused;
	size_t odd; /* names that cannot be ours, kept for their refusal */
};

static void why(struct glance *glance, const char *text)
{
	snprintf(glance->why, sizeof(glance->why), "%s", text);
}

/* ---- watches ---- */

static int watch(const struct glance *glance, int folder, uint32_t mask)
{
	char path[64];

	if (glance->inotify < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
	return inotify_add_watch(glance->inotify, path, mask);
}

/* The next folder above `path` that is there, in place; and what is awaited in it. Whoever may not
 * have it gets no watch, and looks now and then. */
static void watch_above(struct glance *glance)
{
	char path[PATH_MAX], error[GLANCE_WHY_MAX];
	struct beneath_folder above;
	char *slash;

	snprintf(path, sizeof(path), "%s", glance->folder);
	while ((slash = strrchr(path, '/')) && slash[1]) {
		snprintf(glance->awaited, sizeof(glance->awaited), "%s", slash + 1);
		slash[slash == path] = '\0';
		if (beneath_enter(&above, path, error, sizeof(error)) == 0) {
			glance->above = watch(glance, above.fd, ABOVE_MASK);
			close(above.fd);
			return;
		}
	}
}

/* Watched first: what comes later is told, what came before is found. */
static int enter(struct glance *glance)
{
	struct glance_search *search = glance->search;
	int fd, r;

	watch_above(glance);
	r = beneath_enter(&search->place, glance->folder, glance->why, sizeof(glance->why));
	if (r) {
		search->place.fd = -1;
		glance->missing = r == -ENOENT;
		return r;
	}
	glance->here = watch(glance, search->place.fd, HERE_MASK);
	fd = openat(search->place.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	search->names = fd < 0 ? NULL : fdopendir(fd);
	if (search->names)
		return 0;
	r = -errno;
	if (fd >= 0)
		close(fd);
	snprintf(glance->why, sizeof(glance->why), "cannot look into %s: %s", glance->folder,
		strerror(-r));
	return r;
}

/* ---- names ---- */

static struct glance_one *add(struct glance *glance, const char *file)
{
	struct glance_search *search = glance->search;
	struct glance_one *one;

	if (glance->n == search->room) {
		size_t room = search->room ? 2 * search->room : 64;
		struct glance_one *grown = realloc(glance->all, room * sizeof(*grown));

		if (!grown)
			return NULL;
		glance->all = grown;
		search->room = room;
	}
	one = &glance->all[glance->n];
	*one = (struct glance_one){.file = strdup(file), .fd = -1};
	if (!one->file)
		return NULL;
	glance->n++;
	return one;
}

static int64_t born(const struct statx *stx)
{
	const struct statx_timestamp *at =
		stx->stx_mask & STATX_BTIME ? &stx->stx_btime : &stx->stx_ctime;

	return at->tv_sec * NS_PER_S + at->tv_nsec;
}

static int compare_file(const void *key, const void *member)
{
	return strcmp(key, ((const struct glance_known *)member)->file);
}

static bool is_known(const struct glance *glance, const struct dirent *entry, dev_t *ret_dev)
{
	const struct glance_known *known =
		glance->nknown ? bsearch(entry->d_name, glance->known, glance->nknown,
					 sizeof(*glance->known), compare_file)
			       : NULL;

	if (!known || entry->d_type != DT_SOCK || entry->d_ino != known->ino)
		return false;
	*ret_dev = known->dev;
	return true;
}

static int note_known(struct glance *glance, const struct dirent *entry, dev_t dev)
{
	struct glance_one *one = add(glance, entry->d_name);

	if (!one)
		return -ENOMEM;
	one->known = true;
	one->dev = dev;
	one->ino = entry->d_ino;
	glance->search->taken++;
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct glance_one *x = a, *y = b;

	return x->born_ns != y->born_ns ? (x->born_ns > y->born_ns) - (x->born_ns < y->born_ns)
					: strcmp(x->file, y->file);
}

/* What is known is as old as nothing else: 0. */
static void keep_the_oldest(struct glance *glance)
{
	qsort(glance->all, glance->n, sizeof(*glance->all), by_age);
	while (glance->n > GLANCE_KEPT_MAX / 2) {
		glance->n--;
		glance->more += !glance->all[glance->n].odd;
		free(glance->all[glance->n].file);
	}
}

/* No less than what beneath.h lets us have. */
static bool may_be_ours(const struct glance *glance, const struct statx *stx)
{
	const struct beneath_folder *place = &glance->search->place;

	return S_ISSOCK(stx->stx_mode) && (!place->foreign || stx->stx_uid == place->at.stx_uid ||
						  stx->stx_uid == glance->owner ||
						  stx->stx_uid == 0 || stx->stx_uid == geteuid());
}

/* What it is shows when it is opened, and sorts by how old it is until then. A link may be looked
 * at, if only to say that it is one. */
static int note(struct glance *glance, const struct dirent *entry)
{
	struct glance_search *search = glance->search;
	const char *file = entry->d_name;
	struct glance_one *one;
	struct statx stx;
	bool ours;
	dev_t dev;

	if (is_known(glance, entry, &dev))
		return note_known(glance, entry, dev);
	if (fnmatch(glance->pattern, file, FNM_PERIOD) != 0 ||
		statx(search->place.fd, file, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
			STATX_TYPE | STATX_CTIME | STATX_BTIME, &stx) < 0 ||
		S_ISDIR(stx.stx_mode))
		return 0;
	ours = may_be_ours(glance, &stx);
	if (!ours && search->odd >= GLANCE_REFUSED_MAX)
		return 0;
	one = add(glance, file);
	if (!one)
		return -ENOMEM;
	search->odd += !ours;
	one->odd = !ours;
	one->born_ns = born(&stx);
	if (glance->n > GLANCE_KEPT_MAX)
		keep_the_oldest(glance);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct glance_one *x = a, *y = b;

	return strcmp(x->file, y->file);
}

/* Whether there are more. */
static int read_names(struct glance *glance)
{
	struct glance_search *search = glance->search;

	for (unsigned i = 0; i < STEP; i++) {
		const struct dirent *entry = readdir(search->names);

		if (!entry) {
			closedir(search->names);
			search->names = NULL;
			if (glance->n)
				qsort(glance->all, glance->n, sizeof(*glance->all), by_age);
			return 0;
		}
		if (++search->seen > GLANCE_ENTRIES_MAX) {
			snprintf(glance->why, sizeof(glance->why),
				"%s has more than %u entries; keep QMP sockets in a folder of "
				"their own",
				glance->folder, GLANCE_ENTRIES_MAX);
			return -E2BIG;
		}
		if (note(glance, entry))
			return -ENOMEM;
	}
	return VMSIG_ERR_WOULD_BLOCK;
}

/* ---- sockets ---- */

static int open_one(
	struct glance *glance, struct glance_one *one, char error[static GLANCE_WHY_MAX])
{
	char path[PATH_MAX];
	struct stat st;
	int r;

	snprintf(path, sizeof(path), "%s/%s", glance->folder, one->file);
	r = beneath_pick(
		&glance->search->place, path, glance->owner, &one->fd, error, GLANCE_WHY_MAX);
	if (r)
		return r;
	if (fstat(one->fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
		one->dev = st.st_dev;
		one->ino = st.st_ino;
		return 0;
	}
	snprintf(error, GLANCE_WHY_MAX,
		"%.300s is no socket; keep nothing else under such names in the folder", path);
	close(one->fd);
	one->fd = -1;
	return VMSIG_ERR_BAD_REQUEST;
}

/* What is gone by now is told by inotify, and is no fault. */
static void try_one(struct glance *glance, struct glance_one *one)
{
	struct glance_search *search = glance->search;
	char error[GLANCE_WHY_MAX] = "";
	int r;

	if (one->known)
		return;
	if (search->taken >= glance->limit) {
		glance->more++;
		return;
	}
	r = open_one(glance, one, error);
	if (!r)
		search->taken++;
	else if (r != -ENOENT && search->refused++ < GLANCE_REFUSED_MAX)
		one->why = strdup(error);
}

/* Only what is ours, or is refused with a reason, is told. */
static void finish(struct glance *glance)
{
	size_t n = 0;

	for (size_t i = 0; i < glance->n; i++) {
		struct glance_one *one = &glance->all[i];

		if (one->fd >= 0 || one->why || one->known)
			glance->all[n++] = *one;
		else
			free(one->file);
	}
	glance->n = n;
	if (n)
		qsort(glance->all, n, sizeof(*glance->all), by_name);
}

static int open_some(struct glance *glance)
{
	struct glance_search *search = glance->search;

	for (unsigned i = 0; i < STEP && search->opened < glance->n; i++)
		try_one(glance, &glance->all[search->opened++]);
	if (search->opened < glance->n)
		return VMSIG_ERR_WOULD_BLOCK;
	finish(glance);
	return 0;
}

/* ---- the job ---- */

static void search_free(struct glance *glance)
{
	struct glance_search *search = glance->search;

	if (!search)
		return;
	if (search->names)
		closedir(search->names);
	if (search->place.fd >= 0)
		close(search->place.fd);
	free(search);
	glance->search = NULL;
}

static int run(struct errand *errand)
{
	struct glance *glance = (struct glance *)errand;
	struct glance_search *search = glance->search;
	bool reading = search->names != NULL;
	int r = 0;

	if (!search->names && !search->seen) {
		r = enter(glance);
		reading = !r;
	}
	if (reading) {
		r = read_names(glance);
		if (!r)
			r = VMSIG_ERR_WOULD_BLOCK;
	} else if (!r) {
		r = open_some(glance);
	}
	if (r == -ENOMEM)
		why(glance, "out of memory");
	if (r != VMSIG_ERR_WOULD_BLOCK)
		search_free(glance);
	return r;
}

static void known_free(struct glance_known *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(known[i].file);
	free(known);
}

static void glance_free(struct errand *errand)
{
	struct glance *glance = (struct glance *)errand;

	search_free(glance);
	for (size_t i = 0; i < glance->n; i++) {
		if (glance->all[i].fd >= 0)
			close(glance->all[i].fd);
		free(glance->all[i].file);
		free(glance->all[i].why);
	}
	free(glance->all);
	known_free(glance->known, glance->nknown);
	free(glance->folder);
	free(glance->pattern);
	if (glance->inotify >= 0)
		close(glance->inotify);
	free(glance);
}

int glance_start(struct glance **ret_glance, const struct glance_wanted *wanted,
	const struct errand_owner *owner, struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = glance_free};
	struct glance *glance = calloc(1, sizeof(*glance));

	if (!glance) {
		known_free(wanted->known, wanted->nknown);
		return -ENOMEM;
	}
	glance->known = wanted->known;
	glance->nknown = wanted->nknown;
	glance->owner = wanted->owner;
	glance->limit = wanted->limit;
	glance->here = glance->above = -1;
	glance->inotify = wanted->inotify < 0 ? -1 : fcntl(wanted->inotify, F_DUPFD_CLOEXEC, 0);
	glance->folder = strdup(wanted->folder);
	glance->pattern = strdup(wanted->pattern);
	glance->search = calloc(1, sizeof(*glance->search));
	if (!glance->folder || !glance->pattern || !glance->search) {
		glance_free(&glance->errand);
		return -ENOMEM;
	}
	glance->search->place.fd = -1;
	*ret_glance = glance;
	errand_start(&glance->errand, &ops, owner, line);
	return 0;
}
