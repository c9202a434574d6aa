/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_WATCH_H
#define BROKER_ETCD_WATCH_H

/* A watch, from its request until it is cancelled, over any number of connections. */

#include <stdbool.h>
#include <stdint.h>

#include "broker/etcd/courier.h"
#include "broker/etcd/errand.h"
#include "broker/etcd/member.h"
#include "broker/etcd/stream.h"
#include "broker/fleet/txn.h"

struct etcd_watch {
	/* First: done() is called with it. Its heard() feeds the stream, then calls `woken`. */
	struct courier_parcel parcel;
	void (*woken)(struct etcd_watch *watch);
	void *owner;
	struct etcd_member *member; /* that it hears; NULL: it waits */
	uint64_t number, serial;    /* the asker's; the order in which they were made */
	char *prefix;
	struct etcd_stream stream;
	struct etcd_body body;
	char url[ETCD_URL_SIZE];
	struct etcd_watch *prev, *next;
};

/* VMSIG_ERR_BAD_REQUEST, -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_watch_new(
	struct etcd_watch **ret_watch, const struct txn_request *request);
void etcd_watch_free(struct etcd_watch *watch);

/* With this member, from where it is. -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_watch_go(struct etcd_watch *watch,
	struct courier *courier, struct etcd_member *member, uint64_t connect_ms);
/* It hears nobody any more. */
void etcd_watch_cut(struct etcd_watch *watch);

#endif
