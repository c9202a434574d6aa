/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_WRITE_CLIENT_H
#define TESTS_SUPPORT_WRITE_CLIENT_H

/*
 * A client of the write or the admin plane that can do what libvmsig would never do.
 * Blocking; waiting too long fails the test.
 */

#include "proto/wire/chan.h"
#include "proto/wire/vmsig.pb-c.h"
#include "tests/support/daemon.h"

struct write_client {
	struct chan *chan;
	uint64_t next_id;
	uint64_t writer; /* named in commands */
};

/* Connects to dir/run/SOCKET, shakes hands, says hello; all must succeed. */
void write_client_open(struct write_client *client, struct daemon *daemon, const char *socket,
	const struct pki_cert *cert);
void write_client_close(struct write_client *client);

/* Sends a request with the body that was set, with these descriptors beside it, which stay the
 * caller's. Gives it an id when it has none. */
uint64_t write_client_send(
	struct write_client *client, Vmsig__WriteRequest *request, const int *fds, size_t nfds);
uint64_t write_client_send_admin_with(
	struct write_client *client, Vmsig__AdminRequest *request, const int *fds, size_t nfds);
uint64_t write_client_send_admin(struct write_client *client, Vmsig__AdminRequest *request);
/* The next message, to be freed by its own free_unpacked(); NULL: the connection has ended. */
Vmsig__WriteMessage *write_client_receive(struct write_client *client);
Vmsig__AdminMessage *write_client_receive_admin(struct write_client *client);
void write_client_free_message(Vmsig__WriteMessage *message);
/* The next message must be of this kind. */
Vmsig__WriteMessage *write_client_expect(
	struct write_client *client, Vmsig__WriteMessage__BodyCase body);
/* The next message must be an error with this code, in answer to the request. */
void write_client_expect_error(struct write_client *client, uint64_t id, int code);

struct write_lease {
	uint64_t id, token;
	uint32_t endpoint, epoch;
};

/* Asks for a lease of the range (last == 0: the whole endpoint). */
uint64_t write_client_ask(struct write_client *client, const char *endpoint, uint64_t start,
	uint64_t last, uint32_t ttl_ms, uint32_t priority, bool no_wait);
/* Takes the grant, a LeaseWaiting before it skipped. */
struct write_lease write_client_granted(struct write_client *client);
/* Both. */
struct write_lease write_client_acquire(struct write_client *client, const char *endpoint);

/* One operation, guest-physical; the outcome is still to be received. */
uint64_t write_client_write(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, const void *data, size_t len, const void *expect);
/* What a message says of a memfd with data to write. */
void write_client_describe(Vmsig__Descriptor *ret_descriptor, int memfd);
/* One with these bytes, sealed as bulk data has to be; the caller closes it. */
int write_client_memfd(const void *data, size_t len);
/* Bulk data, all of the memfd's first `len` bytes; the descriptor stays the caller's. */
uint64_t write_client_bulk(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, int memfd, uint64_t len);
/* The outcome of a WriteResult that must be the next message. */
int write_client_outcome(struct write_client *client);

/* The next answer to a request, an error or an outcome; what is told beside it is skipped. */
int write_client_answer(struct write_client *client, uint64_t id);
/* Writes one word, and waits for the answer. */
int write_client_put(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, uint64_t word);
/* A lease of all of the endpoint, that outlasts the test. */
struct write_lease write_client_lease(struct write_client *client, const char *endpoint);

#endif
