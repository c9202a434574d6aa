/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_DOOR_H
#define BROKER_NET_DOOR_H

/*
 * Handshakes in progress at one plane: its slots. A uid has a quarter of them at most, all uids
 * that the policy does not name an eighth together; and a handshake whose client is silent gives
 * its slot up for somebody who has something to say.
 */

#include "broker/net/state.h"

enum door_slot { DOOR_HANDSHAKES, DOOR_STRANGERS };

struct door {
	enum net_door kind;
	struct account account; /* by enum door_slot */
	uint32_t uid_part;      /* of the slots, for one uid */
	struct conn *conns;     /* oldest first */
};

void door_init(struct door *door, enum net_door kind, const char *name);
void door_deinit(struct door *door);
/* So many handshakes at once. */
void door_set_slots(struct door *door, uint32_t slots);

/* Whether there is a slot for one more of the uid's. */
bool door_has_slot(const struct door *door, const struct caller *caller);
/* Frees one for the uid, if there is a silent handshake that has to go before it. */
bool door_make_slot(struct door *door, const struct caller *caller);

/* A handshake begins, and ends. */
void door_enter(struct door *door, struct conn *conn);
void door_leave(struct conn *conn);

#endif
