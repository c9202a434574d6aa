/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_BENEATH_H
#define BROKER_RAM_BENEATH_H

/*
 * Opens what the administrator's configuration names, a RAM file or a QMP socket, so that
 * nobody else can decide what the name means.
 *
 * The path is walked component by component, by descriptor. While each folder belongs to root
 * or to the broker's user and nobody else may write to it, its names are the administrator's
 * own: links are followed, owners of files do not matter. The first folder that others may
 * write to (or that is theirs) ends that: from there on no link is followed and no ".." taken,
 * and what the path ends at must belong to the folder's owner or to `owner`, and be there
 * under this name only. In a sticky folder of root's (/dev/shm, /tmp), where others cannot
 * move or replace what is root's or ours, that may be there too.
 *
 * A mount of a file system that may not have RAM (mounts.h) is refused before it is entered,
 * so that nothing here waits for anybody.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#define BENEATH_ANYBODY ((uid_t)-1) /* no owner is configured */

struct beneath {
	int folder;              /* O_PATH */
	int file;                /* O_PATH: what the name means, of whatever type */
	char name[NAME_MAX + 1]; /* in the folder */
};

/* An absolute path. 0; VMSIG_ERR_BAD_REQUEST: it is refused; -errno. `error` gets a sentence.
 * The descriptors are the caller's. */
__attribute__((warn_unused_result)) int beneath_open(
	struct beneath *ret_beneath, const char *path, uid_t owner, char *error, size_t error_size);
void beneath_close(struct beneath *beneath);

/* A folder by the same rules, O_PATH. A descriptor, or as above. */
__attribute__((warn_unused_result)) int beneath_open_folder(
	int *ret_fd, const char *path, char *error, size_t error_size);

/* A folder whose entries are looked at one by one. */
struct beneath_folder {
	int fd;          /* O_PATH */
	struct statx at; /* of it */
	bool foreign;    /* others have a say in its names */
};

/* As beneath_open_folder(). */
__attribute__((warn_unused_result)) int beneath_enter(
	struct beneath_folder *ret_folder, const char *path, char *error, size_t error_size);
/* What the name of `path`, its last component, is in the folder, O_PATH: by the same rules, but
 * that it is never a link. */
__attribute__((warn_unused_result)) int beneath_pick(const struct beneath_folder *folder,
	const char *path, uid_t owner, int *ret_fd, char *error, size_t error_size);

#endif
