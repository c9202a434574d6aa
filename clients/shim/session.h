/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_SESSION_H
#define CLIENTS_SHIM_SESSION_H

/*
 * Both connections to the broker, the process's signals, and the one place that waits.
 */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

struct shim;

/* Who takes what comes over the connections, but for their ups and downs. */
struct shim_session_ops {
	void (*delivery)(struct shim *shim, vmsig_delivery *delivery); /* takes it over */
	void (*event)(struct shim *shim, const vmsig_writer_event *event);
};

/* A connection. */
struct shim_plane {
	const char *name;
	bool up;
	int error; /* why it is not, negated; 0 when that is not known yet */
	char why[VMSIG_DETAIL_MAX + 1];
};

struct shim_session {
	const struct shim_session_ops *ops;
	vmsig *ctx;
	vmsig_writer *writer;
	struct shim_plane read, write;
	int fd; /* signalfd(2), or -1 */
	sigset_t signals;
	int ends;         /* the signal that ends the process, or 0 */
	bool interrupted; /* SIGINT; whoever reacts clears it */
	bool resized;     /* SIGWINCH, likewise */
	bool suspended;   /* SIGTSTP, likewise */
};

/* Connects both and subscribes to the endpoint. Also without a broker before it is there only
 * in that the first failure is an error here; later on lost connections are made anew. */
int shim_session_open(struct shim *shim, const struct shim_session_ops *ops);
/* Ends both; what was written and has no outcome is told as unknown to the journal. */
void shim_session_close(struct shim *shim);

/* Waits until something has happened, `fd` (or -1) can be read, or CLOCK_MONOTONIC is at `until`
 * (nanoseconds, or MOMENT_NEVER of moment.h), and deals with all of it. Whether `fd` can be read.
 */
bool shim_session_step(struct shim *shim, int fd, int64_t until);
/* Whether what is waited for should not be waited for any more. */
bool shim_session_is_stopped(const struct shim_session *session);
/* Then: says so as the command's failure. */
int shim_session_stop(struct shim *shim);

#endif
