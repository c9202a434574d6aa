/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_QMP_H
#define BROKER_ADAPTERS_QEMU_QMP_H

/*
 * A QMP client without I/O: bytes of the socket come in, messages come out; commands go in,
 * bytes for the socket come out. Everything the peer sends is hostile: message size,
 * nesting, number of values and open commands are bounded, and whatever breaks a bound or
 * the protocol ends the connection with a reason.
 *
 * A peer that does not answer in time is *silent*, which is no end: a QEMU that was stopped, or
 * waits for a disk, answers when it goes on, and until then a new connection would only fill
 * its backlog. The next message makes it talk again, and what it owes has the full time anew.
 *
 * Order of use: qmp_feed(), then qmp_next() until VMSIG_ERR_WOULD_BLOCK, then write
 * qmp_output(). After VMSIG_ERR_PROTOCOL only qmp_reason() and qmp_free() make sense. Times are
 * milliseconds on one monotonic clock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* The longest reply is `info mtree -f`, some 8 KiB for each device with an address space of its
 * own; the one with most values lists block nodes, some 60 each. What is more than these costs
 * the loop too much in one piece. */
#define QMP_MAX_MESSAGE (4u << 20) /* default bound of one message, bytes */
#define QMP_MAX_DEPTH 32           /* nesting; QEMU's own replies stay below 10 */
#define QMP_MAX_VALUES (1u << 16)  /* members and elements of one message */
#define QMP_MAX_PENDING 16         /* commands without a reply */

struct qmp;

struct qmp_limits {
	size_t max_message;  /* bytes; 0: QMP_MAX_MESSAGE */
	uint64_t timeout_ms; /* for the greeting and for each command */
};

enum qmp_kind {
	QMP_GREETING = 1, /* the server spoke; capabilities are being negotiated */
	QMP_READY,        /* commands are possible */
	QMP_REPLY,
	QMP_STALE, /* a reply to a client that had the connection before */
	QMP_EVENT,
};

struct qmp_message {
	enum qmp_kind kind;
	uint64_t id;        /* REPLY: what qmp_command() gave */
	json_t *value;      /* REPLY: the return value; EVENT: data, may be NULL. Borrowed */
	const char *name;   /* EVENT: its name. REPLY: the error class, NULL on success. Borrowed */
	const char *detail; /* REPLY: the error's description. Borrowed */
	uint64_t stamp_us;  /* EVENT: when, by the host's clock of the day; 0: it does not say */
	json_t *root;       /* owns all of the above */
};

__attribute__((warn_unused_result)) int qmp_new(
	struct qmp **ret_qmp, const struct qmp_limits *limits, uint64_t now_ms);
/* A connection that another client has negotiated and left between two messages: instead of waiting
 * for a greeting it asks for a sign, and is READY when that has come. What was asked before is
 * STALE; events are told, as none was lost. 0, -ENOMEM. */
__attribute__((warn_unused_result)) int qmp_resume(
	struct qmp **ret_qmp, const struct qmp_limits *limits, uint64_t now_ms);
/* Accepts NULL, returns NULL. */
struct qmp *qmp_free(struct qmp *qmp);

/* Takes bytes of the peer. 0, -ENOMEM. */
__attribute__((warn_unused_result)) int qmp_feed(struct qmp *qmp, const void *data, size_t len);

/* The next message; the caller releases it with qmp_message_clear(). 0;
 * VMSIG_ERR_WOULD_BLOCK: more bytes are needed; VMSIG_ERR_PROTOCOL; -ENOMEM. */
__attribute__((warn_unused_result)) int qmp_next(
	struct qmp *qmp, uint64_t now_ms, struct qmp_message *ret_message);
void qmp_message_clear(struct qmp_message *message);

/* Queues a command. `arguments` may be NULL; the reference is taken in every case. 0;
 * VMSIG_ERR_NOT_READY: not negotiated yet; VMSIG_ERR_BUSY: QMP_MAX_PENDING; -ENOMEM. */
__attribute__((warn_unused_result)) int qmp_command(
	struct qmp *qmp, const char *name, json_t *arguments, uint64_t now_ms, uint64_t *ret_id);

/* Bytes to send, NULL and 0 when there are none; valid until the next call. */
const void *qmp_output(const struct qmp *qmp, size_t *ret_len);
void qmp_output_consumed(struct qmp *qmp, size_t len);

/* When the oldest unanswered thing times out; UINT64_MAX: nothing is open, or the peer is silent
 * already. */
uint64_t qmp_deadline(const struct qmp *qmp);
/* 0 or VMSIG_ERR_TIMEOUT: it is silent from now on, and qmp_reason() says what it owes. */
__attribute__((warn_unused_result)) int qmp_advance(struct qmp *qmp, uint64_t now_ms);

/* Whether all that was fed was taken, and all that was queued was consumed: another client can go
 * on from here. */
bool qmp_is_settled(const struct qmp *qmp);

bool qmp_is_silent(const struct qmp *qmp);

/* Why the connection is over, or the peer called silent, a sentence; "" while neither is so. */
const char *qmp_reason(const struct qmp *qmp);

#endif
