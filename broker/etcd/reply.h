/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_REPLY_H
#define BROKER_ETCD_REPLY_H

/*
 * What etcd's JSON gateway answers, taken apart. Pure, and bounded: a reply is at most
 * ETCD_REPLY_MAX bytes and ETCD_VALUES_MAX values, and whatever is not as etcd writes it makes it
 * one that was not understood. Of a request that changes something that is TXN_UNKNOWN: it may have
 * happened.
 */

#include <stddef.h>

#include "broker/fleet/txn.h"

/* Some ten milliseconds of the loop. A fleet's whole view has 1 KiB a guest at most, in base64. */
#define ETCD_REPLY_MAX (2u << 20)
/* In a reply or a line of a watch: a thousand changes of several keys each, which is what etcd
 * sends at once, have less. */
#define ETCD_VALUES_MAX 65536u

/* Of a request of this kind with this HTTP status. `answer` is zeroed but for its number; what it
 * gets is for txn_answer_deinit(). Without memory it is not understood. */
void etcd_reply(enum txn_request_kind kind, long status, const char *text, size_t len,
	struct txn_answer *answer);

/* What one line of a watch says. */
enum etcd_line {
	ETCD_LINE_NOTICE, /* the notice is filled in */
	/* The watch has begun; the notice has the revision of the store, and nothing is said of
	 * what came before it: that comes yet, when the watch is to begin in the past. */
	ETCD_LINE_BEGUN,
	ETCD_LINE_NOTHING,
	ETCD_LINE_OVER, /* the watch is: it is to be begun anew, with another member */
};

/* `notice` is zeroed but for its number. *ret_why gets a sentence of ETCD_LINE_OVER, static.
 * ETCD_LINE_OVER also of what was not understood, and without memory. */
enum etcd_line etcd_reply_line(
	const char *text, size_t len, struct txn_notice *notice, const char **ret_why);

/* The version of a member: 0x0304 is 3.4; 0: none was found. */
unsigned etcd_reply_version(const char *text, size_t len, char *ret_name, size_t name_size);

#endif
