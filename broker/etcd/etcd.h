/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_ETCD_H
#define BROKER_ETCD_ETCD_H

/*
 * A client of etcd for what broker/fleet/txn.h asks, over etcd's JSON gateway (/v3) and, with
 * keys, mTLS. On the loop, and nothing of it waits.
 *
 * Each request has one answer, which is never better than what is known: a request whose body may
 * have left and that has no answer is TXN_UNKNOWN, and is never sent twice, unless it changes
 * nothing (reads, keep-alives). Watches go on by themselves.
 *
 * What etcd below 3.5 gets wrong and is asked for all the same with `allow_old`: leases end by the
 * wall clock's jumps, and a leader that was deposed may revoke leases that were kept alive. Both
 * end leases early. Whoever grants by this store has to hold against that anyway, and never takes
 * a lease of etcd's for a proof. A keep-alive of a lease that is gone is no error there, and has no
 * TTL; a watch from a revision of the future says nothing (stream.h).
 *
 *   etcd      requests, their answers, and watches
 *   errand    a request on its way
 *   watch     a watch, over any number of connections
 *   body      what is asked, in etcd's words
 *   reply     what it answers
 *   stream    a watch's lines
 *   member    which member is asked
 *   courier   HTTP on the loop
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "broker/etcd/courier.h"
#include "broker/etcd/member.h"
#include "broker/fleet/txn.h"

#define ETCD_REQUESTS_MAX 1024u    /* without an answer */
#define ETCD_VERSION_LEAST 0x0305u /* 3.5 */
#define ETCD_TIMEOUT_MS 5000u      /* of a request that names none */

struct etcd;

struct etcd_options {
	uv_loop_t *loop;
	const char *const *urls; /* of its members, with addresses as hosts; copied */
	size_t nurls;            /* at most ETCD_MEMBERS_MAX */
	struct courier_keys keys;
	bool allow_old;
	/* From the loop, and never from inside of etcd_send(); both are deinitialised after it. */
	void (*answered)(void *arg, const struct txn_answer *answer);
	void (*noticed)(void *arg, const struct txn_notice *notice);
	void *arg;
};

/* -ENOMEM, -errno. */
__attribute__((warn_unused_result)) int etcd_new(
	struct etcd **ret_etcd, const struct etcd_options *options);
/* Nothing is answered any more. Frees it from the loop, and then calls `closed`. */
void etcd_close(struct etcd *etcd, void (*closed)(void *arg), void *arg);

/* The request is borrowed for the call. 0: one answer comes, of a watch notices;
 * VMSIG_ERR_BAD_REQUEST (a transaction that is not whole), VMSIG_ERR_BUSY (ETCD_REQUESTS_MAX),
 * -ENOMEM: none does, and nothing was sent. */
__attribute__((warn_unused_result)) int etcd_send(
	struct etcd *etcd, const struct txn_request *request);

/* Connections that are made from now on have these keys, and watches are begun anew with them.
 * -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_rekey(
	struct etcd *etcd, const struct courier_keys *keys);

struct etcd_status {
	const char *url;     /* the member that is asked */
	const char *version; /* "": not known */
	bool answers;        /* the last thing that happened was an answer */
	const char *why;     /* it does not: a sentence; "" */
	uint64_t requests, failures;
};
/* Borrowed until the loop goes on. */
void etcd_status(const struct etcd *etcd, struct etcd_status *ret_status);

#endif
