/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_RAM_MAPPER_H
#define BROKER_RAM_MAPPER_H

/*
 * The process at the other end of a socket, QEMU, and what it maps. What it maps shared and
 * writable is the evidence that a file is its RAM: no process can do that with a file that
 * it may not open for writing.
 *
 * It is that process for good: a folder of procfs that was opened once never shows a later
 * process with the same pid, and whether it was the right one is settled by a pidfd.
 * Functions that look into the process may wait for it, so they are for jobs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAPPING_NAME_MAX 256

struct mapper;

/* The peer as of listen(2) (SO_PEERCRED). 0, VMSIG_ERR_UNSUPPORTED, -errno; `error` gets a
 * sentence that says what to configure. */
__attribute__((warn_unused_result)) int mapper_of_peer(
	struct mapper **ret_mapper, int socket, char *error, size_t error_size);
/* As if it had been a peer: by the word of somebody who knows. */
__attribute__((warn_unused_result)) int mapper_of_pid(
	struct mapper **ret_mapper, pid_t pid, char *error, size_t error_size);
/* Counted; of one thread. Accepts NULL, returns NULL. */
struct mapper *mapper_ref(struct mapper *mapper);
struct mapper *mapper_unref(struct mapper *mapper);

pid_t mapper_pid(const struct mapper *mapper);
/* The uid that it has now, -1 when that cannot be told: QEMU may have dropped root. */
uid_t mapper_uid(const struct mapper *mapper);

/* Consecutive parts of a file that are mapped shared and writable, one after the other. */
struct mapping {
	uint64_t start, end; /* in the process */
	uint64_t offset;     /* in the file, of `start` */
	uint64_t part_end;   /* of its first part: what /proc/PID/map_files knows */
	dev_t device;        /* of the superblock, which st_dev is not on some file systems */
	ino_t inode;
	char name[MAPPING_NAME_MAX]; /* for people, and to choose between equals */
};

/* What to look for. */
struct mapping_wanted {
	uint64_t hva;          /* an address in it, 0: not known; then it is told by size */
	uint64_t hva_offset;   /* what is there in the file */
	uint64_t offset, size; /* of the file: all of this must be mapped */
	const char *hint;      /* decides between several of that size; a path or part of it */
};

/* 0; VMSIG_ERR_UNSUPPORTED: none, or it cannot be told which; -errno. */
__attribute__((warn_unused_result)) int mapper_find(const struct mapper *mapper,
	const struct mapping_wanted *wanted, struct mapping *ret_mapping, char *error,
	size_t error_size);

/* Opens what is mapped there, O_PATH: proven by the descriptor itself, whatever is mapped
 * there meanwhile. A descriptor, VMSIG_ERR_UNSUPPORTED, -errno. */
__attribute__((warn_unused_result)) int mapper_open(int *ret_fd, const struct mapper *mapper,
	const struct mapping *mapping, char *error, size_t error_size);

/* Whether it (still) maps that file shared and writable. An answer that cannot be had while
 * the process lives counts as yes. */
bool mapper_maps(const struct mapper *mapper, dev_t device, ino_t inode);

#endif
