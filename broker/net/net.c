/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/net/state.h"
#include "vmsig/vmsig_error.h"

#define TICK_MS 50 /* resolution of time-outs and of retries after EMFILE */
#define PLANES_MAX 8

static void on_tick(uv_timer_t *timer)
{
	struct net *net = timer->data;
	uint64_t now_ms = uv_now(net->loop);
	struct listener *listener;
	struct conn *conn, *next;

	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		conn_tick(conn, now_ms);
	}
	LL_FOREACH (net->listeners, listener)
		listener_resume(listener);
}

static struct charge *charges_new(const struct config *config)
{
	return calloc(config->ntenants + 1, sizeof(struct charge));
}

int net_new(struct net **ret_net, uv_loop_t *loop, const struct config *config, void *user)
{
	struct net *net = calloc(1, sizeof(*net));
	int r = -ENOMEM;

	if (!net || !(net->charges = charges_new(config)))
		goto fail;
	r = uv_timer_init(loop, &net->tick);
	if (r)
		goto fail;
	net->loop = loop;
	net->config = config;
	net->user = user;
	net->nhandles = 1;
	net->tick.data = net;
	uv_timer_start(&net->tick, on_tick, TICK_MS, TICK_MS);
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

const struct config *net_config(const struct net *net)
{
	return net->config;
}

static int plane_tls(struct tls_ctx **ret_tls, const struct config *config,
	const struct plane_ops *plane, char *error, size_t error_size)
{
	const struct tls_files files = {
		.ca = config->ca, .cert = config->cert, .key = config->key, .crl = config->crl};

	return tls_ctx_new(ret_tls, TLS_SERVER, &files, plane->roles, error, error_size);
}

int net_listen(struct net *net, const struct config_listen *where, const struct plane_ops *plane,
	char *error, size_t error_size)
{
	struct listener *listener;
	struct tls_ctx *tls;
	int r = plane_tls(&tls, net->config, plane, error, error_size);

	if (r)
		return r;
	r = listener_open(&listener, net, where, plane, tls, error, error_size);
	tls_ctx_unref(tls);
	if (!r)
		LL_PREPEND(net->listeners, listener);
	return r;
}

/* New contexts for every listener, or for none. */
static int reload_tls(struct net *net, const struct config *config,
	struct tls_ctx *contexts[static PLANES_MAX], char *error, size_t error_size)
{
	struct listener *listener;
	size_t n = 0;

	LL_FOREACH (net->listeners, listener) {
		int r = plane_tls(&contexts[n], config, listener->plane, error, error_size);

		if (r) {
			while (n)
				tls_ctx_unref(contexts[--n]);
			return r;
		}
		n++;
	}
	return 0;
}

static struct tls_ctx *tls_of(struct net *net, const struct plane_ops *plane)
{
	struct listener *listener;

	LL_FOREACH (net->listeners, listener) {
		if (listener->plane == plane)
			return listener->tls;
	}
	return NULL;
}

int net_reload(struct net *net, const struct config *config, char *error, size_t error_size)
{
	struct tls_ctx *contexts[PLANES_MAX];
	struct charge *charges = charges_new(config);
	struct listener *listener;
	struct conn *conn, *next;
	size_t n = 0;
	int r = charges ? reload_tls(net, config, contexts, error, error_size) : -ENOMEM;

	if (r) {
		free(charges);
		return r;
	}
	LL_FOREACH (net->listeners, listener) {
		tls_ctx_unref(listener->tls);
		listener->tls = contexts[n++];
	}
	free(net->charges);
	net->charges = charges;
	net->config = config;
	for (conn = net->conns; conn; conn = next) {
		next = conn_next(conn);
		conn_reload(conn, tls_of(net, conn_plane(conn)));
	}
	return 0;
}

void net_turn(struct net *net)
{
	/* A connection's turn may make others dirty; each leaves the list first. */
	while (net->dirty)
		conn_turn(net->dirty);
}

void net_handle_closed(struct net *net)
{
	net->nhandles--;
	if (net->closing && !net->nhandles && net->closed)
		net->closed(net->closed_arg);
}

static void on_tick_closed(uv_handle_t *handle)
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
	uv_close((uv_handle_t *)&net->tick, on_tick_closed);
}

struct net *net_free(struct net *net)
{
	if (!net)
		return NULL;
	assert(!net->nhandles && !net->nconns && !net->nhandshakes && !net->conns);
	for (size_t i = 0; i < net->config->ntenants; i++)
		assert(net->charges[i].connections == 0);
	free(net->charges);
	free(net);
	return NULL;
}
