/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_OS_OBJECTS_H
#define TESTS_UNIT_OS_OBJECTS_H

/*
 * A small guest's memory with a kernel's objects in it: two processes, of which one has areas, an
 * open file, a socket and mounts; a module; a log. Members of structs are one after the other in
 * the order of LINUX_FIELD_LIST, which no real kernel has. What is in it may be changed to
 * anything.
 */

#include <stddef.h>
#include <stdint.h>

#include "tests/unit/os/memory.h"
#include "vmsig/vmsig_os.h"

#define OBJECTS_MAP 0xffff888000000000ull /* all memory, as the guest sees it */
#define OBJECTS_SIZE (4u << 20)
/* What is filled; tables of pages are before it. */
#define OBJECTS_FIRST 0x10000u
#define OBJECTS_STEP 0x1000u

/* Objects, a page each. */
enum objects_place {
	OBJECTS_SYMBOLS,
	OBJECTS_INIT, /* init_task */
	OBJECTS_TASK,
	OBJECTS_SIGNAL,
	OBJECTS_CRED,
	OBJECTS_MM,
	OBJECTS_NODE, /* of areas */
	OBJECTS_AREA,
	OBJECTS_FILES,
	OBJECTS_FILE,
	OBJECTS_DENTRY,
	OBJECTS_ROOT, /* the dentry above it */
	OBJECTS_INODE,
	OBJECTS_SB,
	OBJECTS_MOUNT,
	OBJECTS_MOUNTED, /* on it */
	OBJECTS_SPACES,  /* nsproxy, mnt_namespace */
	OBJECTS_SOCKET,
	OBJECTS_SOCK,
	OBJECTS_MODULE,
	OBJECTS_PIDS, /* pid_namespace */
	OBJECTS_LOG,
	OBJECTS_TEXT,
	OBJECTS_PLACES
};

struct objects {
	struct memory memory;
	vmsig_proc process; /* the one that has it all */
	char names[256];
	uint64_t addrs[8];
	uint32_t offsets[8];
};

/* All of it is as it should be. False: no memory. */
bool objects_make(struct objects *objects);
void objects_free(struct objects *objects);

static inline uint64_t objects_at(enum objects_place place)
{
	return OBJECTS_MAP + OBJECTS_FIRST + (uint64_t)place * OBJECTS_STEP;
}

/* Of an address that the guest has. */
uint8_t *objects_bytes(struct objects *objects, uint64_t gva);
void objects_put(struct objects *objects, uint64_t gva, uint64_t word);
/* A member of an object, as large as it is. */
void objects_set(struct objects *objects, uint64_t object, enum linux_field field, uint64_t word);
uint64_t objects_member(const struct objects *objects, uint64_t object, enum linux_field field);

/* Makes all lists that there are and forgets them; bytes of all that they had. */
size_t objects_list_all(struct objects *objects);

#endif
