/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_BODY_H
#define BROKER_ETCD_BODY_H

/*
 * What is asked of etcd's JSON gateway: where, and in which words. etcd drops a field that it does
 * not know without a word, and a compare without its field is none: the texts are compared with
 * golden ones, and each compare is negated against a real etcd (tests/unit/etcd,
 * tests/integration/etcd).
 *
 * Pure. Numbers are text, as JSON's are not 64 bits wide; keys and values are base64.
 */

#include <stddef.h>

#include "broker/fleet/txn.h"

struct etcd_body {
	const char *path; /* static, below the member's URL */
	char *text;       /* owned by whoever asked for it */
	size_t len;
};

/* Of all but TXN_WATCH_CANCEL. VMSIG_ERR_BAD_REQUEST: a transaction that is not whole; -ENOMEM. */
__attribute__((warn_unused_result)) int etcd_body(
	const struct txn_request *request, struct etcd_body *ret_body);

#endif
