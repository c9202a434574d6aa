/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PLANE_H
#define BROKER_NET_PLANE_H

/*
 * What a plane is to net/: a name, a door, who may come in, and what happens then. The ground of
 * everything here: net/ knows planes by this alone, and calls into planes/ through it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLANE_SMALL_FRAME (16u << 10) /* bytes: of a plane whose requests hold a name or two */

struct conn;
struct dialect; /* of a plane's messages: planes/dialect.h */

/* Each plane has a door of its own, with so many handshakes at once: who throngs at one of
 * them is in nobody's way at the others. */
enum net_door { NET_DOOR_CTX, NET_DOOR_WRITE, NET_DOOR_ADMIN, NET_DOORS };

struct plane_ops {
	const char *name;
	const struct dialect *dialect;
	enum net_door door;
	unsigned roles;     /* mask of enum identity_role, checked inside the handshake */
	bool takes_fds;     /* its messages may have memfds beside them */
	uint32_t frame_max; /* bytes of a client's frame; 0: as configured, which binds anyway */
	/* The peer is known. *ret_state is the plane's own. Non-zero closes. */
	int (*open)(struct conn *conn, void **ret_state);
	/* One whole frame, borrowed. Non-zero closes with that error. */
	int (*frame)(struct conn *conn, void *state, const uint8_t *data, size_t len);
	/* There is room in the send queue: does a piece of what is to be told. Non-zero closes.
	 * NULL: the plane only answers. */
	int (*writable)(struct conn *conn, void *state);
	/* The policy was replaced; conn_tenant() is the new one. NULL: nothing follows from that.
	 */
	void (*policy)(struct conn *conn, void *state);
	void (*close)(struct conn *conn, void *state);
	/* The last words before the connection is closed: an error message of this plane. The
	 * peer has proven its certificate, but may not be admitted; there is no state. */
	void (*farewell)(struct conn *conn, int error, const char *detail);
};

#endif
