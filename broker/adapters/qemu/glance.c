/* SPDX-License-Identifier: Apache-2.0 */
/* A look for QMP sockets; see glance.h. */
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

#define STEP 256   /* names in a step of the job; about a millisecond */
#define ENTERING 8 /* as many names as it costs to enter a folder */
#define NS_PER_S 1000000000
#define HERE_MASK                                                                                  \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF |        \
		IN_MOVE_SELF | IN_ONLYDIR)
#define ABOVE_MASK                                                                                 \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF |     \
		IN_ONLYDIR)

/* One that is looked into when it is its turn. */
struct glance_folder {
	char *file; /* below the first; "": that one */
	unsigned level;
};

struct glance_search {
	struct glance_folder *folders; /* in the order in which they were found */
	size_t nfolders, folders_room;
	size_t next;                 /* of them, to be entered */
	struct beneath_folder place; /* fd -1: in none */
	char within[PATH_MAX];       /* the folder's that it is, as above */
	DIR *names;
	bool began, reading;
	size_t seen;   /* names */
	size_t opened; /* of those found, tried: when all names are read */
	size_t taken;  /* of these, ours */
	size_t room, watches_room;
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

int glance_watch_order(const void *a, const void *b)
{
	const struct glance_watch *x = a, *y = b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static void *grow(void *array, size_t n, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 64;
	void *grown;

	if (n < *room)
		return array;
	grown = reallocarray(array, more, size);
	if (grown)
		*room = more;
	return grown;
}

/* Of the folder that is being read. */
static unsigned level_of(const struct glance_search *search)
{
	return search->folders[search->next - 1].level;
}

/* Whoever may not have a watch looks now and then. */
static void watch_here(struct glance *glance)
{
	struct glance_search *search = glance->search;
	int wd = watch(glance, search->place.fd, HERE_MASK);
	struct glance_watch *watches = wd < 0 ? NULL
					      : grow(glance->watches, glance->nwatches,
							&search->watches_room, sizeof(*watches));

	if (!watches)
		return;
	glance->watches = watches;
	watches[glance->nwatches++] = (struct glance_watch){.wd = wd, .level = level_of(search)};
}

/* The next folder above `path` that is there, in place; and what is awaited in it. */
static void watch_above(struct glance *glance)
{
	char path[PATH_MAX], error[GLANCE_WHY_MAX];
	struct beneath_folder above;
	char *slash;

	snprintf(path, sizeof(path), "%s", glance->glob.folder);
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

/* ---- folders ---- */

/* Its place in the file system. */
static void path_of(const struct glance *glance, const char *file, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s%s%s", glance->glob.folder, *file ? "/" : "", file);
}

static void leave(struct glance_search *search)
{
	if (search->names)
		closedir(search->names);
	search->names = NULL;
	if (search->place.fd >= 0)
		close(search->place.fd);
	search->place.fd = -1;
}

static int enter(struct glance *glance, const char *file, char error[static GLANCE_WHY_MAX])
{
	struct glance_search *search = glance->search;
	char path[PATH_MAX];
	int r;

	leave(search);
	path_of(glance, file, path);
	r = beneath_enter(&search->place, path, error, GLANCE_WHY_MAX);
	if (r)
		search->place.fd = -1;
	else
		snprintf(search->within, sizeof(search->within), "%s", file);
	return r;
}

/* Watched first: what comes later is told, what came before is found. */
static int open_names(struct glance *glance, const char *file, char error[static GLANCE_WHY_MAX])
{
	struct glance_search *search = glance->search;
	int fd, r = enter(glance, file, error);

	if (r)
		return r;
	watch_here(glance);
	fd = openat(search->place.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	search->names = fd < 0 ? NULL : fdopendir(fd);
	if (search->names)
		return 0;
	r = -errno;
	if (fd >= 0)
		close(fd);
	snprintf(error, GLANCE_WHY_MAX, "cannot look into %.300s/%.100s: %s", glance->glob.folder,
		file, strerror(-r));
	return r;
}

/* The name of an entry of the folder in which the search is. False: no path is that long. */
static bool file_of(const struct glance *glance, const char *name, char file[static PATH_MAX])
{
	const char *folder = glance->search->within;

	return snprintf(file, PATH_MAX, "%s%s%s", folder, *folder ? "/" : "", name) < PATH_MAX;
}

/* Beyond the bound whoever planted them has some that are not looked into. */
static int add_folder(struct glance *glance, const char *file, unsigned level)
{
	struct glance_search *search = glance->search;
	struct glance_folder *folders;
	char *copy;

	if (search->nfolders == GLANCE_FOLDERS_MAX)
		return 0;
	folders = grow(search->folders, search->nfolders, &search->folders_room, sizeof(*folders));
	copy = strdup(file);
	search->folders = folders ? folders : search->folders;
	if (!folders || !copy) {
		free(copy);
		return -ENOMEM;
	}
	folders[search->nfolders++] = (struct glance_folder){.file = copy, .level = level};
	return 0;
}

/* ---- names ---- */

static struct glance_one *add(struct glance *glance, const char *file)
{
	struct glance_one *all = grow(glance->all, glance->n, &glance->search->room, sizeof(*all));

	if (!all)
		return NULL;
	glance->all = all;
	all[glance->n] = (struct glance_one){.file = strdup(file), .fd = -1};
	return all[glance->n].file ? &all[glance->n++] : NULL;
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

static bool is_known(
	const struct glance *glance, const struct dirent *entry, const char *file, dev_t *ret_dev)
{
	const struct glance_known *known = glance->nknown
						   ? bsearch(file, glance->known, glance->nknown,
							     sizeof(*glance->known), compare_file)
						   : NULL;

	if (!known || entry->d_type != DT_SOCK || entry->d_ino != known->ino)
		return false;
	*ret_dev = known->dev;
	return true;
}

static int note_known(struct glance *glance, const char *file, ino_t ino, dev_t dev)
{
	struct glance_one *one = add(glance, file);

	if (!one)
		return -ENOMEM;
	one->known = true;
	one->dev = dev;
	one->ino = ino;
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
		free(glance->all[glance->n].why);
	}
}

/* No less than what beneath.h lets us have. */
static bool is_ours(const struct glance *glance, const struct statx *stx)
{
	const struct beneath_folder *place = &glance->search->place;

	return !place->foreign || stx->stx_uid == place->at.stx_uid ||
	       stx->stx_uid == glance->owner || stx->stx_uid == 0 || stx->stx_uid == geteuid();
}

/* What it is shows when it is opened, and sorts by how old it is until then. A link may be looked
 * at, if only to say that it is one. */
static int note_socket(struct glance *glance, const char *file, const struct statx *stx)
{
	struct glance_search *search = glance->search;
	bool ours = S_ISSOCK(stx->stx_mode) && is_ours(glance, stx);
	struct glance_one *one;

	if (S_ISDIR(stx->stx_mode) || (!ours && search->odd >= GLANCE_REFUSED_MAX))
		return 0;
	one = add(glance, file);
	if (!one)
		return -ENOMEM;
	search->odd += !ours;
	one->odd = !ours;
	one->born_ns = born(stx);
	if (glance->n > GLANCE_KEPT_MAX)
		keep_the_oldest(glance);
	return 0;
}

static int note(struct glance *glance, const struct dirent *entry)
{
	struct glance_search *search = glance->search;
	unsigned level = level_of(search);
	bool last = level + 1 == glance->glob.n;
	char file[PATH_MAX];
	struct statx stx;
	dev_t dev;

	/* A level that begins with a period may stand for these, which lead out of the folder. */
	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return 0;
	if (fnmatch(glance->glob.levels[level], entry->d_name, FNM_PERIOD) != 0 ||
		!file_of(glance, entry->d_name, file))
		return 0;
	if (last && is_known(glance, entry, file, &dev))
		return note_known(glance, file, entry->d_ino, dev);
	if (statx(search->place.fd, entry->d_name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
		    STATX_TYPE | STATX_UID | STATX_CTIME | STATX_BTIME, &stx) < 0)
		return 0;
	if (last)
		return note_socket(glance, file, &stx);
	return S_ISDIR(stx.stx_mode) && is_ours(glance, &stx) ? add_folder(glance, file, level + 1)
							      : 0;
}

static int by_name(const void *a, const void *b)
{
	const struct glance_one *x = a, *y = b;

	return strcmp(x->file, y->file);
}

/* What is gone by now is told by inotify, and is no fault. */
static int refuse_folder(struct glance *glance, const char *file, int r, const char *error)
{
	struct glance_one *one;

	if (r == -ENOENT || glance->search->refused++ >= GLANCE_REFUSED_MAX)
		return 0;
	one = add(glance, file);
	if (!one)
		return -ENOMEM;
	one->why = strdup(error);
	return 0;
}

/* The next folder's names. All depends on the first; of others it is told. */
static int go_on(struct glance *glance)
{
	struct glance_search *search = glance->search;
	char error[GLANCE_WHY_MAX] = "";
	const char *file = search->folders[search->next++].file;
	int r = open_names(glance, file, error);

	if (r && search->next > 1)
		return refuse_folder(glance, file, r, error);
	if (r == -ENOENT)
		glance->missing = true;
	if (r)
		why(glance, error);
	return r;
}

static int read_name(struct glance *glance, const struct dirent *entry)
{
	if (++glance->search->seen <= GLANCE_ENTRIES_MAX)
		return note(glance, entry);
	snprintf(glance->why, sizeof(glance->why),
		"%s has more than %u entries; keep QMP sockets in a folder of their own",
		glance->glob.folder, GLANCE_ENTRIES_MAX);
	return -E2BIG;
}

static void sort_by_age(struct glance *glance)
{
	if (glance->n)
		qsort(glance->all, glance->n, sizeof(*glance->all), by_age);
}

static int read_names(struct glance *glance)
{
	struct glance_search *search = glance->search;
	int r = 0;

	for (unsigned i = 0; i < STEP && search->reading && !r; i++) {
		const struct dirent *entry = search->names ? readdir(search->names) : NULL;

		if (entry) {
			r = read_name(glance, entry);
			continue;
		}
		leave(search);
		search->reading = search->next < search->nfolders;
		if (search->reading)
			r = go_on(glance);
		i += ENTERING;
	}
	if (!r && !search->reading)
		sort_by_age(glance);
	return r ? r : VMSIG_ERR_WOULD_BLOCK;
}

/* ---- sockets ---- */

/* In the folder of a file. */
static int be_within(struct glance *glance, const char *file, char error[static GLANCE_WHY_MAX])
{
	const struct glance_search *search = glance->search;
	const char *slash = strrchr(file, '/');
	char folder[PATH_MAX];

	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - file) : 0, file);
	return search->place.fd >= 0 && strcmp(folder, search->within) == 0
		       ? 0
		       : enter(glance, folder, error);
}

static int open_one(
	struct glance *glance, struct glance_one *one, char error[static GLANCE_WHY_MAX])
{
	char path[PATH_MAX];
	struct stat st;
	int r = be_within(glance, one->file, error);

	path_of(glance, one->file, path);
	if (!r)
		r = beneath_pick(&glance->search->place, path, glance->owner, &one->fd, error,
			GLANCE_WHY_MAX);
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

	if (one->known || one->why)
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
	leave(search);
	for (size_t i = 0; i < search->nfolders; i++)
		free(search->folders[i].file);
	free(search->folders);
	free(search);
	glance->search = NULL;
}

static int begin(struct glance *glance)
{
	struct glance_search *search = glance->search;

	search->began = search->reading = true;
	watch_above(glance);
	return add_folder(glance, "", 0);
}

static int run(struct errand *errand)
{
	struct glance *glance = (struct glance *)errand;
	struct glance_search *search = glance->search;
	int r = search->began ? 0 : begin(glance);

	if (!r)
		r = search->reading ? read_names(glance) : open_some(glance);
	if (r == -ENOMEM)
		why(glance, "out of memory");
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return r;
	search_free(glance);
	if (glance->nwatches)
		qsort(glance->watches, glance->nwatches, sizeof(*glance->watches),
			glance_watch_order);
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
	free(glance->watches);
	globpath_deinit(&glance->glob);
	if (glance->inotify >= 0)
		close(glance->inotify);
	free(glance);
}

int glance_start(struct glance **ret_glance, const struct glance_wanted *wanted,
	const struct errand_owner *owner, struct job_line *line)
{
	static const struct errand_ops ops = {.run = run, .free = glance_free};
	struct glance *glance = calloc(1, sizeof(*glance));
	int r;

	if (!glance) {
		known_free(wanted->known, wanted->nknown);
		return -ENOMEM;
	}
	glance->known = wanted->known;
	glance->nknown = wanted->nknown;
	glance->owner = wanted->owner;
	glance->limit = wanted->limit;
	glance->above = -1;
	glance->inotify = wanted->inotify < 0 ? -1 : fcntl(wanted->inotify, F_DUPFD_CLOEXEC, 0);
	glance->search = calloc(1, sizeof(*glance->search));
	if (glance->search)
		glance->search->place.fd = -1;
	r = glance->search ? globpath_init(&glance->glob, wanted->path) : -ENOMEM;
	if (r) {
		glance_free(&glance->errand);
		return r;
	}
	*ret_glance = glance;
	errand_start(&glance->errand, &ops, owner, line);
	return 0;
}
