/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_COURIER_H
#define BROKER_ETCD_COURIER_H

/*
 * HTTP requests on the loop: libcurl's multi interface over libuv's handles. Nothing of it waits:
 * hosts are addresses and no names, keys and certificates are in memory, and no proxy is asked for.
 * A TLS handshake is some 2 ms of the loop (P-256), and there are as many as connections are made:
 * COURIER_CONNECTIONS at most at a time, which are kept. However much members send, it has half of
 * the loop's time, in pieces of some ten milliseconds.
 *
 * What was handed to a connection is never handed to another one: curl would send it again when a
 * connection that was kept turns out to be dead, and whether the first was heard is not known.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>
#include <uv.h>

#define COURIER_CONNECTIONS 8u

struct courier;

/* How it ended. */
enum courier_end {
	COURIER_ANSWERED, /* status and reply are there */
	COURIER_UNSENT,   /* nothing of its body left */
	COURIER_LOST,     /* some of it may have */
};

/* PEM texts; NULL: none is needed, for plain HTTP. Copied. */
struct courier_keys {
	const char *ca, *cert, *key;
};

/* A request, embedded in what waits for it, and zeroed before. The first members are the
 * caller's, and stay until it is done or cancelled. */
struct courier_parcel {
	const char *url;  /* copied */
	const char *body; /* NULL: a GET without one */
	size_t body_len;
	uint64_t timeout_ms;         /* of all of it; 0: it is a stream, which goes on */
	uint64_t connect_timeout_ms; /* of its connection */
	size_t reply_max;            /* bytes; more ends it */
	/* Of a stream: bytes as they come. False: it has to end, and done() comes. */
	bool (*heard)(struct courier_parcel *parcel, const char *data, size_t len);
	/* Once, from the loop, and never from inside of courier_send(). It may free the parcel. */
	void (*done)(struct courier_parcel *parcel, enum courier_end end);

	long status; /* of HTTP */
	char *reply; /* until done() returns */
	size_t reply_len;
	char why[CURL_ERROR_SIZE]; /* of UNSENT and LOST: a sentence */

	struct courier *courier; /* the courier's from here on */
	CURL *easy;
	struct curl_slist *headers;
	size_t taken;   /* of the body */
	bool too_large; /* the reply is */
	struct courier_parcel *prev, *next;
};

__attribute__((warn_unused_result)) int courier_new(
	struct courier **ret_courier, uv_loop_t *loop, const struct courier_keys *keys);
/* For connections that are made from now on; those that are kept end. -ENOMEM. */
__attribute__((warn_unused_result)) int courier_rekey(
	struct courier *courier, const struct courier_keys *keys);
/* -ENOMEM: done() does not come. */
__attribute__((warn_unused_result)) int courier_send(
	struct courier *courier, struct courier_parcel *parcel);
/* done() does not come. Nothing, of one that was not sent or is done. Not from heard(). */
void courier_cancel(struct courier_parcel *parcel);
/* CPU time of this thread, and how much of it went into what came, beside done() and heard(). */
uint64_t courier_clock(void);
void courier_spent(struct courier *courier, uint64_t ns);
/* No parcel is under way. Frees the courier from the loop, and then calls `closed`. */
void courier_close(struct courier *courier, void (*closed)(void *arg), void *arg);

#endif
