/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/log.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define TICK_MS 50               /* resolution of time-outs and of retries after EMFILE */
#define LOG_PER_SECOND 50u       /* records that anybody who may connect can provoke */
#define STRANGERS_CONNECTIONS 4u /* of a uid that the policy does not name, and so has no quota */

static void refill_log_credit(struct net *net)
{
	uint64_t now_ms = uv_now(net->loop);

	if (now_ms - net->log_window_ms < 1000)
		return;
	if (net->log_suppressed)
		log_warning("records about connections were left out",
			LOG_INT("count", net->log_suppressed));
	net->log_suppressed = 0;
	net->log_credit = LOG_PER_SECOND;
	net->log_window_ms = now_ms;
}

bool net_may_log(struct net *net)
{
	refill_log_credit(net);
	if (net->log_credit) {
		net->log_credit--;
		return true;
	}
	net->log_suppressed++;
	net_expect(net);
	return false;
}

/* Runs only while something has a deadline: an idle broker sleeps. */
static void on_tick(uv_timer_t *timer)
{
	struct net *net = timer->data;
	uint64_t now_ms = uv_now(net->loop);
	struct listener *listener;
	struct conn *conn, *next;
	bool expecting = false;

	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		expecting |= conn_tick(conn, now_ms);
	}
	LL_FOREACH (net->listeners, listener)
		expecting |= listener_resume(listener);
	refill_log_credit(net);
	if (!expecting && !net->log_suppressed)
		uv_timer_stop(&net->tick);
}

void net_expect(struct net *net)
{
	if (!net->closing && !uv_is_active((uv_handle_t *)&net->tick))
		uv_timer_start(&net->tick, on_tick, TICK_MS, TICK_MS);
}

/* ---- what a uid may have open ---- */

/* As much as all tenants together that it may speak for. */
static uint32_t uid_limit(const struct config *config, uid_t uid)
{
	uint32_t limit = 0;

	for (size_t i = 0; i < config->ntenants; i++) {
		if (config_tenant_has_uid(&config->tenants[i], uid))
			limit += config->tenants[i].tenant.quota.connections;
	}
	return limit ? limit : STRANGERS_CONNECTIONS;
}

int net_charge_uid(
	struct net *net, uid_t uid, struct uid_account **ret_account, uint32_t *ret_limit)
{
	uint32_t limit = uid_limit(net->config, uid);
	struct uid_account *account = NULL;

	HASH_FIND(hh, net->uids, &uid, sizeof(uid), account);
	if (account && account->connections >= limit) {
		*ret_limit = limit;
		return VMSIG_ERR_QUOTA;
	}
	if (!account) {
		account = calloc(1, sizeof(*account));
		if (!account)
			return -ENOMEM;
		account->uid = uid;
		HASH_ADD(hh, net->uids, uid, sizeof(account->uid), account);
		if (!account->hh.tbl) {
			free(account);
			return -ENOMEM;
		}
	}
	account->connections++;
	*ret_account = account;
	return 0;
}

void net_refund_uid(struct net *net, struct uid_account *account)
{
	if (!account || --account->connections)
		return;
	HASH_DEL(net->uids, account);
	free(account);
}

/* ---- */

static struct charge *charges_new(const struct config *config)
{
	return calloc(config->ntenants + 1, sizeof(struct charge));
}

int net_new(struct net **ret_net, uv_loop_t *loop, struct shares *shares,
	const struct config *config, void *user)
{
	struct net *net = calloc(1, sizeof(*net));
	int r = -ENOMEM;

	if (!net || !(net->charges = charges_new(config)))
		goto fail;
	r = uv_timer_init(loop, &net->tick);
	if (r)
		goto fail;
	net->loop = loop;
	net->shares = shares;
	net->config = config;
	net->user = user;
	net->log_credit = LOG_PER_SECOND;
	net->nhandles = 1;
	net->tick.data = net;
	*ret_net = net;
	return 0;
fail:
	free(net ? net->charges : NULL);
	free(net);
	return r;
}

void *net_user(struct net *net)
{
	return net->user;
}

int net_listen(struct net *net, const struct config_listen *where, const struct plane_ops *plane,
	char *error, size_t error_size)
{
	struct tls_set tls = {.planes = {plane}, .n = 1};
	struct listener *listener;
	int r = tls_set_load(&tls, net->config, error, error_size);

	if (!r)
		r = listener_open(&listener, net, where, plane, tls.contexts[0], error, error_size);
	tls_set_deinit(&tls);
	if (!r)
		LL_PREPEND(net->listeners, listener);
	return r;
}

struct tls_ctx *net_tls(struct net *net, const struct plane_ops *plane)
{
	struct listener *listener;

	LL_FOREACH (net->listeners, listener) {
		if (listener->plane == plane)
			return listener->tls;
	}
	return NULL;
}

void net_planes(const struct net *net, struct tls_set *ret_set)
{
	struct listener *listener;

	*ret_set = TLS_SET_INIT;
	LL_FOREACH (net->listeners, listener)
		ret_set->planes[ret_set->n++] = listener->plane;
}

int net_reload(struct net *net, const struct config *config, struct tls_set *tls)
{
	struct charge *charges = charges_new(config);
	struct listener *listener;
	struct conn *conn, *next;

	if (!charges)
		return -ENOMEM;
	LL_FOREACH (net->listeners, listener) {
		tls_ctx_unref(listener->tls);
		listener->tls = tls_ctx_ref(tls_set_find(tls, listener->plane));
	}
	tls_set_deinit(tls);
	free(net->charges);
	net->charges = charges;
	net->config = config;
	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		conn_reload(conn);
	}
	return 0;
}

void net_turn(struct net *net)
{
	/* Each leaves the list first. */
	while (net->dirty)
		conn_send_queued(net->dirty);
}

void net_handle_closed(struct net *net)
{
	net->nhandles--;
	if (net->closing && !net->nhandles && net->closed)
		net->closed(net->closed_arg);
}

static void on_own_closed(uv_handle_t *handle)
{
	net_handle_closed(handle->data);
}

void net_close(struct net *net, void (*closed)(void *arg), void *arg)
{
	struct listener *listener, *next_listener;
	struct conn *conn, *next;

	net->closing = true;
	net->closed = closed;
	net->closed_arg = arg;
	LL_FOREACH_SAFE(net->listeners, listener, next_listener)
	listener_close(listener);
	net->listeners = NULL;
	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		conn_close(conn, VMSIG_ERR_SHUTTING_DOWN, NULL);
	}
	uv_close((uv_handle_t *)&net->tick, on_own_closed);
}

struct net *net_free(struct net *net)
{
	if (!net)
		return NULL;
	assert(!net->nhandles && !net->nconns && !net->nhandshakes && !net->conns);
	assert(!net->uids && !net->dirty);
	for (size_t i = 0; i < net->config->ntenants; i++)
		assert(net->charges[i].connections == 0);
	free(net->charges);
	free(net);
	return NULL;
}
