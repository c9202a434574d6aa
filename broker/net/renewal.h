/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_RENEWAL_H
#define BROKER_NET_RENEWAL_H

/*
 * What a new configuration needs before anything of the old one is given up: TLS contexts of the
 * planes that it serves, and its new sockets, bound. Made on another thread, since keys, lists and
 * folders may be on slow file systems; net_reload() takes all of it over, or it is dropped, and
 * nothing has changed.
 */

#include <stddef.h>

#include "broker/config/config.h"
#include "broker/net/plane.h"
#include "broker/net/tls_set.h"

/* A plane of the broker, and where a configuration says that it listens. */
struct renewal_plane {
	const struct plane_ops *ops;
	size_t listen; /* offset of a struct config_listen in struct config */
};

struct renewal {
	size_t n;                 /* planes */
	struct tls_set tls;       /* of those */
	int sockets[TLS_SET_MAX]; /* of tls.planes: bound, and nobody can connect yet; -1: the plane
				   * listens there already */
	char *paths[TLS_SET_MAX]; /* of those */
};

#define RENEWAL_INIT ((struct renewal){0})

static inline const struct config_listen *renewal_listen(
	const struct renewal_plane *plane, const struct config *config)
{
	return (const struct config_listen *)(const void *)((const char *)config + plane->listen);
}

/* Where the plane listens; NULL: nowhere. */
const struct config_listen *renewal_find(const struct renewal_plane *planes, size_t n,
	const struct config *config, const struct plane_ops *plane);
/* `old` NULL: at the start nobody listens. `error` names the file or the socket. 0, VMSIG_ERR_*,
 * -errno; renewal_deinit() in any case. */
__attribute__((warn_unused_result)) int renewal_make(struct renewal *ret_renewal,
	const struct renewal_plane *planes, size_t n, const struct config *old,
	const struct config *config, char *error, size_t error_size);
/* Removes the sockets that were not taken over. */
void renewal_deinit(struct renewal *renewal);

#endif
