/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_RAM_H
#define BROKER_RAM_RAM_H

/*
 * A guest's RAM file as the broker holds it: a read-only descriptor under the strongest
 * guard that the file allows, from which fresh descriptors for holders are made.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmsig/vmsig_event.h"

struct ram;

/* Opens by path: through a dissolved read-only clone of the directory's mount where the
 * kernel and our capabilities allow it, else plainly. A guard is never assumed: what was
 * opened is attacked (attack.h), and RO_MOUNT is only what withstood. `error` gets a sentence.
 * 0, -errno, VMSIG_ERR_BAD_REQUEST (not a regular file, empty). Blocks on the file system:
 * RAM lives on tmpfs or hugetlbfs. */
__attribute__((warn_unused_result)) int ram_open_path(
	struct ram **ret_ram, const char *path, char *error, size_t error_size);
/* From a descriptor of another process, /proc/<pid>/fd/<n>: a memfd or an unlinked file. The
 * guard is SEALED when the seals say so, RO_MOUNT is impossible, else MODE after the file's
 * mode was narrowed to 0400/0600 when we may, else NONE. */
__attribute__((warn_unused_result)) int ram_open_proc_fd(
	struct ram **ret_ram, pid_t pid, int fd, char *error, size_t error_size);
/* Closes. Accepts NULL, returns NULL. */
struct ram *ram_free(struct ram *ram);

/* A fresh O_RDONLY, CLOEXEC open file description (R2); the caller closes. -errno. */
__attribute__((warn_unused_result)) int ram_share(const struct ram *ram);
/* A fresh O_RDWR one for the write plane, which never leaves the broker. -errno. */
__attribute__((warn_unused_result)) int ram_open_writable(const struct ram *ram);

/* The broker's own read-only descriptor; borrowed. */
int ram_fd(const struct ram *ram);
uint64_t ram_size(const struct ram *ram); /* bytes when it was opened */
enum vmsig_guard ram_guard(const struct ram *ram);
uid_t ram_owner(const struct ram *ram);    /* GUARD_MODE does not hold against this uid */
bool ram_is_sparse(const struct ram *ram); /* may have holes (tmpfs, memfd, disk file) */

/* Whether the file is still what it was: RAM_SAME, RAM_SHRUNK, RAM_REPLACED (the path names
 * another file now), RAM_MISSING. Cheap: two stat calls. */
enum ram_change { RAM_SAME = 0, RAM_SHRUNK, RAM_REPLACED, RAM_MISSING };
enum ram_change ram_check(const struct ram *ram);

/* pread(2) of exactly `len` bytes at `off` of the file; never allocates holes, never faults.
 * 0, VMSIG_ERR_OUT_OF_RANGE (beyond the end, also after a shrink), VMSIG_ERR_IO. */
__attribute__((warn_unused_result)) int ram_read(
	const struct ram *ram, uint64_t off, void *buf, size_t len);

/* The same by guest-physical address, across segments that touch. */
struct physmap;
__attribute__((warn_unused_result)) int ram_read_gpa(
	const struct ram *ram, const struct physmap *map, uint64_t gpa, void *buf, size_t len);

/* Tries the read-only mount technique on the running kernel with a file of our own in `dir`,
 * attacks it, and says which guard files of that directory will get. Done once per
 * directory at start; `report` gets a sentence for the log. 0 or -errno. */
__attribute__((warn_unused_result)) int ram_selftest(
	const char *dir, enum vmsig_guard *ret_guard, char *report, size_t report_size);

#endif
