/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_SOCKETS_H
#define BROKER_ADAPTERS_QEMU_SOCKETS_H

/*
 * The QMP sockets that a path with globs means, and what their QEMUs are called. The folders in
 * which they may be are watched, whether they are there already or not, and looked through at each
 * event, some together, and now and then without one. While the first of them cannot be looked
 * through, what was there stays.
 *
 *   globpath   which sockets are meant
 *   census     sockets, and what their QEMUs say
 *   glance     one look for them, a job
 *   vigil      inotify: when to look again
 *   interview  asks the QEMU at one socket
 *   disposal   closes what takes long to close
 *
 * A socket is an inode, held by descriptor as long as it is listed, so that what lies under its
 * name later is another one: that QEMU is asked, and the one before is gone. Who does not answer is
 * asked again, later each time. One whose endpoint has lost it is asked again too, so that the
 * file that a QEMU has left behind is listed no more.
 *
 * What a QEMU calls itself is its word alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/config/config.h"

struct jobs;
struct shares;
struct sockets;

struct sockets_found {
	const char *path;
	const char *file; /* below the globpath's folder */
	dev_t dev;
	ino_t ino;
	int64_t born_ns;         /* of the socket, by the host's clock of the day */
	const char *name, *uuid; /* what QEMU says, "": nothing */
};

struct sockets_list {
	const struct sockets_found *all; /* sorted by file */
	size_t n;
	size_t more; /* that matched and were beyond the limit */
};

struct sockets_env {
	uv_loop_t *loop;
	struct jobs *jobs;
	struct shares *shares;
	const struct config_discover *config; /* outlives it */
	/* A new list, from the loop; borrowed. */
	void (*listed)(void *arg, const struct sockets_list *list);
	/* Whether a socket is somebody else's: a configured endpoint's, or the broker's own. */
	bool (*is_taken)(void *arg, const char *path);
	/* Whether nothing that was listed of this socket is in contact with its QEMU. */
	bool (*is_lost)(void *arg, const struct sockets_found *found);
	void *arg;
};

/* -errno. */
__attribute__((warn_unused_result)) int sockets_watch(
	struct sockets **ret_sockets, const struct sockets_env *env);
/* What is taken may have changed. */
void sockets_look(struct sockets *sockets);
/* Nothing is called any more. Never waits. Accepts NULL, returns NULL. */
struct sockets *sockets_forget(struct sockets *sockets);

/* What a file can be called that was found; "": nothing. */
void sockets_name(const struct sockets *sockets, const char *file, char *name, size_t size);

/* A socket that is not listed. */
struct sockets_trouble {
	const char *file;
	const char *why; /* a sentence */
};
/* The next one; `*cursor` starts as 0. */
bool sockets_next_trouble(
	const struct sockets *sockets, size_t *cursor, struct sockets_trouble *ret_trouble);

#endif
