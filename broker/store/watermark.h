/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_WATERMARK_H
#define BROKER_STORE_WATERMARK_H

/*
 * How far the broker had come, noted in place in a small file beside the database: a database
 * that is behind its watermark was restored from a backup, or has lost its newest commits, or
 * could not follow. The bytes exist from the first note on, so noting needs no room on the
 * disk; it is one pwrite, not synced, which a crash of the broker survives.
 *
 * There are two of them: the lock file of the state directory, and one in the folder of the
 * broker's sockets, which no restored state directory turns back and which lives as long as
 * the boot. Both are locked for life.
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

#define WATERMARK_HASH 32

struct watermark {
	uint32_t epoch; /* the highest of any endpoint; 0: none */
	uint64_t total; /* sum of all endpoints' epochs, which every new epoch makes larger */
	uint64_t audit; /* id of the newest committed audit record; 0: none */
	uint8_t audit_hash[WATERMARK_HASH];
	bool behind; /* the database did not follow, or what is noted here is damaged */
};

struct watermark_file {
	int fd; /* -1: there is none */
	/* Which file it is: a copy of a state directory has another one. */
	uint64_t identity;
};

/* Opens or makes the file (0600) and locks it. One that is another's than the broker's or the
 * folder's owner's, or that others can write, was planted: it is removed, and a new one made.
 * VMSIG_ERR_BUSY: another process has it; -errno: it cannot be made. */
__attribute__((warn_unused_result)) int watermark_open(
	struct watermark_file *file, const char *path);
/* All zero in a new file. What was noted in another file, or is damaged, is `behind`. */
void watermark_read(const struct watermark_file *file, struct watermark *ret_mark);
/* -EIO. */
__attribute__((warn_unused_result)) int watermark_write(
	const struct watermark_file *file, const struct watermark *mark);
void watermark_close(struct watermark_file *file);

/* The larger of both in each respect. */
void watermark_merge(struct watermark *mark, const struct watermark *other);

#endif
