/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_DIALECT_H
#define BROKER_PLANES_DIALECT_H

/*
 * What the planes do alike: Hello, errors, what may come when, and handing requests to their
 * handlers. A plane has a dialect (`plane_ops.dialect`), and dialect_frame() and
 * dialect_farewell() as its frame() and farewell(); its state begins with a struct
 * plane_client.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/net/conn.h"
#include "proto/wire/envelope.h"
#include "proto/wire/unpack.h"

/* When a request came, by its number: of those that are under way in greater numbers some are not
 * measured. */
#define DIALECT_TIMED 8u
struct dialect_timed {
	uint64_t request_id, since_ns;
};

/* One client of a plane; the first member of what the plane keeps for it. */
struct plane_client {
	struct conn *conn;
	bool greeted; /* has said Hello */
	struct dialect_timed timed[DIALECT_TIMED];
};

struct histogram;
struct services;

/* One kind of request, beside hello; all of them come after it. The request is freed afterwards,
 * unless the handler keeps it: unpack_ref(). */
struct request_rule {
	int (*handle)(void *client, void *request);
	bool answered;  /* has an answer: needs a number and room for it */
	uint32_t roles; /* who may ask, of those that the plane lets in; 0: all of them */
};

struct dialect {
	const ProtobufCMessageDescriptor *request, *message;
	const struct request_rule *rules; /* by body case */
	size_t nrules;
	struct unpack_budget budget; /* of one request; Hello has its own */
	/* Whether requests can be served at the moment; `why` gets a sentence. May be NULL. */
	int (*check)(void *client, const char **why);
	/* Where it is counted how long requests take, from their frame to their answer; NULL: the
	 * plane does so itself. */
	struct histogram *(*duration)(struct services *services);
	/* What Hello offers, bits of proto/wire/feature.h; and what the client's said. May be NULL.
	 */
	uint64_t features;
	void (*greet)(void *client, uint64_t features);
};

/* Queues a message of the connection's dialect with this body. As conn_send(). */
__attribute__((warn_unused_result)) int dialect_send(
	struct conn *conn, uint64_t request_id, int body_case, void *body);
/* `error` may be negative: out of memory. NULL: the error's own sentence. */
__attribute__((warn_unused_result)) int dialect_error(
	struct conn *conn, uint64_t request_id, int error, const char *detail);
__attribute__((warn_unused_result)) int dialect_done(struct conn *conn, uint64_t request_id);
/* Done, or the error. */
__attribute__((warn_unused_result)) int dialect_answer(
	struct conn *conn, uint64_t request_id, int error, const char *detail);

/* Says in the log and to the client that it was refused for what it or its tenant has. */
__attribute__((warn_unused_result)) int dialect_refusal(
	struct conn *conn, uint64_t request_id, const struct account_refusal *refusal);

/* Says why, and closes: the plane's client is gone after this. Returns 0. */
int dialect_cut_off(struct conn *conn, const char *why);

/* plane_ops.frame: unpacks it within the dialect's budget, and answers hello or hands the
 * request to its handler. What is no request of this plane closes the connection; one with more
 * in it than a request may have is answered with BAD_REQUEST. */
__attribute__((warn_unused_result)) int dialect_frame(
	struct conn *conn, void *client, const uint8_t *data, size_t len);
/* plane_ops.farewell: an error that answers nothing. */
void dialect_farewell(struct conn *conn, int error, const char *detail);

#endif
