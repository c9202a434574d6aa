/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_GLANCE_H
#define BROKER_ADAPTERS_QEMU_GLANCE_H

/*
 * One look for QMP sockets: into the folder of a globpath, and into those below it whose names
 * match, level by level: which names match at the last one, and are sockets that beneath.h lets us
 * have, each by descriptor. Before it looks into a folder it has inotify watch that, and the one
 * above the first, so that whatever comes later is told; of a folder that is not there, the next
 * one above that is. A job, because it touches file systems.
 *
 * Beyond `limit` sockets the oldest count, so that new ones drive out none that are served.
 *
 * Whoever may plant names makes looks last longer, and no more: they are read in pieces, and what
 * cannot be ours, by its type and owner, takes none of the room. A folder below the first that
 * cannot be looked into is told as a socket is that is refused, and hinders no other. Links stand
 * for no folder.
 *
 * What is held by descriptor already is the same as long as its name has that inode, and is not
 * opened again: a look costs one system call for each name that is new.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/adapters/errand.h"
#include "broker/adapters/qemu/globpath.h"

#define GLANCE_WHY_MAX 512
#define GLANCE_ENTRIES_MAX (1u << 22) /* names; what has more is no folder of sockets */
#define GLANCE_FOLDERS_MAX 16384u     /* that match; what is beyond is not looked into */
#define GLANCE_KEPT_MAX 65536u        /* sockets that may be ours; beyond it the oldest half */
#define GLANCE_REFUSED_MAX 64 /* of these it is told why; a bound of what others may plant */

struct glance_one {
	char *file; /* below the globpath's folder */
	int fd;     /* O_PATH; -1: it is refused */
	dev_t dev;
	ino_t ino;
	int64_t born_ns; /* by the host's clock of the day */
	char *why;       /* a sentence, of one that is refused; else NULL */
	bool known;      /* as before; no descriptor */
	bool odd;        /* it will be refused */
};

/* A socket that its owner holds. */
struct glance_known {
	char *file;
	dev_t dev;
	ino_t ino;
};

struct glance_wanted {
	const char *path; /* as globpath.h has it */
	uid_t owner;      /* as beneath.h has it */
	uint32_t limit;
	int inotify; /* -1: nothing is watched; duplicated */
	/* Sorted by file; taken over, with the names, whatever becomes of the look. */
	struct glance_known *known;
	size_t nknown;
};

/* That of a folder, and the level whose names count in it. */
struct glance_watch {
	int wd;
	unsigned level;
};

struct glance {
	struct errand errand; /* first */
	struct globpath glob;
	uid_t owner;
	uint32_t limit;
	int inotify;
	struct glance_known *known;
	size_t nknown;

	/* Found; sorted by name. Who takes a descriptor sets -1, a text NULL. */
	struct glance_one *all;
	size_t n;
	size_t more;                  /* sockets beyond the limit */
	struct glance_watch *watches; /* of what was looked into, sorted; who takes it sets NULL */
	size_t nwatches;
	int above;                  /* the watch above the first; -1: there is none */
	char awaited[NAME_MAX + 1]; /* the name that counts in `above` */
	char why[GLANCE_WHY_MAX];   /* "": the folder was looked through */
	bool missing;               /* the first folder, which is no fault */

	struct glance_search *search; /* under way */
};

/* By their number, for qsort() and bsearch(). */
int glance_watch_order(const void *a, const void *b);

/* Starts. Its result says nothing beside what it found. -errno. */
__attribute__((warn_unused_result)) int glance_start(struct glance **ret_glance,
	const struct glance_wanted *wanted, const struct errand_owner *owner,
	struct job_line *line);

#endif
