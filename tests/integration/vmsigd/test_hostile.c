/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that lie, break the protocol or may not be here. Each is told or cut off, nobody
 * else notices, and the fixture's teardown finds nothing left over.
 */
#include "tests/integration/vmsigd/scene.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Refused after the handshake, with a sentence and then the end. */
static void expect_refused(struct scene *scene, const struct pki_cert *cert, int code)
{
	struct ctx_client client;

	if (ctx_client_connect(&client, scene->daemon, cert)) {
		ctx_client_expect_error(&client, 0, code);
		ctx_client_expect_end(&client);
	}
	ctx_client_close(&client);
	scene_expect_service(scene);
}

static void a_uid_that_is_not_pinned_is_refused(void **state)
{
	struct scene *scene = *state;

	scene_configure_uid(scene, "{}", "{}", getuid() + 1);
	scene_restart(scene);
	expect_refused(scene, &scene->acme, VMSIG_ERR_UNAUTHENTICATED);
	daemon_await_log(scene->daemon, "uid", 1);
}

static void a_tenant_without_policy_is_refused(void **state)
{
	struct scene *scene = *state;

	expect_refused(scene, &scene->stranger, VMSIG_ERR_UNAUTHENTICATED);
}

static void a_role_of_another_plane_fails_the_handshake(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	/* The client's side may be done before the server has looked at the certificate. */
	if (ctx_client_connect(&client, scene->daemon, &scene->admin)) {
		assert_null(ctx_client_receive(&client));
		assert_int_equal(client.error, VMSIG_ERR_UNAUTHENTICATED);
	}
	ctx_client_close(&client);
	daemon_await_log(scene->daemon, "TLS handshake failed", 1);
	scene_expect_service(scene);
}

/* An Error that says why, then the end. */
static void expect_cut_off(struct scene *scene, struct ctx_client *client)
{
	Vmsig__CtxMessage *message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ERROR);

	assert_int_equal(message->error->code, VMSIG_ERR_PROTOCOL);
	assert_true(message->error->detail[0]);
	ctx_client_free_message(message);
	assert_null(ctx_client_receive(client));
	ctx_client_close(client);
	scene_expect_service(scene);
}

static void no_hello_is_a_protocol_error(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	assert_true(ctx_client_connect(&client, scene->daemon, &scene->acme));
	ctx_client_list(&client);
	expect_cut_off(scene, &client);
}

static void a_second_hello_is_a_protocol_error(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_hello(&client, 0);
	expect_cut_off(scene, &client);
}

static void another_version_is_unsupported(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__Hello hello = VMSIG__HELLO__INIT;

	assert_true(ctx_client_connect(&client, scene->daemon, &scene->acme));
	hello.version = 99;
	request.body_case = VMSIG__CTX_REQUEST__BODY_HELLO;
	request.hello = &hello;
	ctx_client_expect_error(&client, ctx_client_send(&client, &request), VMSIG_ERR_UNSUPPORTED);
	/* It may try again with one that both know. */
	ctx_client_hello(&client, 0);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_HELLO));
	ctx_client_close(&client);
}

static void garbage_is_a_protocol_error(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_send_raw(&client, "\xff\xff\xff\xff garbage", 12);
	expect_cut_off(scene, &client);
}

static void an_unknown_request_is_answered(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	/* request_id = 5, and a body with the unknown number 1000. */
	ctx_client_send_raw(&client, "\x08\x05\xc2\x3e\x02hi", 7);
	ctx_client_expect_error(&client, 5, VMSIG_ERR_UNSUPPORTED);
	request.request_id = 6;
	ctx_client_expect_error(&client, ctx_client_send(&client, &request), VMSIG_ERR_UNSUPPORTED);
	/* And the connection goes on. */
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&client);
}

static void a_request_needs_a_number(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	/* An empty List without request_id. */
	ctx_client_send_raw(&client, "\x1a\x00", 2);
	ctx_client_expect_error(&client, 0, VMSIG_ERR_BAD_REQUEST);
	ctx_client_close(&client);
}

static void names_that_make_no_sense_are_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	char longest[300];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_error(&client, ctx_client_subscribe(&client, ""), VMSIG_ERR_BAD_REQUEST);
	ctx_client_expect_error(
		&client, ctx_client_subscribe(&client, longest), VMSIG_ERR_BAD_REQUEST);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "zz*"));
	ctx_client_expect_error(
		&client, ctx_client_subscribe(&client, "zz*"), VMSIG_ERR_BAD_REQUEST);
	ctx_client_close(&client);
}

static void an_oversized_frame_ends_the_connection(void **state)
{
	static uint8_t frame[64 << 10];
	struct scene *scene = *state;
	struct ctx_client client;

	scene_configure(scene, "{frame: 4096}", "{}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	assert_int_equal(chan_send(client.chan, frame, sizeof(frame), NULL, 0), 0);
	(void)!chan_drain(client.chan);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	daemon_await_log(scene->daemon, "over the limit", 1);
	scene_expect_service(scene);
}

/* Small frames of a great many fields: told what is wrong with them, and not worth an end. */
static void a_frame_of_many_fields_is_refused(void **state)
{
	static const uint8_t unknown[] = {0xf8, 0x01, 0x00}; /* field 31, a number */
	struct scene *scene = *state;
	struct ctx_client client;
	uint8_t frame[16 << 10] = {0x08, 0x2a};
	size_t len = 2;

	for (; len + sizeof(unknown) <= sizeof(frame); len += sizeof(unknown))
		memcpy(frame + len, unknown, sizeof(unknown));
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_send_raw(&client, frame, len);
	ctx_client_expect_error(&client, 0x2a, VMSIG_ERR_BAD_REQUEST);
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&client);
	/* And before Hello it is. */
	assert_true(ctx_client_connect(&client, scene->daemon, &scene->acme));
	ctx_client_send_raw(&client, frame, len);
	expect_cut_off(scene, &client);
}

/* What is longer than any request of sensors is not even received. */
static void a_frame_that_no_sensor_needs_is_refused(void **state)
{
	static uint8_t frame[64 << 10];
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_send_raw(&client, frame, sizeof(frame));
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	daemon_await_log(scene->daemon, "over the limit of 16384 bytes", 1);
	scene_expect_service(scene);
}

static void a_spoofed_acknowledgement_ends_the_connection(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_taken(&client, 1);
	expect_cut_off(scene, &client);

	/* One that is nearly right, while a Memctx is in flight. */
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_MEMCTX);
	assert_true(message->memctx->delivery != 0);
	ctx_client_taken(&client, message->memctx->delivery + 1);
	ctx_client_free_message(message);
	expect_cut_off(scene, &client);
}

static void an_acknowledgement_counts_once(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	message = ctx_client_expect_memctx(&client, fds);
	ctx_client_taken(&client, message->memctx->delivery);
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	expect_cut_off(scene, &client);
}

/* The kernel refuses them where it knows SO_PASSRIGHTS; elsewhere the broker cuts it off. */
static void descriptors_from_a_client_go_nowhere(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {{0}};
	struct iovec iov = {.iov_base = (char[]){"\x17"}, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
	int fd = STDIN_FILENO;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	ctx_client_open(&client, scene->daemon, &scene->acme);
	if (sendmsg(chan_socket(client.chan), &msg, MSG_NOSIGNAL) < 0)
		assert_int_equal(errno, EPERM);
	else
		ctx_client_expect_end(&client);
	ctx_client_close(&client);
	scene_expect_service(scene);
}

static void bytes_that_are_not_tls_are_refused(void **state)
{
	struct scene *scene = *state;
	int fd = ctx_client_socket(scene->daemon);
	struct pollfd poller = {.fd = fd, .events = POLLIN};
	char bytes[64];
	ssize_t n;

	assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	do {
		assert_int_equal(poll(&poller, 1, DAEMON_WAIT_MS), 1);
		n = recv(fd, bytes, sizeof(bytes), 0);
	} while (n > 0);
	close(fd);
	scene_expect_service(scene);
}

/* The end in the middle of everything a client does. */
static void vanishing_clients_leave_nothing(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	close(ctx_client_socket(scene->daemon));
	for (int step = 0; step < 4; step++) {
		assert_true(ctx_client_connect(&client, scene->daemon, &scene->acme));
		if (step > 0)
			ctx_client_hello(&client, 0);
		if (step > 1)
			ctx_client_subscribe(&client, "*");
		if (step > 2)
			ctx_client_list(&client);
		ctx_client_close(&client);
	}
	scene_expect_service(scene);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(a_uid_that_is_not_pinned_is_refused),
		T(a_tenant_without_policy_is_refused),
		T(a_role_of_another_plane_fails_the_handshake),
		T(no_hello_is_a_protocol_error),
		T(a_second_hello_is_a_protocol_error),
		T(another_version_is_unsupported),
		T(garbage_is_a_protocol_error),
		T(an_unknown_request_is_answered),
		T(a_request_needs_a_number),
		T(names_that_make_no_sense_are_refused),
		T(an_oversized_frame_ends_the_connection),
		T(a_frame_of_many_fields_is_refused),
		T(a_frame_that_no_sensor_needs_is_refused),
		T(a_spoofed_acknowledgement_ends_the_connection),
		T(an_acknowledgement_counts_once),
		T(descriptors_from_a_client_go_nowhere),
		T(bytes_that_are_not_tls_are_refused),
		T(vanishing_clients_leave_nothing),
	};

	/* A client writes to connections that the broker has closed. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
