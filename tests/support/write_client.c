/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/write_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

static const struct chan_limits limits = {
	.frame_max = CHAN_FRAME_MAX, .tx_max = 16u << 20, .rx_fds_max = 0};

static void await(struct write_client *client, short events)
{
	struct pollfd poller = {.fd = chan_socket(client->chan), .events = events};

	if (poll(&poller, 1, DAEMON_WAIT_MS) != 1)
		fail_msg("vmsigd does not answer");
}

static int socket_open(struct daemon *daemon, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/run/%s", daemon_dir(daemon), name);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		fail_msg("connect %s: %s", addr.sun_path, strerror(errno));
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static void shake_hands(struct write_client *client)
{
	for (;;) {
		int r = chan_handshake(client->chan);

		(void)!chan_drain(client->chan);
		if (r != VMSIG_ERR_WOULD_BLOCK) {
			assert_int_equal(r, 0);
			return;
		}
		await(client, POLLIN);
		(void)!chan_fill(client->chan);
	}
}

static void say_hello(struct write_client *client)
{
	Vmsig__Hello hello = VMSIG__HELLO__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;

	/* The same bytes on every plane. */
	hello.version = 1;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_HELLO;
	request.hello = &hello;
	write_client_send(client, &request, NULL, 0);
	write_client_free_message(write_client_expect(client, VMSIG__WRITE_MESSAGE__BODY_HELLO));
}

void write_client_open(struct write_client *client, struct daemon *daemon, const char *socket,
	const struct pki_cert *cert)
{
	struct tls_files files = pki_files(daemon_pki(daemon), cert, NULL);
	struct tls_ctx *tls = NULL;
	char error[256];

	*client = (struct write_client){.next_id = 1, .writer = 1};
	if (tls_ctx_new(&tls, TLS_CLIENT, &files, IDENTITY_BROKER, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(chan_new(&client->chan, tls, socket_open(daemon, socket), &limits), 0);
	tls_ctx_unref(tls);
	shake_hands(client);
	say_hello(client);
}

void write_client_close(struct write_client *client)
{
	client->chan = chan_free(client->chan);
}

static void send_packed(
	struct write_client *client, const ProtobufCMessage *request, const int *fds, size_t nfds)
{
	size_t len = protobuf_c_message_get_packed_size(request);
	uint8_t *buf = malloc(len);
	int copies[CHAN_FDS_PER_FRAME];

	assert_non_null(buf);
	protobuf_c_message_pack(request, buf);
	for (size_t i = 0; i < nfds; i++)
		copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	assert_int_equal(chan_send(client->chan, buf, len, copies, nfds), 0);
	free(buf);
	while (chan_drain(client->chan) == VMSIG_ERR_WOULD_BLOCK)
		await(client, POLLOUT);
}

uint64_t write_client_send(
	struct write_client *client, Vmsig__WriteRequest *request, const int *fds, size_t nfds)
{
	if (!request->request_id)
		request->request_id = client->next_id++;
	send_packed(client, &request->base, fds, nfds);
	return request->request_id;
}

uint64_t write_client_send_admin_with(
	struct write_client *client, Vmsig__AdminRequest *request, const int *fds, size_t nfds)
{
	request->request_id = client->next_id++;
	send_packed(client, &request->base, fds, nfds);
	return request->request_id;
}

uint64_t write_client_send_admin(struct write_client *client, Vmsig__AdminRequest *request)
{
	return write_client_send_admin_with(client, request, NULL, 0);
}

static ProtobufCMessage *receive(
	struct write_client *client, const ProtobufCMessageDescriptor *type)
{
	ProtobufCMessage *message;
	const uint8_t *data;
	size_t len;

	for (;;) {
		int r = chan_recv(client->chan, &data, &len);

		if (r == 0)
			break;
		if (r != VMSIG_ERR_WOULD_BLOCK)
			return NULL;
		await(client, POLLIN);
		r = chan_fill(client->chan);
		if (r && r != VMSIG_ERR_WOULD_BLOCK && r != VMSIG_ERR_DISCONNECTED)
			return NULL;
	}
	message = protobuf_c_message_unpack(type, NULL, len, data);
	assert_non_null(message);
	return message;
}

Vmsig__WriteMessage *write_client_receive(struct write_client *client)
{
	return (Vmsig__WriteMessage *)(void *)receive(client, &vmsig__write_message__descriptor);
}

Vmsig__AdminMessage *write_client_receive_admin(struct write_client *client)
{
	return (Vmsig__AdminMessage *)(void *)receive(client, &vmsig__admin_message__descriptor);
}

void write_client_free_message(Vmsig__WriteMessage *message)
{
	vmsig__write_message__free_unpacked(message, NULL);
}

Vmsig__WriteMessage *write_client_expect(
	struct write_client *client, Vmsig__WriteMessage__BodyCase body)
{
	Vmsig__WriteMessage *message = write_client_receive(client);

	if (!message) {
		fail_msg("the connection has ended: %s", chan_error(client->chan));
		abort(); /* the analyser does not see that it was left */
	}
	if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR && body != message->body_case)
		fail_msg("error %s: %s", vmsig_error_name((int)message->error->code),
			message->error->detail);
	assert_int_equal(message->body_case, body);
	return message;
}

void write_client_expect_error(struct write_client *client, uint64_t id, int code)
{
	Vmsig__WriteMessage *message =
		write_client_expect(client, VMSIG__WRITE_MESSAGE__BODY_ERROR);

	assert_string_equal(vmsig_error_name((int)message->error->code), vmsig_error_name(code));
	assert_true(message->error->detail[0]);
	assert_int_equal(message->request_id, id);
	write_client_free_message(message);
}

uint64_t write_client_ask(struct write_client *client, const char *endpoint, uint64_t start,
	uint64_t last, uint32_t ttl_ms, uint32_t priority, bool no_wait)
{
	Vmsig__LeaseAcquire body = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range range = VMSIG__RANGE__INIT, *ranges = &range;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;

	range.start = start;
	range.last = last;
	body.endpoint = (char *)(uintptr_t)endpoint;
	body.ranges = &ranges;
	body.n_ranges = last ? 1 : 0;
	body.ttl_ms = ttl_ms;
	body.priority = priority;
	body.no_wait = no_wait;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE;
	request.lease_acquire = &body;
	return write_client_send(client, &request, NULL, 0);
}

struct write_lease write_client_granted(struct write_client *client)
{
	Vmsig__WriteMessage *message = write_client_receive(client);
	struct write_lease lease;

	assert_non_null(message);
	if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING) {
		write_client_free_message(message);
		message = write_client_receive(client);
		assert_non_null(message);
	}
	if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR)
		fail_msg("error %s: %s", vmsig_error_name((int)message->error->code),
			message->error->detail);
	assert_int_equal(message->body_case, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO);
	lease = (struct write_lease){.id = message->lease_info->lease,
		.token = message->lease_info->token,
		.endpoint = message->lease_info->endpoint,
		.epoch = message->lease_info->epoch};
	write_client_free_message(message);
	return lease;
}

struct write_lease write_client_acquire(struct write_client *client, const char *endpoint)
{
	write_client_ask(client, endpoint, 0, 0, 0, 0, false);
	return write_client_granted(client);
}

/* Under which lease it is, and the how manieth of the client. */
static void address(Vmsig__CmdMemwrite *body, const struct write_client *client,
	const struct write_lease *lease, uint64_t sequence)
{
	body->lease = lease->id;
	body->token = lease->token;
	body->endpoint = lease->endpoint;
	body->epoch = lease->epoch;
	body->writer = client->writer;
	body->sequence = sequence;
}

uint64_t write_client_write(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, const void *data, size_t len, const void *expect)
{
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__WriteOp op = VMSIG__WRITE_OP__INIT, *ops = &op;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;

	op.addr = addr;
	op.data = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = len};
	if (expect)
		op.expect = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)expect, .len = len};
	address(&body, client, lease, sequence);
	body.ops = &ops;
	body.n_ops = 1;
	body.want_old = true;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	return write_client_send(client, &request, NULL, 0);
}

void write_client_describe(Vmsig__Descriptor *ret_descriptor, int memfd)
{
	struct chan_fd_claim claim;

	assert_int_equal(chan_fd_describe(memfd, &claim), 0);
	vmsig__descriptor__init(ret_descriptor);
	ret_descriptor->purpose = VMSIG__DESCRIPTOR__PURPOSE__WRITE_DATA;
	ret_descriptor->dev = claim.dev;
	ret_descriptor->ino = claim.ino;
	ret_descriptor->size = claim.size;
	ret_descriptor->access = claim.access;
}

int write_client_memfd(const void *data, size_t len)
{
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

uint64_t write_client_bulk(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, int memfd, uint64_t len)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	Vmsig__Descriptor data = VMSIG__DESCRIPTOR__INIT;
	Vmsig__WriteBulk bulk = VMSIG__WRITE_BULK__INIT;

	write_client_describe(&data, memfd);
	bulk.addr = addr;
	bulk.len = len;
	bulk.data = &data;
	address(&body, client, lease, sequence);
	body.bulk = &bulk;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	return write_client_send(client, &request, &memfd, 1);
}

int write_client_outcome(struct write_client *client)
{
	Vmsig__WriteMessage *message =
		write_client_expect(client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	int outcome = (int)message->write_result->outcome;

	write_client_free_message(message);
	return outcome;
}

int write_client_answer(struct write_client *client, uint64_t id)
{
	for (;;) {
		Vmsig__WriteMessage *message = write_client_receive(client);
		int code = 0;
		bool ours;

		assert_non_null(message);
		ours = message->request_id == id;
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR)
			code = (int)message->error->code;
		else if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT)
			code = (int)message->write_result->outcome;
		write_client_free_message(message);
		if (ours)
			return code;
	}
}

int write_client_put(struct write_client *client, const struct write_lease *lease,
	uint64_t sequence, uint64_t addr, uint64_t word)
{
	return write_client_answer(client,
		write_client_write(client, lease, sequence, addr, &word, sizeof(word), NULL));
}

struct write_lease write_client_lease(struct write_client *client, const char *endpoint)
{
	write_client_ask(client, endpoint, 0, 0, 3600000, 0, false);
	return write_client_granted(client);
}
