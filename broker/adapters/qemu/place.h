/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_PLACE_H
#define BROKER_ADAPTERS_QEMU_PLACE_H

/*
 * Finds the QMP socket that the configuration names, as beneath.h says: a name that somebody
 * has planted must not lead the broker to another guest's socket. What is found is an inode, by
 * descriptor, and whoever connects, connects to that one. A job, because it touches file
 * systems.
 */

#include <sys/types.h>

#include "broker/jobs.h"

#define PLACE_WHY_MAX 512

struct place_job {
	struct job job; /* first */
	char *path;
	uid_t owner;
	void (*done)(struct place_job *job); /* frees it; not called after place_abandon() */
	void (*late)(struct place_job *job); /* likewise; abandons it */
	void *arg;

	int fd;                  /* O_PATH, of a socket; who takes it sets -1 */
	int result;              /* 0, VMSIG_ERR_BAD_REQUEST, -errno */
	char why[PLACE_WHY_MAX]; /* a sentence unless it is 0 */
};

/* To be started with job_start(). -ENOMEM. */
__attribute__((warn_unused_result)) int place_new(
	struct place_job **ret_job, const char *path, uid_t owner);
/* Nobody waits for it any more; it frees itself at its end. Accepts NULL, returns NULL. */
struct place_job *place_abandon(struct place_job *job);
struct place_job *place_free(struct place_job *job);

#endif
