/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/net.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/net/admission.h"
#include "broker/net/conns.h"
#include "broker/net/listener.h"
#include "broker/net/lobby.h"
#include "vmsig/vmsig_error.h"

struct net {
	struct pulse pulse;
	struct conns conns;
	struct lobby lobby;
	struct listener *listeners;
	struct pulse_beat beat; /* of the listeners */
};

static bool on_beat(struct pulse_beat *beat, uint64_t now_ms)
{
	struct net *net = (struct net *)((char *)beat - offsetof(struct net, beat));
	struct listener *listener;
	bool expecting = false;

	LL_FOREACH (net->listeners, listener)
		expecting |= listener_resume(listener);
	return expecting;
}

int net_new(struct net **ret_net, uv_loop_t *loop, struct shares *shares,
	const struct config *config, void *user)
{
	struct net *net = calloc(1, sizeof(*net));
	int r;

	if (!net)
		return -ENOMEM;
	net->conns = (struct conns){
		.pulse = &net->pulse, .shares = shares, .config = config, .user = user};
	pulse_init(&net->pulse, loop);
	r = conns_init(&net->conns);
	if (r) {
		free(net);
		return r;
	}
	/* Last: what has a handle cannot be freed at once. */
	r = pulse_start(&net->pulse);
	if (r) {
		conns_deinit(&net->conns);
		free(net);
		return r;
	}
	lobby_init(&net->lobby, &net->conns);
	pulse_add(&net->pulse, &net->beat, on_beat);
	*ret_net = net;
	return 0;
}

int net_guard(struct net *net, struct closer *closer, struct porter *porter)
{
	int r = porter ? porter_open(porter, net->pulse.loop, closer) : 0;

	if (r)
		return r;
	net->conns.rights.closer = closer;
	net->conns.rights.porter = porter;
	if (porter)
		pulse_opened(&net->pulse);
	return 0;
}

int net_listen(struct net *net, const struct config_listen *where, const struct plane_ops *plane,
	char *error, size_t error_size)
{
	struct tls_set *tls = &net->conns.tls;
	struct listener *listener;
	int r = tls_set_add(tls, plane, net->conns.config, error, error_size);

	if (!r)
		r = listener_open(&listener, &net->lobby, where, plane, error, error_size);
	if (!r)
		LL_PREPEND(net->listeners, listener);
	return r;
}

void net_planes(const struct net *net, struct tls_set *ret_set)
{
	const struct tls_set *tls = &net->conns.tls;

	*ret_set = TLS_SET_INIT;
	for (; ret_set->n < tls->n; ret_set->n++)
		ret_set->planes[ret_set->n] = tls->planes[ret_set->n];
}

int net_reload(struct net *net, const struct config *config, struct tls_set *tls)
{
	struct conns *conns = &net->conns;
	struct conn *conn, *next;
	int r = conns_set_policy(conns, config);

	if (r)
		return r;
	tls_set_deinit(&conns->tls);
	conns->tls = *tls;
	*tls = TLS_SET_INIT;
	lobby_set_policy(&net->lobby);
	DL_FOREACH_SAFE (conns->list, conn, next)
		admission_reload(conn);
	return 0;
}

void net_turn(struct net *net)
{
	lobby_serve(&net->lobby);
	conns_flush(&net->conns);
}

static void on_porter_closed(void *arg)
{
	pulse_closed(arg);
}

void net_close(struct net *net, void (*closed)(void *arg), void *arg)
{
	struct listener *listener, *next_listener;
	struct conn *conn, *next;

	LL_FOREACH_SAFE (net->listeners, listener, next_listener)
		listener_close(listener);
	net->listeners = NULL;
	lobby_close(&net->lobby);
	DL_FOREACH_SAFE (net->conns.list, conn, next)
		conn_close(conn, VMSIG_ERR_SHUTTING_DOWN, NULL);
	if (net->conns.rights.porter)
		porter_close(net->conns.rights.porter, on_porter_closed, &net->pulse);
	pulse_close(&net->pulse, closed, arg);
}

struct net *net_free(struct net *net)
{
	if (!net)
		return NULL;
	lobby_deinit(&net->lobby);
	conns_deinit(&net->conns);
	free(net);
	return NULL;
}
