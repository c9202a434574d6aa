/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_VIGIL_H
#define BROKER_ADAPTERS_QEMU_VIGIL_H

/*
 * inotify on the loop, for folders of sockets and the one above them (glance.h sets the watches):
 * that something happened to a name that matters, and no more; what, is found by looking again.
 * That the kernel has lost events (IN_Q_OVERFLOW) is something that happened, too.
 *
 * Once it has said so it says and reads nothing until it is told to go on: whoever fills the queue
 * costs the loop one piece for each look. Belongs to the loop thread.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/adapters/qemu/glance.h"
#include "broker/jobs.h"

struct vigil {
	uv_poll_t poll;
	int fd;                       /* -1: there is no inotify, or it is closed */
	struct glance_watch *watches; /* sorted by wd */
	size_t n;
	int above;
	char awaited[NAME_MAX + 1];
	const struct globpath *glob; /* which names matter; borrowed */
	uint64_t overflows;
	void (*changed)(void *arg);
	void (*closed)(void *arg);
	void *arg;
	struct job_line *line; /* for `closed` */
};

/* -errno; then `fd` is -1, and vigil_close() need not be called. */
__attribute__((warn_unused_result)) int vigil_open(struct vigil *vigil, uv_loop_t *loop,
	const struct globpath *glob, void (*changed)(void *arg), void *arg);
/* What is watched from now on, with what the look has set; others end, by a job of the line, and so
 * before the next look sets any. Takes over the watches. */
void vigil_set(struct vigil *vigil, struct glance *glance, struct job_line *line);
/* Goes on, because a look begins: what happened before needs no other. */
void vigil_wait(struct vigil *vigil);
/* `closed` is called from the loop, until when the line has to stay: the descriptor is closed by a
 * job of it. */
void vigil_close(struct vigil *vigil, struct job_line *line, void (*closed)(void *arg));

#endif
