/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that use too much: each limit holds against its own tenant, and the others are
 * served.
 */
#include "tests/integration/vmsigd/scene.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* It names the slot, the owner, what is used, the limit; who asked, for how much, and what to do.
 */
static void expect_refusal(
	struct ctx_client *client, uint64_t request, const char *begin, const char *end)
{
	Vmsig__CtxMessage *message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ERROR);
	const char *detail = message->error->detail;

	assert_int_equal(message->request_id, request);
	assert_int_equal(message->error->code, VMSIG_ERR_QUOTA);
	if (strncmp(detail, begin, strlen(begin)) != 0 || !strstr(detail, end))
		fail_msg("the refusal says: %s", detail);
	ctx_client_free_message(message);
}

static void connections_over_the_tenants_quota_are_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client clients[3];

	scene_configure(scene, "{}", "{connections: 2}");
	scene_restart(scene);
	ctx_client_open(&clients[0], scene->daemon, &scene->acme);
	ctx_client_open(&clients[1], scene->daemon, &scene->acme);
	assert_true(ctx_client_connect(&clients[2], scene->daemon, &scene->acme));
	expect_refusal(&clients[2], 0,
		"quota.connections of the tenant acme: 2 of 2 connections are in use, and uid ",
		" of acme asks for 1 more; close one or raise quota.connections");
	ctx_client_expect_end(&clients[2]);
	ctx_client_close(&clients[2]);
	daemon_await_log(scene->daemon, "quota.connections of the tenant acme: 2 of 2", 1);
	scene_expect_service(scene);
	/* What is given back can be used again. */
	ctx_client_close(&clients[0]);
	daemon_await_fds(scene->daemon, scene->fds + 1);
	ctx_client_open(&clients[0], scene->daemon, &scene->acme);
	ctx_client_close(&clients[0]);
	ctx_client_close(&clients[1]);
}

static void subscriptions_over_the_quota_are_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	scene_configure(scene, "{}", "{subscriptions: 2}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "x*"));
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "y*"));
	expect_refusal(&client, ctx_client_subscribe(&client, "z*"),
		"quota.subscriptions of the connection: 2 of 2 subscriptions are in use, and uid ",
		" of acme asks for 1 more; end one, or have it raised");
	daemon_await_log(scene->daemon, "slot=\"quota.subscriptions\"", 1);
	ctx_client_close(&client);
}

/* Patterns come and go without end: whoever asks for little is served meanwhile. */
static void a_storm_of_globs_costs_nobody_else(void **state)
{
	enum { GLOBS = 16, ROUNDS = 300 };
	struct scene *scene = *state;
	struct ctx_client client;
	char glob[16];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	for (int i = 0; i < GLOBS; i++) {
		snprintf(glob, sizeof(glob), "x%d*", i);
		ctx_client_expect_done(&client, ctx_client_subscribe(&client, glob));
	}
	ctx_client_expect_error(&client, ctx_client_subscribe(&client, "y*"), VMSIG_ERR_QUOTA);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t ids[2 * GLOBS];

		for (int i = 0; i < GLOBS; i++) {
			snprintf(glob, sizeof(glob), "x%d*", i);
			ids[2 * i] = ctx_client_unsubscribe(&client, glob);
			ids[2 * i + 1] = ctx_client_subscribe(&client, glob);
		}
		if (round % 100 == 0)
			scene_expect_service(scene);
		for (int i = 0; i < 2 * GLOBS; i++)
			ctx_client_expect_done(&client, ids[i]);
	}
	ctx_client_close(&client);
}

static void the_broker_wide_limit_holds(void **state)
{
	struct scene *scene = *state;
	struct pollfd poller;
	struct ctx_client client;
	char byte;

	scene_configure(scene, "{connections: 1}", "{}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	poller = (struct pollfd){.fd = ctx_client_socket(scene->daemon), .events = POLLIN};
	assert_int_equal(poll(&poller, 1, DAEMON_WAIT_MS), 1);
	assert_true(read(poller.fd, &byte, 1) <= 0);
	close(poller.fd);
	ctx_client_close(&client);
}

static void a_stalled_handshake_times_out(void **state)
{
	struct scene *scene = *state;
	struct pollfd pollers[2];
	char byte;

	scene_configure(scene, "{handshake_timeout: 300ms}", "{}");
	scene_restart(scene);
	/* One that says nothing, one that begins a record and stops. */
	for (size_t i = 0; i < 2; i++)
		pollers[i] =
			(struct pollfd){.fd = ctx_client_socket(scene->daemon), .events = POLLIN};
	assert_int_equal(write(pollers[1].fd, "\x16\x03\x01\x02\x00\x01", 6), 6);
	scene_expect_service(scene);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(poll(&pollers[i], 1, DAEMON_WAIT_MS), 1);
		assert_true(read(pollers[i].fd, &byte, 1) <= 0);
		close(pollers[i].fd);
	}
	daemon_await_log(scene->daemon, "the handshake took too long", 2);
}

/* Slots for handshakes: who stalls in all of them gets in nobody's way for long. */
static void stalled_handshakes_do_not_lock_others_out(void **state)
{
	struct scene *scene = *state;
	int fds[8];

	scene_configure(scene, "{handshakes: 4, handshake_timeout: 300ms}", "{}");
	scene_restart(scene);
	for (size_t i = 0; i < 8; i++)
		fds[i] = ctx_client_socket(scene->daemon);
	scene_expect_service(scene);
	for (size_t i = 0; i < 8; i++)
		close(fds[i]);
}

static void a_context_that_is_not_taken_ends_its_connection(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	scene_configure(scene, "{take_timeout: 300ms, inflight_contexts: 1}", "{}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	/* The only one that may be in flight is: others wait for it, but not for ever. */
	scene_expect_service(scene);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	daemon_await_log(scene->daemon, "did not take a MEMCTX in time", 1);
}

/* What is in flight counts against the broker's descriptors: an eighth of those at most. This
 * process has no more from here on. */
static void contexts_in_flight_leave_descriptors(void **state)
{
	enum { DESCRIPTORS = 128, IN_FLIGHT = DESCRIPTORS / 8 };
	struct scene *scene = *state;
	struct ctx_client clients[IN_FLIGHT + 1];
	const struct rlimit few = {DESCRIPTORS, DESCRIPTORS};
	Vmsig__CtxMessage *messages[IN_FLIGHT + 1];

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	scene_restart(scene);
	for (size_t i = 0; i <= IN_FLIGHT; i++) {
		ctx_client_open(&clients[i], scene->daemon, &scene->acme);
		ctx_client_expect_done(&clients[i], ctx_client_subscribe(&clients[i], "a1"));
		if (i < IN_FLIGHT)
			messages[i] =
				ctx_client_expect(&clients[i], VMSIG__CTX_MESSAGE__BODY_MEMCTX);
	}
	/* It waits for one, as far as answers tell. */
	ctx_client_list(&clients[IN_FLIGHT]);
	ctx_client_free_message(
		ctx_client_expect(&clients[IN_FLIGHT], VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_taken(&clients[0], messages[0]->memctx->delivery);
	messages[IN_FLIGHT] =
		ctx_client_expect(&clients[IN_FLIGHT], VMSIG__CTX_MESSAGE__BODY_MEMCTX);
	for (size_t i = 0; i <= IN_FLIGHT; i++) {
		ctx_client_free_message(messages[i]);
		ctx_client_close(&clients[i]);
	}
	scene_expect_service(scene);
}

/* Asks for lists, as much as the broker takes, and reads nothing. Whether the connection is
 * still there. */
static bool ask_until_nobody_listens(struct ctx_client *client)
{
	struct pollfd poller = {.fd = chan_socket(client->chan), .events = POLLOUT};
	Vmsig__CtxRequest request = VMSIG__CTX_REQUEST__INIT;
	Vmsig__List list = VMSIG__LIST__INIT;
	uint8_t buf[64];
	int r = 0;

	request.body_case = VMSIG__CTX_REQUEST__BODY_LIST;
	request.list = &list;
	while (r == 0 || (r == VMSIG_ERR_WOULD_BLOCK && poll(&poller, 1, 1000) == 1)) {
		request.request_id = client->next_id++;
		(void)!chan_send(
			client->chan, buf, vmsig__ctx_request__pack(&request, buf), NULL, 0);
		r = chan_drain(client->chan);
	}
	return r == VMSIG_ERR_WOULD_BLOCK;
}

/* Requests without end, and nothing is read: from some point on the broker does not read
 * either, so that what one connection costs is bounded; and then it is cut off. */
static void a_client_that_never_reads_is_cut_off(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	scene_configure(scene,
		"{send_queue: 128KiB, send_queue_soft: 64KiB, send_queue_soft_time: 500ms}", "{}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	while (ask_until_nobody_listens(&client))
		scene_expect_service(scene);
	scene_expect_service(scene);
	daemon_await_log(scene->daemon, "client does not read", 1);
	ctx_client_close(&client);
}

/* Each stays below its own limits; together they are too much, and who has most goes. */
static void many_that_never_read_are_bounded_together(void **state)
{
	enum { CLIENTS = 8 };
	struct scene *scene = *state;
	struct ctx_client clients[CLIENTS];

	scene_configure(scene, "{send_queues: 4MiB}", "{pending: 4096}");
	scene_restart(scene);
	for (size_t i = 0; i < CLIENTS; i++) {
		ctx_client_open(&clients[i], scene->daemon, &scene->acme);
		(void)ask_until_nobody_listens(&clients[i]);
	}
	daemon_await_log(scene->daemon, "limits.send_queues", 1);
	scene_expect_service(scene);
	for (size_t i = 0; i < CLIENTS; i++)
		ctx_client_close(&clients[i]);
}

/* The answers to the requests from `id` up to `last`; how many of them are refusals. */
static int read_answers(struct ctx_client *client, uint64_t id, uint64_t last)
{
	int refused = 0;

	for (; id <= last; id++) {
		Vmsig__CtxMessage *message = ctx_client_receive(client);

		assert_non_null(message);
		assert_int_equal(message->request_id, id);
		if (message->body_case == VMSIG__CTX_MESSAGE__BODY_ERROR) {
			assert_int_equal(message->error->code, VMSIG_ERR_QUOTA);
			refused++;
		}
		ctx_client_free_message(message);
	}
	return refused;
}

/* Each request has its answer, in order; from some point on the answer is that there are too
 * many. */
static void unread_answers_over_the_quota_are_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	int refused = 0;

	scene_configure(scene, "{}", "{pending: 4}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	/* A broker that is only slow answers all of it. */
	while (!refused) {
		uint64_t first = client.next_id, half;

		assert_true(ask_until_nobody_listens(&client));
		half = first + (client.next_id - first) / 2;
		refused = read_answers(&client, first, half);
		/* The broker listens again, so that what was only half sent can be. */
		refused += read_answers(&client, half + 1, ctx_client_list(&client));
	}
	/* All is read, all is well. */
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&client);
}

/* What became due while the queue was over the soft limit follows when it has been read, even
 * when all of it leaves at once. */
static void an_invalidation_behind_a_full_queue_arrives(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	char ram[PATH_MAX];
	bool told = false;
	int fds[2];

	scene_configure(scene, "{send_queue_soft: 4KiB}", "{pending: 4096}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	assert_true(ask_until_nobody_listens(&client));
	snprintf(ram, sizeof(ram), "%s/a1.ram", daemon_dir(scene->daemon));
	assert_int_equal(truncate(ram, 0), 0);
	daemon_await_log(scene->daemon, "guest session ended", 1);
	/* Longer than the broker tries by itself. */
	usleep(300000);
	while (!told) {
		Vmsig__CtxMessage *message = ctx_client_receive(&client);

		assert_non_null(message);
		told = message->body_case == VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED;
		ctx_client_free_message(message);
	}
	ctx_client_close(&client);
}

/* Anybody may connect to the socket, but nobody without a policy can fill it up. */
static void a_uid_without_policy_has_few_connections(void **state)
{
	struct scene *scene = *state;
	struct pollfd pollers[5];
	char byte;

	daemon_configure(
		scene->daemon, "tenants: [{name: acme, role: sensor, uids: [%u]}]\n", getuid() + 1);
	scene_reload(scene);
	for (size_t i = 0; i < 5; i++)
		pollers[i] =
			(struct pollfd){.fd = ctx_client_socket(scene->daemon), .events = POLLIN};
	assert_int_equal(poll(&pollers[4], 1, DAEMON_WAIT_MS), 1);
	assert_true(read(pollers[4].fd, &byte, 1) <= 0);
	assert_int_equal(poll(pollers, 4, 100), 0);
	for (size_t i = 0; i < 5; i++)
		close(pollers[i].fd);
	daemon_await_log(scene->daemon, "connections of the uid", 1);
}

/* A pipeline is no sin as long as the answers are read. */
static void a_long_pipeline_is_answered(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	uint64_t first;

	scene_configure(scene, "{}", "{pending: 4}");
	scene_restart(scene);
	ctx_client_open(&client, scene->daemon, &scene->acme);
	first = client.next_id;
	for (int i = 0; i < 200; i++)
		ctx_client_list(&client);
	for (uint64_t id = first; id < first + 200; id++) {
		Vmsig__CtxMessage *message =
			ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);

		assert_int_equal(message->request_id, id);
		ctx_client_free_message(message);
	}
	ctx_client_close(&client);
}

static void two_hundred_connections_leak_nothing(void **state)
{
	struct scene *scene = *state;

	for (int i = 0; i < 200; i++) {
		struct ctx_client client;
		int fds[2];

		ctx_client_open(&client, scene->daemon, &scene->acme);
		if (i % 4 == 0) {
			ctx_client_expect_done(&client, ctx_client_subscribe(&client, "*"));
			ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
			close(fds[0]);
			close(fds[1]);
		}
		ctx_client_close(&client);
	}
	daemon_await_fds(scene->daemon, scene->fds);
}

static void set_descriptor_limit(struct scene *scene, rlim_t limit, struct rlimit *ret_old)
{
	struct rlimit new;

	assert_int_equal(prlimit(daemon_pid(scene->daemon), RLIMIT_NOFILE, NULL, ret_old), 0);
	new = (struct rlimit){.rlim_cur = limit, .rlim_max = ret_old->rlim_max};
	assert_int_equal(prlimit(daemon_pid(scene->daemon), RLIMIT_NOFILE, &new, NULL), 0);
}

/* The limit is on numbers: the one below which `room` are free. */
static rlim_t limit_with_room(struct scene *scene, unsigned room)
{
	char path[64], target[16];
	rlim_t number = 0;

	for (;; number++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", daemon_pid(scene->daemon),
			(unsigned)number);
		if (readlink(path, target, sizeof(target)) < 0 && room-- == 0)
			return number;
	}
}

static void out_of_descriptors_in_accept_passes(void **state)
{
	struct scene *scene = *state;
	struct rlimit old, ignored;
	struct ctx_client client;
	struct pollfd poller;
	char byte;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	set_descriptor_limit(scene, limit_with_room(scene, 0), &old);
	poller = (struct pollfd){.fd = ctx_client_socket(scene->daemon), .events = POLLIN};
	daemon_await_log(scene->daemon, "RLIMIT_NOFILE", 1);
	/* Who cannot be served is told at once, and who is connected is served. */
	assert_int_equal(poll(&poller, 1, DAEMON_WAIT_MS), 1);
	assert_true(read(poller.fd, &byte, 1) <= 0);
	close(poller.fd);
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	set_descriptor_limit(scene, old.rlim_cur, &ignored);
	ctx_client_close(&client);
	scene_expect_service(scene);
}

static void out_of_descriptors_in_delivery_passes(void **state)
{
	struct scene *scene = *state;
	struct rlimit old, ignored;
	int fds[2];

	/* Room for neither of the two descriptors, and then for one of them. */
	for (unsigned room = 0; room < 2; room++) {
		struct ctx_client client;

		ctx_client_open(&client, scene->daemon, &scene->acme);
		set_descriptor_limit(scene, limit_with_room(scene, room), &old);
		ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
		assert_true(ctx_client_silent(&client, 300));
		set_descriptor_limit(scene, old.rlim_cur, &ignored);
		ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
		close(fds[0]);
		close(fds[1]);
		ctx_client_close(&client);
		daemon_await_fds(scene->daemon, scene->fds);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(connections_over_the_tenants_quota_are_refused),
		T(subscriptions_over_the_quota_are_refused),
		T(a_storm_of_globs_costs_nobody_else),
		T(the_broker_wide_limit_holds),
		T(a_stalled_handshake_times_out),
		T(stalled_handshakes_do_not_lock_others_out),
		T(a_context_that_is_not_taken_ends_its_connection),
		T(a_client_that_never_reads_is_cut_off),
		T(many_that_never_read_are_bounded_together),
		T(unread_answers_over_the_quota_are_refused),
		T(an_invalidation_behind_a_full_queue_arrives),
		T(a_uid_without_policy_has_few_connections),
		T(a_long_pipeline_is_answered),
		T(two_hundred_connections_leak_nothing),
		T(out_of_descriptors_in_accept_passes),
		T(out_of_descriptors_in_delivery_passes),
		/* The last one: what it takes it cannot give back. */
		T(contexts_in_flight_leave_descriptors),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
