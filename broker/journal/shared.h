/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_JOURNAL_SHARED_H
#define BROKER_JOURNAL_SHARED_H

/*
 * Memory that outlives the broker, but not the boot: a file of a fixed size on a tmpfs, mapped
 * shared, so that a store to it costs no system call and waits for no disk, and is there for
 * the next broker after a crash of this one.
 *
 * The tmpfs is that of the broker's sockets, if nobody else can write there, or else /dev/shm.
 * Where the file is, and of which boot, is noted in the state directory (`NAME.where`); the file in
 * turn names the note's inode, so that a copy of a state directory never takes the original's
 * memory for its own. The pages are allocated when the file is made: no store to it needs room
 * later.
 *
 * The file is locked for as long as it is mapped. Returns: 0, a positive enum vmsig_error, or
 * -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_PAGE 4096u
#define SHARED_BOOT_ID_MAX 64u
#define SHARED_PATH_MAX 512u

enum shared_found {
	SHARED_NONE,    /* never was one, or it was let go in order */
	SHARED_FOUND,   /* as the one before left it */
	SHARED_MISSING, /* this boot had one, which is gone or is not what the note says */
	SHARED_BOOTED,  /* it was another boot's, and not let go */
};

struct shared {
	uint8_t *data; /* page-aligned; all 0 unless FOUND */
	size_t size;
	int fd;
	enum shared_found found;
	/* private */
	uint8_t *map;
	size_t map_size;
	char path[SHARED_PATH_MAX], note[SHARED_PATH_MAX];
};

/* What the kernel calls this boot. -errno. */
__attribute__((warn_unused_result)) int shared_boot_id(char ret_boot_id[static SHARED_BOOT_ID_MAX]);

/* Finds or makes the file `name` of `size` bytes, a multiple of the page's size; one that is found
 * may have another, which is for the caller to judge. `ring`: all behind the first page is mapped
 * once more behind itself, so that what wraps there is in one piece. `run_dir` may be NULL.
 * `error` gets a sentence. VMSIG_ERR_BUSY: the file is in use. */
__attribute__((warn_unused_result)) int shared_open(struct shared *ret_shared,
	const char *state_dir, const char *run_dir, const char *name, size_t size, bool ring,
	char *error, size_t error_size);
/* Unmaps it; the next broker finds it as it is. */
void shared_close(struct shared *shared);
/* Unmaps and removes it: there is nothing in it any more. */
void shared_drop(struct shared *shared);

#endif
