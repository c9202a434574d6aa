/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_UPLINK_H
#define CLIENTS_LIB_UPLINK_H

/*
 * One connection to a plane of the broker that is made again when it ends: identity, socket,
 * TLS, hello, time-outs, pauses, interest in the socket. What passes over it is its owner's
 * business. Shared by the three kinds of handle: client.h, writer.h, admin.c.
 *
 *   uplink.c    its phases, frames and turns
 *   settings.c  what it was opened with, and the identity
 *   dial.c      the socket
 *   backoff.c   pauses
 *
 * Internal functions return 0, a positive enum vmsig_error or a negative errno; what ends the
 * connection goes through the return value of the owner's callbacks.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/lib/backoff.h"
#include "clients/lib/settings.h"
#include "proto/wire/chan.h"
#include "proto/wire/envelope.h"
#include "proto/wire/tls.h"
#include "vmsig/vmsig.h"

#define CLIENT_TEXT_MAX 1023u  /* bytes of a text of the broker that are kept */
#define CLIENT_NEVER INT64_MAX /* a moment that does not come */

enum client_phase {
	PHASE_PAUSE,     /* no socket; link.retry_at is the next attempt */
	PHASE_HANDSHAKE, /* connected, TLS goes on */
	PHASE_HELLO,     /* our hello is sent, the broker's awaited */
	PHASE_READY,
	PHASE_FAILED, /* VMSIG_OPT_NO_RECONNECT: over for good */
};

struct uplink_ops {
	const char *default_socket;
	const ProtobufCMessageDescriptor *request, *message;
	/* The broker said hello. */
	void (*up)(void *owner);
	/* The connection is over; link->error has the sentence. `news`: it was up, or this
	 * failure is another one than the last. */
	void (*down)(void *owner, int code, bool news);
	/* A message after hello, borrowed. Anything but 0 ends the connection. */
	int (*take)(void *owner, const struct envelope *message);
	/* No more can be taken before the holder has taken some. */
	bool (*is_full)(const void *owner);
	/* Sends what is due, once per turn. Anything but 0 ends the connection. */
	int (*due)(void *owner, int64_t now);
	/* Whether an answer is overdue. */
	bool (*is_overdue)(const void *owner, int64_t now);
	/* The next moment at which due() has something to do or an answer is overdue; also while
	 * there is no connection. */
	int64_t (*deadline)(const void *owner);
};

struct uplink {
	const struct uplink_ops *ops;
	void *owner;

	struct settings settings;

	enum client_phase phase;
	struct tls_ctx *tls;
	struct chan *chan;
	int epoll;
	uint32_t armed;   /* interest in the socket that epoll knows of */
	bool more;        /* frames may be left in the channel although the socket is quiet */
	bool polled;      /* by uplink_step(), which is told again of what is left */
	bool unread;      /* nobody has looked for what has come since the last uplink_send() */
	int64_t deadline; /* of connecting; CLOCK_MONOTONIC ns, as all times here */
	int64_t retry_at;
	int64_t ready_at;
	struct backoff backoff;
	int failed;       /* positive, in PHASE_FAILED */
	int told;         /* the error of the last end, 0 once connected */
	uint64_t number;  /* counts connections that said hello */
	uint64_t last_id; /* request id */
	char software[64];
	struct identity broker;
	char error[CLIENT_TEXT_MAX + 1];
};

int64_t client_now(void);
/* now + ms, CLIENT_NEVER when that is not representable. */
int64_t client_after(int64_t now, uint32_t ms);
/* The public form of an internal result: a negated enum vmsig_error. */
int client_result(int r);
/* Control characters become '?'; cut to `size`. */
void client_clean_text(char *to, size_t size, const char *text);

/* Copies and checks the options, reads the identity once to say now what is wrong with it.
 * The sentence is in link->error. uplink_deinit() also after a failure. */
__attribute__((warn_unused_result)) int uplink_init(struct uplink *link,
	const struct uplink_ops *ops, void *owner, const vmsig_options *options);
void uplink_deinit(struct uplink *link);

/* Of a handle that cannot be opened: its sentence into `error`, and the public form of `r`. `link`
 * may be NULL: there was no memory for one. */
int uplink_refuse(const struct uplink *link, int r, char *error, size_t error_size);

/* What a message is for, by the number of its body. */
typedef int (*uplink_handler)(void *owner, const struct envelope *message);
__attribute__((warn_unused_result)) int uplink_dispatch(
	const uplink_handler *handlers, size_t count, void *owner, const struct envelope *message);

/* Remembers the sentence and returns `code` as it is. */
__attribute__((format(printf, 3, 4))) int uplink_fail(
	struct uplink *link, int code, const char *format, ...);

/* Everything that is due or possible. Only what vmsig_process() may return. */
__attribute__((warn_unused_result)) int uplink_process(struct uplink *link);
/* As uplink_process(), but leaves what has come to the uplink_step() that follows, which looks
 * whether there is something before it reads. */
__attribute__((warn_unused_result)) int uplink_send(struct uplink *link);
int64_t uplink_deadline(const struct uplink *link);
/* Packs and queues a request with descriptors, which are the link's on success; ret_id
 * receives its id. VMSIG_ERR_QUOTA: the send queue is full. */
__attribute__((warn_unused_result)) int uplink_request(struct uplink *link, int body_case,
	void *body, const int *fds, size_t nfds, uint64_t *ret_id);

/* One round of the loop that every blocking call is. */
__attribute__((warn_unused_result)) int uplink_step(struct uplink *link, int64_t until);
/* CLOCK_MONOTONIC moment of a blocking call's time-out; -1: never. */
int64_t uplink_until(int timeout_ms);

#endif
