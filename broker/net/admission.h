/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_ADMISSION_H
#define BROKER_NET_ADMISSION_H

/*
 * Who gets in: a connection is made for somebody who was let in from the lobby, shakes hands, and
 * is admitted by identity and policy; and who may stay when the policy changes.
 */

#include "broker/net/state.h"

struct door;

struct arrival {
	int fd;
	struct ucred cred;
	struct caller *caller; /* whom the entry is charged to, among others */
	const struct plane_ops *plane;
	struct door *door;
};

/* Starts the handshake. Takes the descriptor and the entry over, in any case. */
void admission_start(struct conns *conns, const struct arrival *arrival, struct conn_entry *entry);
/* The policy of conns->config is new: who is not allowed any more is closed at once, and the
 * others' certificates are checked before anything else passes. */
void admission_reload(struct conn *conn);

#endif
