/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_TLS_SET_H
#define BROKER_NET_TLS_SET_H

/*
 * The TLS contexts of several planes for one configuration. Reading keys and a large revocation
 * list takes longer than the loop has time: a reload makes a set on another thread and hands it
 * over. Touches nothing but the files and what it returns.
 */

#include <stddef.h>

#include "broker/config/config.h"
#include "broker/net/plane.h"
#include "proto/wire/tls.h"

#define TLS_SET_MAX 8 /* planes */

struct tls_set {
	const struct plane_ops *planes[TLS_SET_MAX];
	struct tls_ctx *contexts[TLS_SET_MAX]; /* references of the set */
	size_t n;
};

#define TLS_SET_INIT ((struct tls_set){0})

/* Makes a context for each of `set->planes`. `error` names the file. 0, VMSIG_ERR_*, -errno. */
__attribute__((warn_unused_result)) int tls_set_load(
	struct tls_set *set, const struct config *config, char *error, size_t error_size);
/* One plane more, of at most TLS_SET_MAX, with its context. The same. */
__attribute__((warn_unused_result)) int tls_set_add(struct tls_set *set,
	const struct plane_ops *plane, const struct config *config, char *error, size_t error_size);
/* The plane's; borrowed. NULL: it is not in the set. */
struct tls_ctx *tls_set_find(const struct tls_set *set, const struct plane_ops *plane);
void tls_set_deinit(struct tls_set *set);

#endif
