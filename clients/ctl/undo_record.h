/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_UNDO_RECORD_H
#define CLIENTS_CTL_UNDO_RECORD_H

/*
 * What a write has replaced, one JSON file for each write in a folder that only its owner can
 * enter: the files have bytes of guests. The newest UNDO_KEPT are kept. A file's name is its
 * moment in nanoseconds, raised where the clock went back: the greatest is the newest.
 *
 * Calls return EXIT_OK, or the exit code after a message.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/common/text.h"
#include "vmsig/vmsig.h"

#define UNDO_KEPT 100u
#define UNDO_NAME_MAX 40 /* with its NUL */

struct undo_record {
	char time[TEXT_TIME_MAX]; /* for people */
	char endpoint[VMSIG_NAME_MAX + 1];
	uint32_t epoch;
	uint64_t addr, cr3; /* cr3 0: the endpoint's kcr3 */
	bool is_virtual, quiesce;
	size_t len;
	unsigned char *old; /* len bytes each */
	unsigned char *written;
	unsigned char *mask; /* or NULL */
};

/* Opens the folder, which is made when it is not there. The caller closes it. */
int undo_folder_open(int *ret_folder);

/* Room on the disk for the record of a write that is yet to be made: a full one is found before
 * anything is written that could not be undone then. */
struct undo_room {
	int folder, fd; /* -1: there is none */
	char name[UNDO_NAME_MAX];
};

#define UNDO_ROOM_NONE ((struct undo_room){.folder = -1, .fd = -1})

/* For `len` bytes. The caller gives it back, whether it was used or not. */
int undo_room_take(struct undo_room *room, size_t len);
void undo_room_give(struct undo_room *room);
/* Stores the record there as the newest one, and drops the oldest beyond UNDO_KEPT. Fills in
 * record->time. */
int undo_record_save(
	struct undo_room *room, struct undo_record *record, char ret_name[static UNDO_NAME_MAX]);

/* The names of the folder's records, oldest first. */
struct undo_names {
	struct dirent **entries;
	size_t count;
};

int undo_names_read(int folder, struct undo_names *ret_names);
void undo_names_clear(struct undo_names *names);

/* A name of the folder, or a path with a slash. */
int undo_record_load(int folder, const char *name, struct undo_record *ret_record);
int undo_record_remove(int folder, const char *name);
void undo_record_clear(struct undo_record *record);

#endif
