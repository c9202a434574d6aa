/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_BACKING_H
#define BROKER_ADAPTERS_QEMU_BACKING_H

/*
 * Guest RAM is the inode that QEMU maps. What QMP says of it, a path, is a name from somebody
 * who is not trusted with other guests' files: relative to a folder of its own, stale after a
 * rename, or a lie. So it is never opened by that name: the mapping is found by its address or
 * its size, proven, and opened through procfs; or the administrator has named the file. A guest
 * with several files has each of them opened so.
 */

#include <stddef.h>
#include <sys/types.h>

#include "broker/adapters/qemu/memmap.h"
#include "broker/ram/mapper.h"
#include "broker/ram/ramset.h"

struct backing {
	const struct mapper *mapper; /* QEMU; NULL with a path */
	const char *path;            /* the administrator's, or NULL */
	uid_t owner;                 /* beneath.h, with a path */
};

/* Opens the RAM that `map` describes, and lays it out. 0; what ram_open_path(), ram_open_mapped()
 * and ramset_new() return; VMSIG_ERR_UNSUPPORTED: it is too small, or has more files than the
 * administrator has named. `error` gets a sentence. For jobs; what `backing` has is borrowed as
 * long as the RAM is open. */
__attribute__((warn_unused_result)) int backing_open(struct ramset **ret_ram,
	struct physmap *ret_physmap, const struct backing *backing, const struct memmap *map,
	char *error, size_t error_size);

#endif
