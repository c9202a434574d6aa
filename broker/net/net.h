/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_NET_H
#define BROKER_NET_NET_H

/*
 * All listeners and connections of the broker, with what they share: the policy, limits,
 * and the turn of the loop in which everything that was queued is sent. What a client makes
 * the loop do is a task of its share of the loop's time: of its uid until it has proven to be
 * a tenant, then of the tenant, whatever it opens and however often.
 *
 *   net          all of it
 *   plane        what a plane is to net/
 *   listener     a socket in the file system
 *   lobby        who has come
 *   caller       a uid, before it is a tenant
 *   patron       a tenant, at the door
 *   door         slots for handshakes
 *   handshake    TLS
 *   crew         threads that compute it
 *   admission    who gets in, and stays
 *   conns        all connections
 *   conn         one
 *   conn_look    what others ask of it
 *   roll         one after the other
 *   state        the inside of both
 *   pulse        time
 *   tls_set      contexts of TLS
 *   renewal      what a new configuration needs
 *   rights       descriptors of clients
 *   passrights   who may send some
 *   porter       a process that receives them
 *   porter_door  its side
 *   closer       threads that close them
 */

#include <stdint.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/net/conn.h"
#include "broker/net/renewal.h"
#include "broker/policy/share.h"

struct closer;
struct metrics;
struct net;
struct porter;
struct tls_dates;

/* What belongs together for life. */
struct net_env {
	uv_loop_t *loop;
	struct shares *shares;
	const struct renewal_plane
		*planes; /* that there are, whether a configuration serves them */
	size_t nplanes;
	void *user; /* for planes: conn_user() */
};

/* `config` is borrowed until net_reload(), what is in `env` until net_free(). */
__attribute__((warn_unused_result)) int net_new(
	struct net **ret_net, const struct net_env *env, const struct config *config);
/* Before the first net_listen(): who closes and who receives clients' descriptors. Borrowed;
 * porter NULL: no client may send any. Without a closer the loop waits for them. */
__attribute__((warn_unused_result)) int net_guard(
	struct net *net, struct closer *closer, struct porter *porter);

/* Opens the sockets of the configuration. `error` names the path and what to do. 0, VMSIG_ERR_*,
 * -errno. */
__attribute__((warn_unused_result)) int net_listen(struct net *net, char *error, size_t error_size);

/* What renewal_make() needs for net_reload(): constant, so that another thread than the loop's may
 * use it, also when the net has ended meanwhile. */
const struct renewal_plane *net_planes(const struct net *net, size_t *ret_n);
/* New policy, limits, certificates and sockets; what was taken over of the renewal is not in it any
 * more. Sockets that the configuration does not have are closed, with the connections of planes
 * that have none; so are connections that policy or certificates do not allow any more. The others
 * go on. 0, -errno: nothing has changed. */
__attribute__((warn_unused_result)) int net_reload(
	struct net *net, const struct config *config, struct renewal *renewal);

/* Ends the connections whose certificates have ended. To be called about once a second with the
 * time of day: clocks are set. */
void net_expire(struct net *net, int64_t now_s);
/* When the certificates and lists end that new connections are verified by. False: none listens.
 */
bool net_dates(const struct net *net, struct tls_dates *ret_dates);
/* Once per turn of the loop, before it sleeps: sends what is queued. */
void net_turn(struct net *net);

/* What it counts. */
void net_stats(const struct net *net, struct metrics *metrics);
/* Stops listening, removes the socket files, closes every connection; `closed` is called
 * from the loop when nothing is left, and net_free() may follow. */
void net_close(struct net *net, void (*closed)(void *arg), void *arg);
struct net *net_free(struct net *net);

#endif
