/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ctx_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX, .tx_max = 16u << 20, .rx_fds_max = 2 * CHAN_FDS_PER_FRAME};

static void await(struct ctx_client *client, short events)
{
	struct pollfd poller = {.fd = chan_socket(client->chan), .events = events};

	if (poll(&poller, 1, DAEMON_WAIT_MS) != 1)
		fail_msg("vmsigd does not answer");
}

int ctx_client_socket(struct daemon *daemon)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strncpy(addr.sun_path, daemon_socket(daemon), sizeof(addr.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		fail_msg("connect: %s", strerror(errno));
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

bool ctx_client_connect(
	struct ctx_client *client, struct daemon *daemon, const struct pki_cert *cert)
{
	struct tls_files files = pki_files(daemon_pki(daemon), cert, NULL);
	struct tls_ctx *tls = NULL;
	char error[256];
	int r;

	*client = (struct ctx_client){.next_id = 1};
	if (tls_ctx_new(&tls, TLS_CLIENT, &files, IDENTITY_BROKER, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(chan_new(&client->chan, tls, ctx_client_socket(daemon), &limits), 0);
	tls_ctx_unref(tls);
	for (;;) {
		r = chan_handshake(client->chan);
		(void)!chan_drain(client->chan);
		if (r != VMSIG_ERR_WOULD_BLOCK)
			break;
		await(client, POLLIN);
		(void)!chan_fill(client->chan);
	}
	client->error = r;
	return r == 0;
}

void ctx_client_open_with(struct ctx_client *client, struct daemon *daemon,
	const struct pki_cert *cert, uint64_t features)
{
	Vmsig__CtxMessage *message;

	assert_true(ctx_client_connect(client, daemon, cert));
	ctx_client_hello(client, features);
	message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_HELLO);
	assert_int_equal(message->hello->version, 1);
	ctx_client_free_message(message);
}

void ctx_client_open(struct ctx_client *client, struct daemon *daemon, const struct pki_cert *cert)
{
	ctx_client_open_with(client, daemon, cert, 0);
}

void ctx_client_close(struct ctx_client *client)
{
	client->chan = chan_free(client->chan);
}

void ctx_client_send_raw(struct ctx_client *client, const void *data, size_t len)
{
	assert_int_equal(chan_send(client->chan, data, len, NULL, 0), 0);
	while (chan_drain(client->chan) == VMSIG_ERR_WOULD_BLOCK)
		await(client, POLLOUT);
}

uint64_t ctx_client_send(struct ctx_client *client, Vmsig__CtxRequest *request)
{
	uint8_t buf[4096];
	size_t len;

	if (!request->request_id)
		request->request_id = client->next_id++;
	len = vmsig__ctx_request__get_packed_size(request);
	assert_true(len <= sizeof(buf));
	vmsig__ctx_request__pack(request, buf);
	ctx_client_send_raw(client, buf, len);
	return request->request_id;
}

static bool next_frame(struct ctx_client *client, const uint8_t **ret_data, size_t *ret_len)
{
	for (;;) {
		int r = chan_recv(client->chan, ret_data, ret_len);

		if (r == 0)
			return true;
		if (r != VMSIG_ERR_WOULD_BLOCK) {
			client->error = r;
			return false;
		}
		await(client, POLLIN);
		/* An end of the stream comes out of chan_recv(), after what came before it. */
		r = chan_fill(client->chan);
		if (r && r != VMSIG_ERR_WOULD_BLOCK && r != VMSIG_ERR_DISCONNECTED) {
			client->error = r;
			return false;
		}
	}
}

Vmsig__CtxMessage *ctx_client_receive(struct ctx_client *client)
{
	Vmsig__CtxMessage *message;
	const uint8_t *data;
	size_t len;

	if (!next_frame(client, &data, &len))
		return NULL;
	message = vmsig__ctx_message__unpack(NULL, len, data);
	assert_non_null(message);
	return message;
}

void ctx_client_free_message(Vmsig__CtxMessage *message)
{
	vmsig__ctx_message__free_unpacked(message, NULL);
}

bool ctx_client_silent(struct ctx_client *client, int ms)
{
	struct pollfd poller = {.fd = chan_socket(client->chan), .events = POLLIN};
	const uint8_t *data;
	size_t len;

	if (poll(&poller, 1, ms) == 0)
		return true;
	(void)!chan_fill(client->chan);
	/* TLS has records of its own. */
	return chan_recv(client->chan, &data, &len) == VMSIG_ERR_WOULD_BLOCK;
}

/* ---- requests ---- */

uint64_t ctx_client_hello(struct ctx_client *client, uint64_t features)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Hello hello = VMSIG__HELLO__INIT;

	hello.version = 1;
	hello.features = features;
	hello.software = (char *)(uintptr_t) "test";
	request.body_case = VMSIG__CTX_REQUEST__BODY_HELLO;
	request.hello = &hello;
	return ctx_client_send(client, &request);
}

uint64_t ctx_client_list(struct ctx_client *client)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__List list = VMSIG__LIST__INIT;

	request.body_case = VMSIG__CTX_REQUEST__BODY_LIST;
	request.list = &list;
	return ctx_client_send(client, &request);
}

uint64_t ctx_client_subscribe(struct ctx_client *client, const char *endpoint)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Subscribe subscribe = VMSIG__SUBSCRIBE__INIT;

	subscribe.endpoint = (char *)(uintptr_t)endpoint;
	request.body_case = VMSIG__CTX_REQUEST__BODY_SUBSCRIBE;
	request.subscribe = &subscribe;
	return ctx_client_send(client, &request);
}

uint64_t ctx_client_unsubscribe(struct ctx_client *client, const char *endpoint)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Unsubscribe unsubscribe = VMSIG__UNSUBSCRIBE__INIT;

	unsubscribe.endpoint = (char *)(uintptr_t)endpoint;
	request.body_case = VMSIG__CTX_REQUEST__BODY_UNSUBSCRIBE;
	request.unsubscribe = &unsubscribe;
	return ctx_client_send(client, &request);
}

void ctx_client_taken(struct ctx_client *client, uint64_t delivery)
{
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__MemctxTaken taken = VMSIG__MEMCTX_TAKEN__INIT;

	taken.delivery = delivery;
	request.body_case = VMSIG__CTX_REQUEST__BODY_MEMCTX_TAKEN;
	request.memctx_taken = &taken;
	ctx_client_send(client, &request);
}

/* ---- expectations ---- */

static void check_body(struct ctx_client *client, const Vmsig__CtxMessage *message,
	Vmsig__CtxMessage__BodyCase body)
{
	if (!message) {
		fail_msg("instead of message %d the connection ended: %s", body,
			chan_error(client->chan));
		/* cmocka's declaration does not say that this is never reached. */
		abort();
	}
	if (message->body_case == VMSIG__CTX_MESSAGE__BODY_ERROR && message->body_case != body)
		fail_msg("instead of message %d came the error %s: %s", body,
			vmsig_error_name((int)message->error->code), message->error->detail);
	else if (message->body_case != body)
		fail_msg("instead of message %d came %d", body, message->body_case);
}

Vmsig__CtxMessage *ctx_client_expect(struct ctx_client *client, Vmsig__CtxMessage__BodyCase body)
{
	Vmsig__CtxMessage *message = ctx_client_receive(client);

	check_body(client, message, body);
	return message;
}

void ctx_client_expect_error(struct ctx_client *client, uint64_t id, int code)
{
	Vmsig__CtxMessage *message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ERROR);

	assert_int_equal(message->request_id, id);
	assert_string_equal(vmsig_error_name((int)message->error->code), vmsig_error_name(code));
	assert_true(message->error->detail[0]);
	ctx_client_free_message(message);
}

void ctx_client_expect_done(struct ctx_client *client, uint64_t id)
{
	Vmsig__CtxMessage *message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_DONE);

	assert_int_equal(message->request_id, id);
	ctx_client_free_message(message);
}

void ctx_client_expect_end(struct ctx_client *client)
{
	Vmsig__CtxMessage *message;

	while ((message = ctx_client_receive(client)))
		ctx_client_free_message(message);
}

Vmsig__CtxMessage *ctx_client_expect_memctx(struct ctx_client *client, int ret_fds[2])
{
	static const Vmsig__Descriptor__Purpose purposes[2] = {
		VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM, VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE};
	struct chan_fd_claim claims[2];
	Vmsig__CtxMessage *message = ctx_client_receive(client);

	while (message &&
		(message->body_case == VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE ||
			message->body_case == VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED)) {
		ctx_client_free_message(message);
		message = ctx_client_receive(client);
	}
	check_body(client, message, VMSIG__CTX_MESSAGE__BODY_MEMCTX);
	/* It has failed the test then, which the analyser does not see. */
	if (!message)
		abort();
	assert_int_equal(message->memctx->n_descriptors, 2);
	for (size_t i = 0; i < 2; i++) {
		const Vmsig__Descriptor *d = message->memctx->descriptors[i];

		assert_int_equal(d->purpose, purposes[i]);
		claims[i] = (struct chan_fd_claim){
			.dev = d->dev, .ino = d->ino, .size = d->size, .access = d->access};
	}
	if (chan_take_fds(client->chan, claims, 2, ret_fds))
		fail_msg("%s", chan_error(client->chan));
	assert_int_equal(chan_pending_fds(client->chan), 0);
	if (message->memctx->delivery)
		ctx_client_taken(client, message->memctx->delivery);
	return message;
}

uint32_t ctx_client_epoch(struct daemon *daemon, const struct pki_cert *cert, const char *endpoint)
{
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	uint32_t epoch;
	int fds[2];

	ctx_client_open(&client, daemon, cert);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, endpoint));
	message = ctx_client_expect_memctx(&client, fds);
	epoch = message->memctx->epoch;
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
	return epoch;
}
