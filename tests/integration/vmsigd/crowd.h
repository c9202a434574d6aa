/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_VMSIGD_CROWD_H
#define TESTS_INTEGRATION_VMSIGD_CROWD_H

/*
 * Many QEMUs, as far as a broker sees them that asks who they are: QMP sockets that serve one
 * client at a time, on one thread. Any failure aborts the test.
 */

#include <stdbool.h>
#include <stddef.h>

struct crowd;

enum crowd_manner {
	CROWD_HONEST,
	CROWD_SILENT,  /* says nothing at all */
	CROWD_GARBAGE, /* no QMP */
	CROWD_TALKER,  /* events without end, and no answers */
};

struct crowd *crowd_new(void);
/* Ends all; their files stay. Accepts NULL, returns NULL. */
struct crowd *crowd_free(struct crowd *crowd);

/* A QEMU listens at the path. `name` goes into its answer as it is, quotes and all; NULL: it has
 * none. So does `uuid`; NULL: zeroes, as of one that was given none. */
void crowd_add(struct crowd *crowd, const char *path, const char *name, const char *uuid,
	enum crowd_manner manner);
/* It ends; its file goes first, unless it was killed. */
void crowd_end(struct crowd *crowd, const char *path, bool is_killed);
/* How often somebody was served there. */
unsigned crowd_visits(struct crowd *crowd, const char *path);

#endif
