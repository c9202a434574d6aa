/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_HANDSHAKE_H
#define BROKER_NET_HANDSHAKE_H

/*
 * The first phase of a connection: TLS, by the crew. The signature and the verification cost
 * about 0.7 ms: not on the loop. Nothing watches the socket while the crew has the channel.
 */

#include "broker/net/state.h"

struct door;

/* It is accepted, has its channel, and takes a slot of the door. `established` is called when the
 * handshake is over and good, while the slot is still taken. */
void handshake_begin(struct conn *conn, struct door *door, uint64_t by_ms,
	void (*established)(struct conn *conn));

#endif
