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

#include "broker/adapters/errand.h"
#include "broker/config/config.h"

#define PLACE_WHY_MAX 512

struct place_job {
	struct errand errand; /* first */
	char *path;
	uid_t owner;
	dev_t dev; /* of the one that was discovered; */
	ino_t ino; /* 0: any */

	int fd;                  /* O_PATH, of a socket; who takes it sets -1 */
	char why[PLACE_WHY_MAX]; /* a sentence unless the result is 0 */
};

/* Starts; what it finds has the result 0, VMSIG_ERR_BAD_REQUEST or -errno. The socket has to be the
 * one that was discovered, where the endpoint was. -ENOMEM. */
__attribute__((warn_unused_result)) int place_start(struct place_job **ret_job,
	const struct config_endpoint *config, const struct errand_owner *waiter,
	struct job_line *line);

#endif
