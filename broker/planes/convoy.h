/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_CONVOY_H
#define BROKER_PLANES_CONVOY_H

/*
 * The fleet that this host is in, for whoever asks at the read or the admin plane: who has which
 * guest. Credentials of etcd are the broker's alone, and the policy of the host that is asked
 * decides what is told:
 *
 * - A guest with an endpoint here is seen by whoever sees the endpoint and by nobody else, whatever
 *   the guest is called elsewhere.
 * - One without is seen by administrators and monitors if their `endpoints` match the name that it
 *   has on its host. Sensors and operators see it if `fleet` does, and so not at all unless that is
 *   given: names of other hosts mean what those hosts mean by them.
 * - Of leases on other hosts administrators hear, and operators for guests that they see, but not
 *   whose they are unless they are of their own tenant.
 * - Of tokens administrators and monitors hear; of etcd, and of what is wrong, those of them that
 *   see all endpoints.
 *
 *   convoy.c       questions, and whose time and memory they are
 *   convoy_view.c  what one may see of the answer
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/net/conn.h"
#include "broker/planes/services.h"
#include "broker/policy/account.h"

struct atlas;
struct convoy_asked;

/* One client's questions; embedded in what its plane keeps for it. */
struct convoy {
	struct conn *conn;
	const struct services *services;
	struct account account;
	struct convoy_asked *asked;
};

void convoy_begin(struct convoy *convoy, struct conn *conn);
/* Of FleetQuery. What it returns closes the connection. */
__attribute__((warn_unused_result)) int convoy_query(
	struct convoy *convoy, uint64_t request_id, bool whole);
/* Answers one that can be answered, in the client's turn (plane_ops.writable). As above. */
__attribute__((warn_unused_result)) int convoy_answer(struct convoy *convoy);
/* The connection ends. */
void convoy_end(struct convoy *convoy);

/* Sends what the client may see. `whole`: that was asked for; `atlas`: NULL, it is not known. As
 * dialect_send(). */
__attribute__((warn_unused_result)) int convoy_view_send(
	const struct convoy *convoy, uint64_t request_id, bool whole, const struct atlas *atlas);

#endif
