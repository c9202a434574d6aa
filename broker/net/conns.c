/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/conns.h"

#include <assert.h>
#include <errno.h>

#include "vmsig/vmsig_error.h"

static bool on_beat(struct pulse_beat *beat, uint64_t now_ms)
{
	struct conns *conns = (struct conns *)((char *)beat - offsetof(struct conns, beat));
	struct conn *conn, *next;
	bool expecting = false;

	DL_FOREACH_SAFE (conns->list, conn, next)
		expecting |= conn_tick(conn, now_ms);
	return callers_tick(&conns->callers, conns->config, pulse_now_ns(conns->pulse)) ||
	       expecting;
}

static const struct account_kind all_kind = {.owner = "broker",
	.is_shared = true,
	.slots = {[CONNS_ALL] = {"connections", "limits.connections",
			  "try again later, or have it raised"},
		[CONNS_UNPROVEN] = {"connections that have not shaken hands",
			"limits.connections and RLIMIT_NOFILE, a half",
			"try again later, or have them raised"},
		[CONNS_UNREAD] = {"bytes that were not read", "limits.send_queues",
			"read what was asked for"}}};

int conns_init(struct conns *conns)
{
	uint64_t now_ns = pulse_now_ns(conns->pulse);
	int r = patrons_init(&conns->patrons, conns->config, now_ns);

	conns->expires_s = INT64_MAX;
	if (!r)
		r = callers_init(&conns->callers, conns->config, now_ns);
	if (r) {
		patrons_deinit(&conns->patrons);
		return r;
	}
	account_init(&conns->account, &all_kind, "");
	account_set_limit(&conns->account, CONNS_UNREAD, conns->config->tx_all);
	pulse_add(conns->pulse, &conns->beat, on_beat);
	return 0;
}

void conns_deinit(struct conns *conns)
{
	assert(!conns->list && !conns->dirty);
	account_deinit(&conns->account);
	patrons_deinit(&conns->patrons);
	callers_deinit(&conns->callers);
	tls_set_deinit(&conns->tls);
}

int conns_set_policy(struct conns *conns, const struct config *config)
{
	struct patrons patrons = {0};
	struct conn *conn;
	int r = patrons_init(&patrons, config, pulse_now_ns(conns->pulse));

	if (!r)
		r = callers_set_policy(&conns->callers, config);
	if (r) {
		patrons_deinit(&patrons);
		return r;
	}
	DL_FOREACH (conns->list, conn) {
		conn_unpay(conn);
		conn->stale = true;
	}
	patrons_deinit(&conns->patrons);
	conns->patrons = patrons;
	conns->config = config;
	account_set_limit(&conns->account, CONNS_UNREAD, config->tx_all);
	return 0;
}

/* ---- certificates that end ---- */

void conns_note_expiry(struct conns *conns, struct conn *conn)
{
	conn->expires_s = chan_peer_until(conn->chan);
	if (conn->expires_s < conns->expires_s)
		conns->expires_s = conn->expires_s;
}

void conns_expire(struct conns *conns, int64_t now_s)
{
	struct conn *conn;
	int64_t next_s = INT64_MAX;

	/* A certificate is good up to its last second, included. */
	if (now_s <= conns->expires_s)
		return;
	DL_FOREACH (conns->list, conn) {
		if (!conn->plane_open)
			continue;
		if (now_s > conn->expires_s) {
			/* It is verified when its share's turn comes, and that says why it ends. */
			conn->expires_s = INT64_MAX;
			conn->stale = true;
			conn_want_read(conn);
		} else if (conn->expires_s < next_s) {
			next_s = conn->expires_s;
		}
	}
	conns->expires_s = next_s;
}

/* ---- what is not read ---- */

static uint64_t unread_of(const struct patron *patron)
{
	return account_used(&patron->account, PATRON_UNREAD);
}

static const struct patron *heaviest_patron(const struct patrons *patrons)
{
	const struct patron *heaviest = &patrons->list[0];

	for (size_t i = 1; i < patrons->n; i++) {
		if (unread_of(&patrons->list[i]) > unread_of(heaviest))
			heaviest = &patrons->list[i];
	}
	return heaviest;
}

static struct conn *heaviest_conn(const struct conns *conns, const struct patron *patron)
{
	struct conn *conn, *heaviest = NULL;

	DL_FOREACH (conns->list, conn) {
		if (conn->unread_of_tenant.account == &patron->account &&
			(!heaviest || conn->unread.amount > heaviest->unread.amount))
			heaviest = conn;
	}
	return heaviest && heaviest->unread.amount ? heaviest : NULL;
}

static void shed(struct conns *conns)
{
	while (conns->is_overfull) {
		const struct patron *patron = heaviest_patron(&conns->patrons);
		struct conn *conn = NULL;

		if (account_is_over(&conns->account, CONNS_UNREAD) ||
			account_is_over(&patron->account, PATRON_UNREAD))
			conn = heaviest_conn(conns, patron);
		conns->is_overfull = conn != NULL;
		if (conn)
			conn_close(conn, VMSIG_ERR_QUOTA,
				"the tenant's clients do not read what they asked for, and this "
				"one has most of it queued (limits.send_queues)");
	}
}

void conns_flush(struct conns *conns)
{
	/* Each leaves the list first. */
	while (conns->dirty)
		conn_send_queued(conns->dirty);
	shed(conns);
}

/* ---- looking ---- */

void conns_add_stats(const struct conns *conns, struct metrics *metrics)
{
	static const char *const planes[NET_DOORS] = {
		[NET_DOOR_CTX] = "ctx", [NET_DOOR_WRITE] = "write", [NET_DOOR_ADMIN] = "admin"};
	const struct conns_counts *counts = &conns->counts;
	uint64_t open[NET_DOORS] = {0};
	const struct conn *conn;

	DL_FOREACH (conns->list, conn)
		open[conn->plane->door] += conn->plane_open;
	for (int door = 0; door < NET_DOORS; door++) {
		metrics_add(metrics, METRICS_CONNECTIONS, planes[door], open[door]);
		metrics_add(metrics, METRICS_ACCEPTED, planes[door], counts->admitted[door]);
		metrics_add(metrics, METRICS_RECEIVED, planes[door], counts->frames[door]);
		metrics_add(metrics, METRICS_SENT, planes[door], counts->sent_bytes[door]);
	}
	metrics_add(metrics, METRICS_HANDSHAKES, "ok", counts->handshakes_good);
	metrics_add(metrics, METRICS_HANDSHAKES, "failed", counts->handshakes_bad);
	metrics_add_errors(metrics, METRICS_CLOSED, &counts->closed);
	metrics_add(metrics, METRICS_UNREAD, "", account_used(&conns->account, CONNS_UNREAD));
	metrics_add_histogram(metrics, METRICS_OPERATION, "handshake", &counts->handshake);
}
