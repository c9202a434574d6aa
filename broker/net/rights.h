/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_RIGHTS_H
#define BROKER_NET_RIGHTS_H

/*
 * Descriptors that clients send: who may, how they come in, and who closes what is left.
 *
 * The kernel refuses them on every listener, and so on every new connection. Only an admitted
 * operator who may send bulk data gets the right to, and loses it when a reload takes bulk away;
 * and a provider, for its guests' RAM.
 * What it sends is received by the porter, which lets memfds through.
 *
 * Before Linux 6.16 the kernel cannot refuse. Then each read looks first, on every plane: bytes
 * that bring descriptors stay in the socket, and the connection ends unless it is such an
 * operator's. Either way a socket that may hold descriptors is closed by the closer.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "broker/net/porter.h"

struct chan;
struct closer;

/* Of all connections. */
struct rights {
	struct closer *closer; /* borrowed, like the porter */
	struct porter *porter; /* NULL: nobody may send descriptors */
	bool kernel_refuses;   /* them: it knows SO_PASSRIGHTS */
};

/* Has the kernel refuse descriptors to who connects here, if it can. */
void rights_listen(struct rights *rights, int fd);
/* Closes an accepted socket that has no connection, or a listening one. */
void rights_close(struct rights *rights, int fd, uid_t uid);

/* Of one connection; embedded. */
struct right {
	struct rights *rights;
	struct chan *chan;
	uid_t uid;
	bool sends;   /* may send descriptors */
	bool fetches; /* may have sent some when it was allowed to */
	bool holds;   /* they may be in the socket: the loop must not close it */
	struct porter_request request;
	/* The porter has answered: 0: go on reading; else what ends the connection. `foreign`
	 * descriptors were no memfds. */
	void (*fetched)(struct right *right, int error, unsigned foreign);
};

/* The connection is new and has its channel, of a peer with this uid. */
void right_begin(struct right *right, struct rights *rights, struct chan *chan, uid_t uid,
	void (*fetched)(struct right *right, int error, unsigned foreign));
/* It is admitted, or the policy has changed: `wanted` says that it lets the client send bulk
 * data. -errno. */
__attribute__((warn_unused_result)) int right_update(struct right *right, bool wanted);
/* chan_fill() has said VMSIG_ERR_BUSY and all whole frames are taken: has the porter receive
 * what comes next; nothing may be read meanwhile. VMSIG_ERR_PROTOCOL: the client may not send it;
 * *ret_why says so. */
__attribute__((warn_unused_result)) int right_fetch(struct right *right, const char **ret_why);
/* The porter has the socket's reading side. */
bool right_fetching(const struct right *right);
void right_end(struct right *right);

#endif
