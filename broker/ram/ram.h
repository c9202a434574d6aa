/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_RAM_H
#define BROKER_RAM_RAM_H

/*
 * One of a guest's RAM files as the broker holds it: a read-only descriptor under the strongest
 * guard that the file allows, from which fresh descriptors for holders are made.
 *
 *   ram       the file, guarded, and fresh descriptors of it
 *   beneath   opening what a name means to the administrator
 *   mapper    opening what QEMU maps
 *   mounts    file systems that RAM may be on
 *   romount   read-only clones of mounts
 *   attack    tries to write through a descriptor
 *   selftest  all of that, on the running kernel
 *   claims    which endpoint has which file
 *   ramset    all files of a guest
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmsig/vmsig_event.h"

struct ram;
struct mapper;
struct mapping_wanted;

/* What the configuration names, opened as beneath.h says; `owner` as there. `error` gets a
 * sentence. 0, -errno, VMSIG_ERR_BAD_REQUEST (refused; not a regular file; empty). Waits for
 * the file system: for jobs. */
__attribute__((warn_unused_result)) int ram_open_path(
	struct ram **ret_ram, const char *path, uid_t owner, char *error, size_t error_size);
/* What a process maps: the inode, whatever its name is by now. The process is borrowed for as
 * long as the RAM is open. 0, -errno, VMSIG_ERR_BAD_REQUEST, VMSIG_ERR_UNSUPPORTED (not proven to
 * be its RAM). For jobs. */
__attribute__((warn_unused_result)) int ram_open_mapped(struct ram **ret_ram,
	const struct mapper *mapper, const struct mapping_wanted *wanted, char *error,
	size_t error_size);
/* What a descriptor is of that somebody of uid `giver` has handed over, and which stays the
 * caller's: a file in memory (memfd, tmpfs, hugetlbfs) that is open for reading. It proves what its
 * giver may do with the file: unless it is O_RDWR there is no write path (-EACCES). `name` is for
 * the sentence. 0, -errno, VMSIG_ERR_BAD_REQUEST: it is none, or empty. For jobs. */
__attribute__((warn_unused_result)) int ram_open_given(struct ram **ret_ram, int fd,
	const char *name, uid_t giver, char *error, size_t error_size);
/*
 * In each case: the descriptor that was proven is the one that is used, the guard is never
 * assumed (what was opened is attacked, attack.h), and the mode is narrowed last, to the
 * owner's bits, and only of a file that was proven: one that the administrator named, one of
 * the uid that the process or the giver has, or a process's one without a name.
 */
/* Closes. Accepts NULL, returns NULL. */
struct ram *ram_free(struct ram *ram);

/* Whether it was given by somebody who may only read it and is not its owner. */
bool ram_is_borrowed(const struct ram *ram);
/* A fresh O_RDONLY, CLOEXEC open file description (R2); the caller closes. -errno. */
__attribute__((warn_unused_result)) int ram_share(const struct ram *ram);
/* A fresh O_RDWR one for the write plane, which never leaves the broker. -errno. */
__attribute__((warn_unused_result)) int ram_open_writable(const struct ram *ram);

/* The broker's own read-only descriptor; borrowed. */
int ram_fd(const struct ram *ram);
uint64_t ram_size(const struct ram *ram); /* bytes when it was opened */
enum vmsig_guard ram_guard(const struct ram *ram);
uid_t ram_owner(const struct ram *ram); /* GUARD_MODE does not hold against this uid */
dev_t ram_device(const struct ram *ram);
ino_t ram_inode(const struct ram *ram);
bool ram_is_sparse(const struct ram *ram);     /* may have holes (tmpfs, memfd, disk file) */
uint64_t ram_page_size(const struct ram *ram); /* bytes of the pages that map it */

/* Whether the file is still what it was: the path names it, or the process maps it. For
 * jobs. */
enum ram_change {
	RAM_SAME = 0,
	RAM_SHRUNK,
	RAM_REPLACED, /* the path names another file, or what may not be opened */
	RAM_MISSING,  /* there is none of that name */
	RAM_UNMAPPED, /* the process maps it no more */
};
enum ram_change ram_check(const struct ram *ram);

/* Tries the read-only mount technique on the running kernel with a file of our own in `dir`,
 * attacks it, and says which guard files of that directory will get; `report` gets a sentence
 * for the log. 0, -errno, VMSIG_ERR_BAD_REQUEST. For jobs. */
__attribute__((warn_unused_result)) int ram_selftest(
	const char *dir, enum vmsig_guard *ret_guard, char *report, size_t report_size);

#endif
