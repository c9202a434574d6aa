/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_LOBBY_H
#define BROKER_NET_LOBBY_H

/*
 * From accept(2) to the handshake. Every client is accepted at once: who cannot be served is
 * told so by the end of its connection, and nobody waits behind it in the kernel's queue. What
 * shakes hands has a slot of its plane's door.
 *
 * A uid of the policy that has no slot free, or has used up its rate, waits here: that is a
 * descriptor and a few words, no TLS. Of those who wait the first one that has said something
 * is served first, and a handshake whose client is silent gives its slot up for it: the oldest
 * one of the uid that has most, or of the same uid when that has its quarter. Of another uid one
 * that never said anything goes soon; a client that has many handshakes of its own to do at once
 * is slow, and no reason to end them.
 */

#include "broker/net/door.h"

struct lobby {
	struct conns *conns;
	struct door doors[NET_DOORS];
	uint32_t descriptors;  /* that the process may have */
	uint32_t unproven_max; /* connections that have not shaken hands */
	uint64_t look_at_ms;   /* when it may be looked through again */
	bool may_look;         /* it is time to do it again */
	struct pulse_beat beat;
};

void lobby_init(struct lobby *lobby, struct conns *conns);
/* Nobody is left. */
void lobby_deinit(struct lobby *lobby);
/* conns->config is new. */
void lobby_set_policy(struct lobby *lobby);
/* Takes over an accepted, non-blocking socket, in any case. */
void lobby_accept(struct lobby *lobby, const struct plane_ops *plane, int fd);
/* Once per turn of the loop: lets in whom there is room for. */
void lobby_serve(struct lobby *lobby);
/* Drops everybody. */
void lobby_close(struct lobby *lobby);

#endif
