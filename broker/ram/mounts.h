/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_MOUNTS_H
#define BROKER_RAM_MOUNTS_H

/*
 * Which file systems guest RAM may be on, asked before the file system itself is: each access
 * to a file on FUSE, NFS and their like takes as long as somebody else likes, and holders and
 * the write plane access RAM by mapping. So RAM is on memory or a local disk, and what is
 * about a file system is read from the kernel's table of mounts, anew whenever one has come or
 * gone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOUNTS_TYPE_MAX 64

/* Whether a file system of that type, as in /proc/filesystems, may have guest RAM. */
bool mounts_type_is_local(const char *type);

/* The type of the mount with that id (statx(2), stx_mnt_id) of our own namespace. The caller has
 * something of the mount open, so that the id stays its. Keeps the table, and a descriptor of it.
 * Any thread. 0; -ENOENT when there is none; -errno. */
__attribute__((warn_unused_result)) int mounts_type_of_id(
	uint64_t id, char ret_type[static MOUNTS_TYPE_MAX]);

/* Whether the file system with that device number, as /proc/PID/maps has it, is a local one:
 * the kernel's own for memfds and shared memory; mounted where we are; or mounted in the
 * namespace that `mountinfo` (an open descriptor of /proc/PID/mountinfo, or -1) tells of. Of
 * the latter only those count that nobody can stack upon another. `ret_type` gets what it is,
 * "unknown" for none of these. */
bool mounts_device_is_local(dev_t device, int mountinfo, char ret_type[static MOUNTS_TYPE_MAX]);

#endif
