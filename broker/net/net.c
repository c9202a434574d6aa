/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "broker/log.h"
#include "broker/net/closer.h"
#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define TICK_MS 50 /* resolution of time-outs and of retries after EMFILE */

uint64_t net_now_ns(const struct net *net)
{
	return uv_now(net->loop) * 1000000u;
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
	expecting |= lobby_tick(net);
	expecting |= callers_tick(&net->callers, net->config, net_now_ns(net));
	if (!expecting)
		uv_timer_stop(&net->tick);
}

void net_expect(struct net *net)
{
	if (!net->closing && !uv_is_active((uv_handle_t *)&net->tick))
		uv_timer_start(&net->tick, on_tick, TICK_MS, TICK_MS);
}

static struct purse *charges_new(const struct config *config, uint64_t now_ns)
{
	struct purse *charges = calloc(config->ntenants + 1, sizeof(*charges));

	for (size_t i = 0; charges && i < config->ntenants; i++)
		rate_init(&charges[i].connects, now_ns, config->tenants[i].connects);
	return charges;
}

static uint32_t count_descriptors(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT32_MAX
		       ? UINT32_MAX
		       : (uint32_t)limit.rlim_cur;
}

int net_new(struct net **ret_net, uv_loop_t *loop, struct shares *shares,
	const struct config *config, void *user)
{
	struct net *net = calloc(1, sizeof(*net));
	int r = -ENOMEM;

	if (!net || !(net->charges = charges_new(config, uv_now(loop) * 1000000u)))
		goto fail;
	r = callers_init(&net->callers, config, uv_now(loop) * 1000000u);
	if (r)
		goto fail;
	r = uv_timer_init(loop, &net->tick);
	if (r)
		goto fail;
	net->loop = loop;
	net->shares = shares;
	net->config = config;
	net->user = user;
	net->descriptors = count_descriptors();
	net->nhandles = 1;
	net->tick.data = net;
	*ret_net = net;
	return 0;
fail:
	if (net) {
		callers_deinit(&net->callers);
		free(net->charges);
	}
	free(net);
	return r;
}

int net_guard(struct net *net, struct closer *closer, struct porter *porter)
{
	int r = porter ? porter_open(porter, net->loop, closer) : 0;

	if (r)
		return r;
	net->closer = closer;
	net->porter = porter;
	net->nhandles += porter != NULL;
	return 0;
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
	struct purse *charges = charges_new(config, net_now_ns(net));
	struct listener *listener;
	struct conn *conn, *next;
	int r;

	if (!charges)
		return -ENOMEM;
	r = callers_set_policy(&net->callers, config);
	if (r) {
		free(charges);
		return r;
	}
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
	lobby_serve(net);
	/* Each leaves the list first. */
	while (net->dirty)
		conn_send_queued(net->dirty);
	queued_shed(net);
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

static void on_porter_closed(void *arg)
{
	net_handle_closed(arg);
}

void net_close(struct net *net, void (*closed)(void *arg), void *arg)
{
	struct listener *listener, *next_listener;
	struct conn *conn, *next;

	net->closing = true;
	net->closed = closed;
	net->closed_arg = arg;
	LL_FOREACH_SAFE (net->listeners, listener, next_listener)
		listener_close(listener);
	net->listeners = NULL;
	(void)lobby_tick(net);
	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		conn_close(conn, VMSIG_ERR_SHUTTING_DOWN, NULL);
	}
	if (net->porter)
		porter_close(net->porter, on_porter_closed, net);
	uv_close((uv_handle_t *)&net->tick, on_own_closed);
}

struct net *net_free(struct net *net)
{
	if (!net)
		return NULL;
	assert(!net->nhandles && !net->nconns && !net->nvisitors && !net->conns);
	assert(!net->dirty && !net->queued);
	for (size_t i = 0; i < NET_DOORS; i++)
		assert(!net->doors[i].handshakes && !net->doors[i].strangers);
	for (size_t i = 0; i < net->config->ntenants; i++)
		assert(!net->charges[i].connections && !net->charges[i].queued);
	callers_deinit(&net->callers);
	free(net->charges);
	free(net);
	return NULL;
}
