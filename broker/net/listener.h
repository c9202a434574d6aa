/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_LISTENER_H
#define BROKER_NET_LISTENER_H

/*
 * One plane's socket in the file system: accepts everybody into the lobby. Out of descriptors, or
 * with too many waiting to be closed, it pauses and goes on by itself.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/net/plane.h"

struct lobby;

struct listener {
	struct lobby *lobby;
	const struct plane_ops *plane;
	char *path;
	mode_t mode;
	int fd;
	int spare; /* given up for a moment to accept and drop a client when out of descriptors */
	bool paused;
	uv_poll_t poll;
	struct listener *next;
};

/* A socket in the file system: the one that the service manager listens at, or a new one, which
 * nobody can connect to yet. On any thread. `error` names the
 * path and what to do. 0, -errno. */
__attribute__((warn_unused_result)) int listener_bind(
	const struct config_listen *where, int *ret_fd, char *error, size_t error_size);
/* Listens on it; the socket is the listener's on success. 0, -errno. */
__attribute__((warn_unused_result)) int listener_open(struct listener **ret_listener,
	struct lobby *lobby, const struct config_listen *where, const struct plane_ops *plane,
	int fd);
/* The configuration says so now, of the same path. */
void listener_set_mode(struct listener *listener, mode_t mode);
/* Removes the socket file, if it is not the service manager's; the listener is freed from the loop.
 */
void listener_close(struct listener *listener);
/* Accepts again after a pause. Whether it is still paused. */
bool listener_resume(struct listener *listener);

/* The process that listens at `path`; 0: nobody does, or it cannot be told. */
pid_t listener_other(const char *path);
/* Makes the folder of a socket's path, if it is missing. -errno. */
__attribute__((warn_unused_result)) int listener_make_folder(const char *path);

#endif
