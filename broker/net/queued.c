/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients have not read, in bytes: of all connections together, and of each tenant. A
 * queue has its own bound, but many connections have many queues: beyond limits.send_queues,
 * of which a tenant has a quarter at most, the heaviest connection of the heaviest tenant is
 * closed.
 */
#include "broker/net/state.h"

#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define TENANT_PART 4u

static uint64_t tenant_max(const struct net *net)
{
	return net->config->tx_all / TENANT_PART;
}

static void set_queued(struct conn *conn, size_t queued)
{
	struct net *net = conn->net;

	net->queued = net->queued - conn->queued + queued;
	if (conn->charge)
		conn->charge->queued = conn->charge->queued - conn->queued + queued;
	conn->queued = queued;
	net->is_overfull |= net->queued > net->config->tx_all ||
			    (conn->charge && conn->charge->queued > tenant_max(net));
}

void queued_note(struct conn *conn)
{
	if (conn->state != CONN_CLOSING)
		set_queued(conn, chan_output_bytes(conn->chan));
}

void queued_enter(struct conn *conn)
{
	conn->charge->queued += conn->queued;
}

void queued_leave(struct conn *conn)
{
	set_queued(conn, 0);
}

static struct purse *heaviest_charge(const struct net *net)
{
	struct purse *heaviest = &net->charges[0];

	for (size_t i = 1; i < net->config->ntenants; i++) {
		if (net->charges[i].queued > heaviest->queued)
			heaviest = &net->charges[i];
	}
	return heaviest;
}

static struct conn *heaviest_conn(const struct net *net, const struct purse *charge)
{
	struct conn *conn, *heaviest = NULL;

	for (conn = net->conns; conn; conn = conn_next(conn)) {
		if (conn->charge == charge && (!heaviest || conn->queued > heaviest->queued))
			heaviest = conn;
	}
	return heaviest && heaviest->queued ? heaviest : NULL;
}

void queued_shed(struct net *net)
{
	while (net->is_overfull) {
		const struct purse *charge = heaviest_charge(net);
		struct conn *conn = NULL;

		if (net->queued > net->config->tx_all || charge->queued > tenant_max(net))
			conn = heaviest_conn(net, charge);
		net->is_overfull = conn != NULL;
		if (conn)
			conn_close(conn, VMSIG_ERR_QUOTA,
				"the tenant's clients do not read what they asked for, and this "
				"one has most of it queued (limits.send_queues)");
	}
}
