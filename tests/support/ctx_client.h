/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_CTX_CLIENT_H
#define TESTS_SUPPORT_CTX_CLIENT_H

/*
 * A client of the read plane that can do what libvmsig would never do. Blocking; waiting too
 * long fails the test.
 */

#include "proto/wire/chan.h"
#include "proto/wire/vmsig.pb-c.h"
#include "tests/support/daemon.h"

struct ctx_client {
	struct chan *chan;
	uint64_t next_id;
	int error; /* what ended the connection, or 0 */
};

/* Connects and shakes hands. Whether the client's side of the handshake was completed: the
 * broker may refuse after that, and then the connection ends. */
bool ctx_client_connect(
	struct ctx_client *client, struct daemon *daemon, const struct pki_cert *cert);
/* Connects, shakes hands and says hello; all must succeed. */
void ctx_client_open(struct ctx_client *client, struct daemon *daemon, const struct pki_cert *cert);
/* The same with these features in its hello; ctx_client_open() says none. */
void ctx_client_open_with(struct ctx_client *client, struct daemon *daemon,
	const struct pki_cert *cert, uint64_t features);
void ctx_client_close(struct ctx_client *client);
/* A connected socket without anything on it. */
int ctx_client_socket(struct daemon *daemon);

/* Sends one request with the body that was set; gives it an id when it has none. */
uint64_t ctx_client_send(struct ctx_client *client, Vmsig__CtxRequest *request);
/* Sends bytes as one frame. */
void ctx_client_send_raw(struct ctx_client *client, const void *data, size_t len);
/* The next message, freed by ctx_client_free_message(); NULL when the connection has ended. */
Vmsig__CtxMessage *ctx_client_receive(struct ctx_client *client);
void ctx_client_free_message(Vmsig__CtxMessage *message);
/* Whether something arrives within the time. Takes nothing. */
bool ctx_client_silent(struct ctx_client *client, int ms);

uint64_t ctx_client_hello(struct ctx_client *client, uint64_t features);
uint64_t ctx_client_list(struct ctx_client *client);
uint64_t ctx_client_subscribe(struct ctx_client *client, const char *endpoint);
uint64_t ctx_client_unsubscribe(struct ctx_client *client, const char *endpoint);
void ctx_client_taken(struct ctx_client *client, uint64_t delivery);

/* The next message must have this body. */
Vmsig__CtxMessage *ctx_client_expect(struct ctx_client *client, Vmsig__CtxMessage__BodyCase body);
/* The next message must be an error with this code; it is freed. */
void ctx_client_expect_error(struct ctx_client *client, uint64_t id, int code);
void ctx_client_expect_done(struct ctx_client *client, uint64_t id);
/* Skips messages until the connection ends. */
void ctx_client_expect_end(struct ctx_client *client);
/* The next Memctx, other events of before skipped; its two descriptors, which the caller
 * closes, verified and acknowledged unless it need not be. */
Vmsig__CtxMessage *ctx_client_expect_memctx(struct ctx_client *client, int ret_fds[2]);

/* The endpoint's epoch, once its guest is ready: asked for by a sensor that comes for it, and goes.
 */
uint32_t ctx_client_epoch(struct daemon *daemon, const struct pki_cert *cert, const char *endpoint);

#endif
