/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/admission.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/log.h"
#include "broker/net/conns.h"
#include "broker/net/handshake.h"
#include "vmsig/vmsig_error.h"

/* ---- identity and policy ---- */

/* Both, always: a stolen key used from another uid is refused, and so is the right uid
 * without a key. */
static int admit(struct conn *conn, const char **ret_why)
{
	struct conns *conns = conn->conns;
	const struct config *config = conns->config;
	const struct grant_tenant *tenant =
		grant_find(config->by_identity, config->ntenants, &conn->identity);

	if (!tenant || !grant_has_uid(tenant, conn->cred.uid)) {
		*ret_why = tenant ? "the policy does not list this uid for the tenant; add it to "
				    "'uids' or connect as one of them"
				  : "the policy has no such tenant in this role; add it to "
				    "'tenants'";
		return VMSIG_ERR_UNAUTHENTICATED;
	}
	conn->tenant = tenant;
	conn_pay(conn, patron_of(&conns->patrons, config, tenant));
	return 0;
}

/* Of the tenant: what it has open, and how fast it opens more. */
static int check_quota(struct conn *conn, char *why, size_t why_size)
{
	struct conns *conns = conn->conns;
	const struct account_actor actor = conn_actor(conn);
	struct patron *patron = patron_of(&conns->patrons, conns->config, conn->tenant);
	struct account_refusal refusal;
	int r = 0;

	if (account_is_over(&patron->account, PATRON_CONNECTIONS)) {
		/* It is counted already. */
		charge_refund(&conn->of_tenant);
		refusal = account_refuse(&patron->account, PATRON_CONNECTIONS, 1, &actor);
		r = VMSIG_ERR_QUOTA;
	}
	if (!r)
		r = patron_connect(
			patron, conn->tenant, &actor, pulse_now_ns(conns->pulse), &refusal);
	if (r)
		account_refusal_text(&refusal, why, why_size);
	return r;
}

void conn_act(struct conn *conn, enum patron_act act)
{
	struct conns *conns = conn->conns;
	uint64_t fee_ns = 0;

	if (conn->tenant && conn->share)
		fee_ns = patron_act(patron_of(&conns->patrons, conns->config, conn->tenant), act,
			pulse_now_ns(conns->pulse));
	if (fee_ns)
		share_charge(conn->share, fee_ns);
}

/* Everything that must hold before the plane hears of the connection. */
static int conn_enter(struct conn *conn, char *why, size_t why_size)
{
	const char *reason = "";
	int r = chan_peer_identity(conn->chan, &conn->identity);

	if (!r) {
		r = conn_reverify(conn);
		reason = chan_error(conn->chan);
	}
	if (!r)
		r = admit(conn, &reason);
	snprintf(why, why_size, "%s", reason);
	if (r)
		return r;
	r = check_quota(conn, why, why_size);
	if (r)
		return r;
	r = conn_update_rights(conn);
	return r ? r : conn->plane->open(conn, &conn->plane_state);
}

/* From now on the tenant pays, whichever of its uids, connections and planes it uses. */
static int share_enter_tenant(struct conn *conn)
{
	enum share_kind kind = conn->tenant->role == IDENTITY_ADMIN ? SHARE_ADMIN : SHARE_TENANT;
	struct share *share;
	int r = share_get(conn->conns->shares, kind, conn->tenant->tenant.name, &share);

	if (r)
		return r;
	share_task_move(&conn->task, share);
	share_unref(conn->share);
	conn->share = share;
	return 0;
}

static void established(struct conn *conn)
{
	char why[ACCOUNT_TEXT_MAX + 1];
	int r;

	conn_open(conn);
	r = conn_enter(conn, why, sizeof(why));
	if (!r) {
		conn->plane_open = true;
		conns_note_expiry(conn->conns, conn);
		conn->conns->counts.admitted[conn->plane->door]++;
		r = share_enter_tenant(conn);
	}
	if (r) {
		conn_close(conn, r, why[0] ? why : NULL);
		return;
	}
	log_debug("connection opened", CONN_WHO(conn), LOG_STR("serial", conn->identity.serial));
	/* The first request may have come with the end of the handshake. */
	conn_want_read(conn);
}

/* ---- coming in ---- */

static size_t frame_max(const struct conns *conns, const struct plane_ops *plane)
{
	uint32_t configured = conns->config->max_frame;

	return plane->frame_max && plane->frame_max < configured ? plane->frame_max : configured;
}

static int share_of_uid(struct conns *conns, uid_t uid, struct share **ret_share)
{
	char key[16];

	snprintf(key, sizeof(key), "%u", uid);
	return share_get(conns->shares, SHARE_UID, key, ret_share);
}

static struct conn *conn_new(struct conns *conns, const struct arrival *arrival)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->conns = conns;
	conn->id = ++conns->last_id;
	conn->since_ns = pulse_now_ns(conns->pulse);
	conn->plane = arrival->plane;
	conn->cred = arrival->cred;
	conn->caller = arrival->caller;
	conn->poll.data = conn;
	return conn;
}

static int conn_equip(struct conn *conn, const struct arrival *arrival)
{
	struct conns *conns = conn->conns;
	const struct chan_limits limits = {
		.frame_max = frame_max(conns, arrival->plane),
		.tx_max = conns->config->tx_max,
		.rx_fds_max = arrival->plane->takes_fds ? CHAN_FDS_OF_CLIENT : 0,
	};
	struct tls_ctx *tls = tls_set_find(&conns->tls, arrival->plane);
	/* A reload may have ended the plane while it waited. */
	int r = tls ? share_of_uid(conns, conn->cred.uid, &conn->share) : VMSIG_ERR_SHUTTING_DOWN;

	if (!r)
		r = chan_new(&conn->chan, tls, arrival->fd, &limits);
	if (r)
		return r;
	conn_begin_rights(conn);
	return uv_poll_init(conns->pulse->loop, &conn->poll, arrival->fd);
}

void conn_entry_move(struct conn_entry *to, struct conn_entry *from)
{
	charge_move(&to->of_uid, &from->of_uid);
	charge_move(&to->of_all, &from->of_all);
	charge_move(&to->unproven, &from->unproven);
}

void conn_entry_refund(struct conn_entry *entry)
{
	charge_refund(&entry->of_uid);
	charge_refund(&entry->of_all);
	charge_refund(&entry->unproven);
}

/* Starts to count. */
static void conn_begin(struct conn *conn, struct door *door, struct conn_entry *entry)
{
	struct conns *conns = conn->conns;

	share_task_init(&conn->task, conn->share, conn_run);
	conn_begin_account(conn);
	conn_entry_move(&conn->entry, entry);
	pulse_opened(conns->pulse);
	DL_APPEND(conns->list, conn);
	handshake_begin(conn, door,
		pulse_now_ms(conns->pulse) + conns->config->handshake_timeout_ms, established);
	pulse_hurry(conns->pulse);
}

void admission_start(struct conns *conns, const struct arrival *arrival, struct conn_entry *entry)
{
	struct conn *conn = conn_new(conns, arrival);

	if (conn && !conn_equip(conn, arrival)) {
		conn_begin(conn, arrival->door, entry);
		if (conn_watch(conn, UV_READABLE))
			conn_close(conn, VMSIG_ERR_INTERNAL, "cannot watch the socket");
		return;
	}
	conn_entry_refund(entry);
	if (conn)
		share_unref(conn->share);
	if (conn && conn->chan)
		chan_free(conn->chan);
	else
		rights_close(&conns->rights, arrival->fd, arrival->cred.uid);
	free(conn);
}

/* ---- a new policy ---- */

void admission_reload(struct conn *conn)
{
	const char *why = NULL;
	int r;

	if (!conn->tenant || !conn->phase)
		return;
	r = admit(conn, &why);
	if (r) {
		conn_close(conn, r, why);
		return;
	}
	r = conn_update_rights(conn);
	if (r) {
		conn_fail(conn, r);
		return;
	}
	conn_want_read(conn);
	if (conn->plane->policy)
		conn->plane->policy(conn, conn->plane_state);
}
