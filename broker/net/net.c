/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/net/admission.h"
#include "broker/net/conns.h"
#include "broker/net/crew.h"
#include "broker/net/listener.h"
#include "broker/net/lobby.h"
#include "vmsig/vmsig_error.h"

#define CREW 8u /* threads that shake hands */

struct net {
	const struct renewal_plane *planes;
	size_t nplanes;
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

int net_new(struct net **ret_net, const struct net_env *env, const struct config *config)
{
	struct net *net = calloc(1, sizeof(*net));
	int r;

	if (!net)
		return -ENOMEM;
	net->planes = env->planes;
	net->nplanes = env->nplanes;
	net->conns = (struct conns){
		.pulse = &net->pulse, .shares = env->shares, .config = config, .user = env->user};
	pulse_init(&net->pulse, env->loop);
	r = conns_init(&net->conns);
	if (r) {
		free(net);
		return r;
	}
	/* Last: what has a handle cannot be freed at once. */
	r = crew_new(&net->conns.crew, env->loop, CREW);
	if (r) {
		conns_deinit(&net->conns);
		free(net);
		return r;
	}
	pulse_start(&net->pulse);
	pulse_opened(&net->pulse);
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

/* ---- sockets ---- */

static const struct config_listen *where_listens(
	const struct net *net, const struct config *config, const struct plane_ops *plane)
{
	return renewal_find(net->planes, net->nplanes, config, plane);
}

/* Nobody has heard of them yet. */
static void close_new(struct net *net, struct listener *last)
{
	while (net->listeners != last) {
		struct listener *listener = net->listeners;

		net->listeners = listener->next;
		listener_close(listener);
	}
}

/* Listens on the new sockets; those that were there before are the last in the list. */
static int open_new(struct net *net, const struct config *config, struct renewal *renewal)
{
	struct listener *last = net->listeners;

	for (size_t i = 0; i < renewal->n; i++) {
		const struct plane_ops *plane = renewal->tls.planes[i];
		struct listener *listener;
		int r;

		if (renewal->sockets[i] < 0)
			continue;
		r = listener_open(&listener, &net->lobby, where_listens(net, config, plane), plane,
			renewal->sockets[i]);
		if (r) {
			close_new(net, last);
			return r;
		}
		renewal->sockets[i] = -1;
		LL_PREPEND(net->listeners, listener);
	}
	return 0;
}

static void close_outdated(struct net *net, const struct config *config)
{
	struct listener **at = &net->listeners;

	while (*at) {
		struct listener *listener = *at;
		const struct config_listen *where = where_listens(net, config, listener->plane);

		if (where && strcmp(where->path, listener->path) == 0) {
			listener_set_mode(listener, where->mode);
			at = &listener->next;
		} else {
			*at = listener->next;
			listener_close(listener);
		}
	}
}

int net_listen(struct net *net, char *error, size_t error_size)
{
	const struct config *config = net->conns.config;
	struct renewal renewal;
	int r = renewal_make(&renewal, net->planes, net->nplanes, NULL, config, error, error_size);

	if (!r)
		r = open_new(net, config, &renewal);
	if (!r) {
		net->conns.tls = renewal.tls;
		renewal.tls = TLS_SET_INIT;
	}
	renewal_deinit(&renewal);
	return r;
}

/* ---- a new configuration ---- */

const struct renewal_plane *net_planes(const struct net *net, size_t *ret_n)
{
	*ret_n = net->nplanes;
	return net->planes;
}

static void admit_again(struct net *net, struct conn *conn)
{
	if (tls_set_find(&net->conns.tls, conn->plane))
		admission_reload(conn);
	else
		conn_close(conn, VMSIG_ERR_SHUTTING_DOWN,
			"the configuration does not serve this plane any more");
}

int net_reload(struct net *net, const struct config *config, struct renewal *renewal)
{
	struct conns *conns = &net->conns;
	struct listener *last = net->listeners;
	struct conn *conn, *next;
	int r = open_new(net, config, renewal);

	if (r)
		return r;
	r = conns_set_policy(conns, config);
	if (r) {
		close_new(net, last);
		return r;
	}
	tls_set_deinit(&conns->tls);
	conns->tls = renewal->tls;
	renewal->tls = TLS_SET_INIT;
	lobby_set_policy(&net->lobby);
	close_outdated(net, config);
	DL_FOREACH_SAFE (conns->list, conn, next)
		admit_again(net, conn);
	return 0;
}

void net_expire(struct net *net, int64_t now_s)
{
	conns_expire(&net->conns, now_s);
}

bool net_dates(const struct net *net, struct tls_dates *ret_dates)
{
	/* All planes have the same files. */
	if (!net->conns.tls.n)
		return false;
	tls_ctx_dates(net->conns.tls.contexts[0], ret_dates);
	return true;
}

void net_turn(struct net *net)
{
	lobby_serve(&net->lobby);
	conns_flush(&net->conns);
}

void net_stats(const struct net *net, struct metrics *metrics)
{
	conns_add_stats(&net->conns, metrics);
}

static void on_part_closed(void *arg)
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
		porter_close(net->conns.rights.porter, on_part_closed, &net->pulse);
	crew_close(net->conns.crew, on_part_closed, &net->pulse);
	pulse_close(&net->pulse, closed, arg);
}

struct net *net_free(struct net *net)
{
	if (!net)
		return NULL;
	lobby_deinit(&net->lobby);
	crew_free(net->conns.crew);
	conns_deinit(&net->conns);
	free(net);
	return NULL;
}
