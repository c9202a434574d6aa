/* SPDX-License-Identifier: Apache-2.0 */

/* Connecting, asking, losing the connection and finding it again, with an honest broker. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/lib/fake_broker.h"

static void expect_plain(struct fake *fake, uint32_t kind)
{
	fake_expect_error(fake, kind, 0);
}

static void subscribe(struct fake *fake, const char *pattern)
{
	assert_int_equal(vmsig_subscribe(fake->v, pattern), 0);
	fake_grant(fake, pattern);
	expect_plain(fake, VMSIG_EV_SUBSCRIBED);
}

static void expect_invalidated(struct fake *fake, const char *name, uint32_t epoch)
{
	vmsig_delivery delivery = fake_expect(fake, VMSIG_EV_MEMCTX_INVALIDATED);
	vmsig_memctx_inv inv;

	memcpy(&inv, delivery.event.inln, sizeof(inv));
	assert_string_equal(delivery.endpoint, name);
	assert_int_equal(inv.endpoint, 7);
	assert_int_equal(inv.epoch, epoch);
	vmsig_delivery_clear(&delivery);
}

/* Cuts and waits for the next connection. */
static void reconnect(struct fake *fake)
{
	fake_drop(fake);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_DISCONNECTED);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
}

static void tells_who_the_broker_is(void **state)
{
	struct fake *fake = *state;
	vmsig_broker_info info;

	fake_open(fake);
	assert_false(vmsig_is_connected(fake->v));
	assert_int_equal(vmsig_broker(fake->v, &info), -VMSIG_ERR_DISCONNECTED);
	assert_int_equal(vmsig_deadline(fake->v), 0);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	assert_true(vmsig_is_connected(fake->v));
	assert_int_equal(vmsig_broker(fake->v, &info), 0);
	assert_string_equal(info.host, "host1");
	assert_string_equal(info.software, "fake?[31m/1");
	assert_int_equal(info.uid, geteuid());
	assert_int_equal(info.pid, getpid());
	assert_int_equal(vmsig_deadline(fake->v), -1);
	assert_int_equal(vmsig_poll_events(fake->v), POLLIN);
}

static void delivers_a_context(void **state)
{
	struct fake *fake = *state;
	vmsig_delivery delivery;
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;
	int fd;

	fake_connect(fake);
	subscribe(fake, "a*");
	delivery = fake_memctx_deliver(fake, "a1", 3);
	memcpy(&pod, delivery.event.inln, sizeof(pod));
	segs = vmsig_memctx_segs(&delivery.event, &nseg);
	assert_string_equal(delivery.endpoint, "a1");
	assert_int_equal(delivery.event.endpoint, 7);
	assert_int_equal(delivery.event.source, VMSIG_SRC_MEMCTX);
	assert_int_equal(delivery.guard, VMSIG_GUARD_SEALED);
	assert_int_equal(pod.epoch, 3);
	assert_true(pod.kcr3 == 0x1000);
	assert_int_equal(nseg, 2);
	assert_true(segs[1].gpa == 1ull << 32 && segs[1].file_off == FAKE_RAM / 2);
	assert_int_equal(fcntl(delivery.ram_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(delivery.ram_fd, F_GETFD), FD_CLOEXEC);

	/* What was taken out is the caller's. */
	fd = vmsig_delivery_take_fd(&delivery.ram_fd);
	assert_true(fd >= 0);
	assert_int_equal(vmsig_delivery_take_fd(&delivery.ram_fd), -1);
	vmsig_delivery_clear(&delivery);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	vmsig_delivery_clear(&delivery);
	vmsig_delivery_clear(NULL);
}

static void keeps_the_order(void **state)
{
	struct fake *fake = *state;
	vmsig_delivery delivery;

	fake_connect(fake);
	fake_state(fake, "a", 1, VMSIG_STATE_BOOTING);
	delivery = fake_expect(fake, VMSIG_EV_ENDPOINT_STATE);
	assert_string_equal(vmsig_delivery_text(&delivery), "looking");
	vmsig_delivery_clear(&delivery);
	delivery = fake_memctx_deliver(fake, "a", 1);
	vmsig_delivery_clear(&delivery);
	fake_invalidated(fake, "a", 2);
	expect_invalidated(fake, "a", 2);
	delivery = fake_memctx_deliver(fake, "a", 2);
	vmsig_delivery_clear(&delivery);
	/* A broker that forgets the invalidation: the library does not. */
	delivery = (vmsig_delivery)VMSIG_DELIVERY_INIT;
	fake_state(fake, "a", 4, VMSIG_STATE_BOOTING);
	expect_invalidated(fake, "a", 4);
	expect_plain(fake, VMSIG_EV_ENDPOINT_STATE);
	fake_expect_silence(fake);
}

/* A new connection knows nothing of the contexts that an earlier one delivered. */
static void reconnects_and_takes_back(void **state)
{
	struct fake *fake = *state;
	struct fake_memctx memctx;
	vmsig_delivery delivery;

	fake_connect(fake);
	subscribe(fake, "a");
	delivery = fake_memctx_deliver(fake, "a", 1);
	vmsig_delivery_clear(&delivery);
	reconnect(fake);
	fake_grant(fake, "a");

	/* The same epoch goes on: nothing is taken back. */
	delivery = fake_memctx_deliver(fake, "a", 1);
	vmsig_delivery_clear(&delivery);
	reconnect(fake);
	fake_grant(fake, "a");

	fake_memctx_init(&memctx, "a", 5);
	fake_memctx_send(fake, &memctx);
	expect_invalidated(fake, "a", 5);
	expect_plain(fake, VMSIG_EV_MEMCTX);
	reconnect(fake);
	fake_grant(fake, "a");

	/* A broker that lost its store counts from the beginning. */
	fake_state(fake, "a", 1, VMSIG_STATE_BOOTING);
	expect_invalidated(fake, "a", 1);
	expect_plain(fake, VMSIG_EV_ENDPOINT_STATE);
}

static uint64_t asked_for(struct fake *fake, const char *pattern)
{
	Vmsig__CtxRequest *request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_SUBSCRIBE);
	uint64_t id = request->request_id;

	assert_string_equal(request->subscribe->endpoint, pattern);
	fake_request_free(request);
	return id;
}

static void refused_subscription_ends(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	assert_int_equal(vmsig_subscribe(fake->v, "nope"), 0);
	assert_int_equal(vmsig_subscribe(fake->v, "nope"), 0);
	fake_error(fake, asked_for(fake, "nope"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	fake_expect_error(fake, VMSIG_EV_SUBSCRIBED, VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(vmsig_unsubscribe(fake->v, "nope"), -VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(vmsig_deadline(fake->v), -1);
}

static void refused_subscription_is_repeated(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	assert_int_equal(vmsig_subscribe(fake->v, "a"), 0);
	fake_error(fake, asked_for(fake, "a"), VMSIG_ERR_QUOTA);
	fake_expect_error(fake, VMSIG_EV_SUBSCRIBED, VMSIG_ERR_QUOTA);
	/* The same answer is no news. */
	fake_error(fake, asked_for(fake, "a"), VMSIG_ERR_QUOTA);
	fake_done(fake, asked_for(fake, "a"));
	expect_plain(fake, VMSIG_EV_SUBSCRIBED);

	/* After a restart the broker may not have found the endpoint yet. */
	reconnect(fake);
	fake_error(fake, asked_for(fake, "a"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	fake_expect_error(fake, VMSIG_EV_SUBSCRIBED, VMSIG_ERR_NO_SUCH_ENDPOINT);
	fake_done(fake, asked_for(fake, "a"));
	expect_plain(fake, VMSIG_EV_SUBSCRIBED);
}

static void unsubscribes(void **state)
{
	struct fake *fake = *state;
	Vmsig__CtxRequest *request;

	fake_connect(fake);
	subscribe(fake, "a");
	assert_int_equal(vmsig_unsubscribe(fake->v, "a"), 0);
	request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_UNSUBSCRIBE);
	assert_string_equal(request->unsubscribe->endpoint, "a");
	fake_done(fake, request->request_id);
	fake_request_free(request);
	fake_expect_silence(fake);
	reconnect(fake);
	fake_expect_silence(fake);
}

static void names_are_checked(void **state)
{
	struct fake *fake = *state;
	char name[VMSIG_NAME_MAX + 2] = "";

	fake_open(fake);
	memset(name, 'a', VMSIG_NAME_MAX + 1);
	assert_int_equal(vmsig_subscribe(fake->v, name), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_subscribe(fake->v, ""), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_subscribe(fake->v, NULL), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_subscribe(fake->v, "a b"), -VMSIG_ERR_BAD_REQUEST);
	assert_true(vmsig_last_error(fake->v)[0]);
}

/* Reading stops at the limit and goes on without a loss. */
static void full_queue_stops_reading(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);
	vmsig_endpoint_status status;
	vmsig_delivery delivery;

	options.queue_max = 3;
	fake_open_with(fake, &options);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	for (uint32_t i = 1; i <= 200; i++)
		fake_state(fake, "a", i, VMSIG_STATE_BOOTING);
	for (int i = 0; i < 10; i++)
		assert_int_equal(fake_step(fake), 0);
	assert_int_equal(vmsig_deadline(fake->v), -1);
	assert_int_equal(vmsig_poll_events(fake->v), 0);
	assert_int_equal(vmsig_wait_connected(fake->v, 0), 0);
	for (uint32_t i = 1; i <= 200; i++) {
		delivery = fake_expect(fake, VMSIG_EV_ENDPOINT_STATE);
		memcpy(&status, delivery.event.inln, sizeof(status));
		assert_int_equal(status.epoch, i);
		vmsig_delivery_clear(&delivery);
	}
}

/* ---- lists ---- */

static void send_page(struct fake *fake, uint64_t id, uint32_t first, uint32_t n, bool more)
{
	Vmsig__EndpointList body = VMSIG__ENDPOINT_LIST__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	Vmsig__EndpointInfo infos[4], *pointers[4];
	char names[4][16];

	for (uint32_t i = 0; i < n; i++) {
		vmsig__endpoint_info__init(&infos[i]);
		snprintf(names[i], sizeof(names[i]), "vm%u", 9 - first - i);
		infos[i].id = first + i;
		infos[i].name = names[i];
		infos[i].ram_bytes = 1ull << 40;
		pointers[i] = &infos[i];
	}
	body.endpoints = pointers;
	body.n_endpoints = n;
	body.more = more;
	message.request_id = id;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST;
	message.endpoint_list = &body;
	fake_send(fake, &message, NULL, 0);
}

static uint64_t asked_to_list(struct fake *fake, uint32_t after)
{
	Vmsig__CtxRequest *request = fake_request(fake, VMSIG__CTX_REQUEST__BODY_LIST);
	uint64_t id = request->request_id;

	assert_int_equal(request->list->after, after);
	fake_request_free(request);
	return id;
}

static void lists_in_pages(void **state)
{
	struct fake *fake = *state;
	vmsig_endpoint_list *list;
	vmsig_delivery delivery;

	fake_open(fake);
	assert_int_equal(vmsig_request_list(fake->v), -VMSIG_ERR_DISCONNECTED);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	assert_int_equal(vmsig_request_list(fake->v), 0);
	assert_int_equal(vmsig_request_list(fake->v), -VMSIG_ERR_BUSY);
	send_page(fake, asked_to_list(fake, 0), 1, 3, true);
	send_page(fake, asked_to_list(fake, 3), 4, 1, false);
	delivery = fake_expect(fake, VMSIG_EV_LISTED);
	list = vmsig_delivery_take_list(&delivery);
	assert_non_null(list);
	assert_null(vmsig_delivery_take_list(&delivery));
	assert_int_equal(list->count, 4);
	assert_string_equal(list->endpoints[0].name, "vm5");
	assert_string_equal(list->endpoints[3].name, "vm8");
	assert_true(list->endpoints[3].ram_bytes == 1ull << 40);
	vmsig_endpoint_list_free(list);
	vmsig_delivery_clear(&delivery);
}

static void list_is_lost_with_the_connection(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	assert_int_equal(vmsig_request_list(fake->v), 0);
	send_page(fake, asked_to_list(fake, 0), 1, 3, true);
	asked_to_list(fake, 3);
	fake_drop(fake);
	fake_expect_error(fake, VMSIG_EV_LISTED, VMSIG_ERR_DISCONNECTED);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_DISCONNECTED);
}

static void empty_page_that_promises_more(void **state)
{
	struct fake *fake = *state;

	fake_connect(fake);
	assert_int_equal(vmsig_request_list(fake->v), 0);
	send_page(fake, asked_to_list(fake, 0), 1, 0, true);
	fake_expect_error(fake, VMSIG_EV_LISTED, VMSIG_ERR_DISCONNECTED);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_PROTOCOL);
}

/* ---- time ---- */

static void broker_that_never_answers(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);

	options.connect_timeout_ms = 30;
	fake->mute = true;
	fake_open_with(fake, &options);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_TIMEOUT);
}

static void request_that_is_never_answered(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);

	options.request_timeout_ms = 30;
	fake_open_with(fake, &options);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	assert_int_equal(vmsig_subscribe(fake->v, "a"), 0);
	asked_for(fake, "a");
	assert_true(vmsig_deadline(fake->v) > 0);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_TIMEOUT);
}

/* Also of one that was made when the connection was there already. */
static void refused_subscription_pauses(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);
	struct timespec now;

	options.backoff_min_ms = options.backoff_max_ms = 100000;
	fake_open_with(fake, &options);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_int_equal(vmsig_subscribe(fake->v, "a"), 0);
	fake_error(fake, asked_for(fake, "a"), VMSIG_ERR_QUOTA);
	fake_expect_error(fake, VMSIG_EV_SUBSCRIBED, VMSIG_ERR_QUOTA);
	assert_true(vmsig_deadline(fake->v) / 1000000000 >= now.tv_sec + 50);
}

static void nobody_listens(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);

	options.socket_path = "/nonexistent/ctx.sock";
	fake_open_with(fake, &options);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_DISCONNECTED);
	assert_true(vmsig_deadline(fake->v) > 0);
	assert_int_equal(vmsig_wait_connected(fake->v, 40), -VMSIG_ERR_TIMEOUT);
	assert_non_null(strstr(vmsig_last_error(fake->v), "/nonexistent/ctx.sock"));
	fake_expect_silence(fake);
}

static void without_reconnection_it_is_over(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);

	options.flags = VMSIG_OPT_NO_RECONNECT;
	fake_open_with(fake, &options);
	fake_greet(fake);
	expect_plain(fake, VMSIG_EV_CONNECTED);
	fake_drop(fake);
	assert_int_equal(vmsig_process(fake->v), -VMSIG_ERR_DISCONNECTED);
	assert_int_equal(vmsig_process(fake->v), -VMSIG_ERR_DISCONNECTED);
	assert_int_equal(vmsig_deadline(fake->v), -1);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_DISCONNECTED);
	assert_int_equal(vmsig_wait(fake->v, &(vmsig_delivery){0}, -1), -VMSIG_ERR_DISCONNECTED);
}

static void pins_the_uid(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);

	options.flags = VMSIG_OPT_PIN_UID;
	options.broker_uid = geteuid() + 1;
	fake_open_with(fake, &options);
	fake_expect_error(fake, VMSIG_EV_DISCONNECTED, VMSIG_ERR_UNAUTHENTICATED);
}

/* ---- options ---- */

static int open_error(const vmsig_options *options, char error[256])
{
	vmsig *v = NULL;
	int r = vmsig_open(&v, options, error, 256);

	assert_null(v);
	return r;
}

static void bad_options(void **state)
{
	struct fake *fake = *state;
	vmsig_options options = fake_options(fake);
	char error[256], path[PATH_MAX];

	options.identity_dir = NULL;
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_BAD_REQUEST);
	options.identity_dir = "/nonexistent";
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_IO);
	assert_non_null(strstr(error, "/nonexistent/ca.pem"));
	options = fake_options(fake);
	options.flags = 0x80;
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_BAD_REQUEST);
	options = fake_options(fake);
	options.backoff_min_ms = 9;
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_BAD_REQUEST);
	options = fake_options(fake);
	options.queue_max = UINT32_MAX;
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(vmsig_open(&fake->v, &options, NULL, 0), -VMSIG_ERR_BAD_REQUEST);
	assert_null(fake->v);
	/* A list that cannot be read must not count as none. */
	options = fake_options(fake);
	snprintf(path, sizeof(path), "%s/crl.pem", fake->identity);
	assert_int_equal(symlink(pki_ca(fake->pki), path), 0);
	assert_int_equal(open_error(&options, error), -VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(error, "crl.pem"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
		TEST(tells_who_the_broker_is),
		TEST(delivers_a_context),
		TEST(keeps_the_order),
		TEST(reconnects_and_takes_back),
		TEST(refused_subscription_ends),
		TEST(refused_subscription_is_repeated),
		TEST(refused_subscription_pauses),
		TEST(unsubscribes),
		TEST(names_are_checked),
		TEST(full_queue_stops_reading),
		TEST(lists_in_pages),
		TEST(list_is_lost_with_the_connection),
		TEST(empty_page_that_promises_more),
		TEST(broker_that_never_answers),
		TEST(request_that_is_never_answered),
		TEST(nobody_listens),
		TEST(without_reconnection_it_is_over),
		TEST(pins_the_uid),
		TEST(bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
