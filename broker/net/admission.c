/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "broker/log.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define POOL_NICE 10 /* of the threads that shake hands; the loop has 0 */
/* Work on a pool thread takes this part of its time from the loop when both want the CPU: the
 * kernel's weights of the two nice values. */
#define POOL_WEIGHT 10u

/*
 * Who gets in: limits before any work is done, the handshake on the pool, then identity and
 * policy; and who may stay when the policy changes.
 */

void admission_over(struct conn *conn)
{
	conn->handshake_by_ms = 0;
	lobby_give_slot(conn);
}

/* ---- identity and policy ---- */

/* Both, always: a stolen key used from another uid is refused, and so is the right uid
 * without a key. */
static int admit(struct conn *conn, const char **ret_why)
{
	const struct config *config = conn->net->config;
	const struct config_tenant *tenant = config_tenant_find(config, &conn->identity);

	if (!tenant || !config_tenant_has_uid(tenant, conn->cred.uid)) {
		*ret_why = tenant ? "the policy does not list this uid for the tenant; add it to "
				    "'uids' or connect as one of them"
				  : "the policy has no such tenant in this role; add it to "
				    "'tenants'";
		return VMSIG_ERR_UNAUTHENTICATED;
	}
	conn->tenant = tenant;
	conn->charge = &conn->net->charges[tenant - config->tenants];
	conn->charge->connections++;
	queued_enter(conn);
	return 0;
}

/* Of the tenant: what it has open, and how fast it opens more. */
static int check_quota(struct conn *conn, char *why, size_t why_size)
{
	const struct config_tenant *tenant = conn->tenant;
	struct purse *charge = conn->charge;

	if (charge->connections > tenant->tenant.quota.connections) {
		snprintf(why, why_size,
			"the tenant has its %u connections open; close one or raise "
			"quota.connections",
			tenant->tenant.quota.connections);
		return VMSIG_ERR_QUOTA;
	}
	if (rate_wait(&charge->connects, net_now_ns(conn->net), tenant->connects, 1)) {
		snprintf(why, why_size,
			"the tenant opened %u connections in a second; keep them open, or raise "
			"quota.connects_per_second",
			tenant->connects);
		return VMSIG_ERR_QUOTA;
	}
	rate_spend(&charge->connects, 1);
	return 0;
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
	r = rights_update(conn);
	return r ? r : conn->plane->open(conn, &conn->plane_state);
}

/* From now on the tenant pays, whichever of its uids, connections and planes it uses. */
static int share_enter_tenant(struct conn *conn)
{
	enum share_kind kind = conn->tenant->role == IDENTITY_ADMIN ? SHARE_ADMIN : SHARE_TENANT;
	struct share *share;
	int r = share_get(conn->net->shares, kind, conn->tenant->tenant.name, &share);

	if (r)
		return r;
	share_task_move(&conn->task, share);
	share_unref(conn->share);
	conn->share = share;
	return 0;
}

static int conn_established(struct conn *conn)
{
	char why[192];
	int r;

	admission_over(conn);
	conn->state = CONN_OPEN;
	r = conn_enter(conn, why, sizeof(why));
	if (!r)
		conn->plane_open = true;
	if (!r)
		r = share_enter_tenant(conn);
	if (r) {
		conn_close(conn, r, why[0] ? why : NULL);
		return 0;
	}
	log_debug("connection opened", CONN_WHO(conn), LOG_STR("serial", conn->identity.serial));
	/* The first request may have come with the end of the handshake. */
	conn_want_read(conn);
	return 0;
}

/* ---- the handshake ---- */

/* A thousand clients that connect at once must not take the CPUs from the loop, which has
 * everybody else's writes. On Linux this is a matter of the calling thread; without it
 * handshakes are only less polite. */
static void yield_to_loop(void)
{
	static _Thread_local bool yields;

	if (!yields)
		(void)!setpriority(PRIO_PROCESS, 0, POOL_NICE);
	yields = true;
}

static uint64_t thread_ns(void)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_work(uv_work_t *work)
{
	struct conn *conn = work->data;
	uint64_t start_ns = thread_ns();

	yield_to_loop();
	conn->work_result = chan_handshake(conn->chan);
	conn->work_ns = thread_ns() - start_ns;
}

static void on_worked(uv_work_t *work, int status)
{
	struct conn *conn = work->data;

	conn->working = false;
	conn->worked = true;
	if (conn->state == CONN_CLOSING)
		conn_finish(conn);
	else
		share_task_ready(&conn->task);
}

/* The client has brought it on if there is something to answer; what the pool took is not the
 * client's time. */
static void note_progress(struct conn *conn)
{
	uint64_t now_ms = uv_now(conn->net->loop);

	conn->moved_ms =
		chan_output_bytes(conn->chan) ? now_ms : conn->moved_ms + now_ms - conn->step_ms;
}

int admission_worked(struct conn *conn)
{
	int r = conn->work_result;

	conn->worked = false;
	note_progress(conn);
	share_charge(conn->share, conn->work_ns / POOL_WEIGHT);
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return r;
	r = r ? 0 : conn_established(conn);
	return !r && conn->state != CONN_CLOSING ? conn_flush(conn) : r;
}

/* The signature and the verification cost about 0.7 ms: not on the loop. Nothing watches the
 * socket meanwhile, so only the pool touches the channel. */
int admission_step(struct conn *conn)
{
	int r = chan_fill(conn->chan);

	conn->wants_read = false;
	conn->heard_again = 0;
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return conn_flush(conn);
	if (r == VMSIG_ERR_BUSY)
		return rights_fetch(conn);
	if (r)
		return r;
	r = conn_watch(conn, 0);
	if (r)
		return r;
	conn->has_spoken = true;
	conn->step_ms = uv_now(conn->net->loop);
	conn->work.data = conn;
	r = uv_queue_work(conn->net->loop, &conn->work, on_work, on_worked);
	conn->working = !r;
	return r;
}

/* ---- coming in ---- */

static size_t frame_max(const struct net *net, const struct plane_ops *plane)
{
	uint32_t configured = net->config->max_frame;

	return plane->frame_max && plane->frame_max < configured ? plane->frame_max : configured;
}

static int share_of_uid(struct net *net, uid_t uid, struct share **ret_share)
{
	char key[16];

	snprintf(key, sizeof(key), "%u", uid);
	return share_get(net->shares, SHARE_UID, key, ret_share);
}

static struct conn *conn_new(struct net *net, const struct arrival *arrival)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->net = net;
	conn->plane = arrival->plane;
	conn->cred = arrival->cred;
	conn->caller = arrival->caller;
	conn->handshake_by_ms = arrival->handshake_by_ms;
	conn->moved_ms = uv_now(net->loop);
	conn->poll.data = conn;
	return conn;
}

/* Starts to count. */
static void conn_admit(struct conn *conn)
{
	struct net *net = conn->net;

	share_task_init(&conn->task, conn->share, conn_run);
	net->nhandles++;
	net->nconns++;
	lobby_take_slot(conn);
	DL_APPEND(net->conns, conn);
	net_expect(net);
}

static int conn_equip(struct conn *conn, const struct arrival *arrival)
{
	const struct chan_limits limits = {
		.frame_max = frame_max(conn->net, arrival->plane),
		.tx_max = conn->net->config->tx_max,
		.rx_fds_max = arrival->plane->takes_fds ? CHAN_FDS_PER_FRAME : 0,
	};
	int r = share_of_uid(conn->net, conn->cred.uid, &conn->share);

	if (!r)
		r = chan_new(&conn->chan, arrival->tls, arrival->fd, &limits);
	if (r)
		return r;
	rights_begin(conn);
	return uv_poll_init(conn->net->loop, &conn->poll, arrival->fd);
}

void conn_start(struct net *net, const struct arrival *arrival)
{
	struct conn *conn = conn_new(net, arrival);

	if (conn && !conn_equip(conn, arrival)) {
		conn_admit(conn);
		if (conn_watch(conn, UV_READABLE))
			conn_close(conn, VMSIG_ERR_INTERNAL, "cannot watch the socket");
		return;
	}
	caller_leave(arrival->caller);
	if (conn)
		share_unref(conn->share);
	if (conn && conn->chan)
		chan_free(conn->chan);
	else
		rights_close(net, arrival->fd, arrival->cred.uid);
	free(conn);
}

/* ---- a new policy ---- */

void conn_reload(struct conn *conn)
{
	const char *why = NULL;
	int r;

	/* The charges are new, whatever happens next. */
	conn->charge = NULL;
	conn->stale = true;
	if (conn->state != CONN_OPEN)
		return;
	r = admit(conn, &why);
	if (r) {
		conn_close(conn, r, why);
		return;
	}
	r = rights_update(conn);
	if (r) {
		conn_fail(conn, r);
		return;
	}
	conn_want_read(conn);
	if (conn->plane->policy)
		conn->plane->policy(conn, conn->plane_state);
}
