/* SPDX-License-Identifier: Apache-2.0 */
/* Holders that do not say that they have taken a context, because the kernel does. */
#include "tests/integration/vmsigd/scene.h"

#include <poll.h>
#include <unistd.h>

#include "proto/wire/feature.h"

static void open_quiet(struct ctx_client *client, struct scene *scene)
{
	ctx_client_open_with(client, scene->daemon, &scene->acme, FEATURE_TAKEN_UNSAID);
}

/* The next context; the descriptors are closed. Whether it has to be acknowledged, and is. */
static bool expect_context(struct ctx_client *client, uint32_t *ret_epoch)
{
	int fds[2];
	Vmsig__CtxMessage *message = ctx_client_expect_memctx(client, fds);
	bool said = message->memctx->delivery != 0;

	if (ret_epoch)
		*ret_epoch = message->memctx->epoch;
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	return said;
}

/* As many, among whatever else is said. */
static void await_contexts(struct ctx_client *client, unsigned n)
{
	while (n) {
		Vmsig__CtxMessage *message = ctx_client_receive(client);

		assert_non_null(message);
		if (message->body_case == VMSIG__CTX_MESSAGE__BODY_MEMCTX) {
			n--;
			if (message->memctx->delivery)
				ctx_client_taken(client, message->memctx->delivery);
		}
		ctx_client_free_message(message);
	}
}

static void subscribe(struct ctx_client *client, const char *pattern)
{
	ctx_client_expect_done(client, ctx_client_subscribe(client, pattern));
}

static void what_is_read_makes_room_for_others(void **state)
{
	enum { CLIENTS = 4 };
	struct scene *scene = *state;
	struct ctx_client clients[CLIENTS];

	/* A tenant's part is the whole then: one at a time. */
	scene_configure(scene, "{inflight_contexts: 1}", "{}");
	scene_restart(scene);
	for (size_t i = 0; i < CLIENTS; i++) {
		open_quiet(&clients[i], scene);
		subscribe(&clients[i], "a1");
		assert_false(expect_context(&clients[i], NULL));
	}
	scene_expect_service(scene);
	for (size_t i = 0; i < CLIENTS; i++)
		ctx_client_close(&clients[i]);
}

static void who_does_not_say_so_is_not_asked_to_be_quiet(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	subscribe(&client, "a1");
	assert_true(expect_context(&client, NULL));
	ctx_client_close(&client);
}

static void what_is_not_read_ends_its_connection(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	scene_configure(scene, "{take_timeout: 1s, inflight_contexts: 1}", "{}");
	scene_restart(scene);
	open_quiet(&client, scene);
	/* The answer and the context stay in the socket. */
	ctx_client_subscribe(&client, "a1");
	daemon_await_log(scene->daemon, "did not take a MEMCTX in time", 1);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
	/* Who comes then may take his time. */
	scene_configure(scene, "{inflight_contexts: 1}", "{}");
	scene_reload(scene);
	scene_expect_service(scene);
}

/* His time is over when that of somebody is who came later. */
static void who_has_read_stays(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client, later;

	/* Far above what it takes to read. */
	scene_configure(scene, "{take_timeout: 8s}", "{}");
	scene_restart(scene);
	open_quiet(&client, scene);
	subscribe(&client, "a1");
	assert_false(expect_context(&client, NULL));
	open_quiet(&later, scene);
	ctx_client_subscribe(&later, "a1");
	daemon_await_log(scene->daemon, "did not take a MEMCTX in time", 1);
	ctx_client_expect_end(&later);
	ctx_client_close(&later);
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	assert_int_equal(daemon_log_count(scene->daemon, "did not take a MEMCTX in time"), 1);
	ctx_client_close(&client);
}

/* Each is in flight alone: the first is to be acknowledged, since another one is due. */
static void several_come_one_after_the_other(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	open_quiet(&client, scene);
	subscribe(&client, "a*");
	assert_true(expect_context(&client, NULL));
	assert_false(expect_context(&client, NULL));
	assert_true(ctx_client_silent(&client, 100));
	ctx_client_close(&client);
}

static void the_next_epochs_come_as_well(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	uint32_t epoch, before;

	open_quiet(&client, scene);
	subscribe(&client, "a1");
	assert_false(expect_context(&client, &before));
	for (unsigned i = 0; i < 3; i++) {
		scene_replace_ram(scene);
		(void)expect_context(&client, &epoch);
		assert_true(epoch > before);
		before = epoch;
	}
	ctx_client_close(&client);
}

/* The second is due while nobody has read the first. */
static void the_next_one_waits_until_the_first_is_read(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	struct pollfd poller;

	open_quiet(&client, scene);
	ctx_client_subscribe(&client, "a1");
	poller = (struct pollfd){.fd = chan_socket(client.chan), .events = POLLIN};
	assert_int_equal(poll(&poller, 1, DAEMON_WAIT_MS), 1);
	ctx_client_subscribe(&client, "a2");
	await_contexts(&client, 2);
	assert_true(ctx_client_silent(&client, 100));
	ctx_client_close(&client);
}

/* Nothing of theirs is in flight then; and what they have not read goes with them. */
static void a_quiet_holder_may_go(void **state)
{
	struct scene *scene = *state;
	struct ctx_client clients[2];

	scene_configure(scene, "{inflight_contexts: 1}", "{}");
	scene_restart(scene);
	open_quiet(&clients[0], scene);
	ctx_client_subscribe(&clients[0], "a1");
	open_quiet(&clients[1], scene);
	ctx_client_subscribe(&clients[1], "a1");
	ctx_client_close(&clients[0]);
	await_contexts(&clients[1], 1);
	ctx_client_close(&clients[1]);
	scene_expect_service(scene);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_read_makes_room_for_others),
		T(who_does_not_say_so_is_not_asked_to_be_quiet),
		T(what_is_not_read_ends_its_connection),
		T(who_has_read_stays),
		T(several_come_one_after_the_other),
		T(the_next_epochs_come_as_well),
		T(the_next_one_waits_until_the_first_is_read),
		T(a_quiet_holder_may_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
