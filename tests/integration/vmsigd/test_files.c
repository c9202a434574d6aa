/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM in several files as it crosses the socket: to holders that take it, and to older ones, which
 * are told why they get nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/wire/feature.h"
#include "tests/support/ctx_client.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_event.h"
#include "vmsig/vmsig_memfile.h"

#define PAGE 4096u
#define MOST VMSIG_MEMFILES_MAX

static struct stage {
	struct daemon *daemon;
	struct pki_cert cert;
	size_t fds; /* of the idle broker */
} stage;

/* ", many1, many2..." of pages. */
static void make_many(char *text, size_t size)
{
	char name[32];

	text[0] = '\0';
	for (unsigned i = 0; i < MOST; i++) {
		snprintf(name, sizeof(name), "many%u", i);
		daemon_ram(stage.daemon, name, PAGE);
		snprintf(text + strlen(text), size - strlen(text), "%s%s.ram", i ? ", " : "", name);
	}
}

static int setup(void **state)
{
	char many[MOST * 20];

	memset(&stage, 0, sizeof(stage));
	stage.daemon = daemon_new();
	daemon_ram(stage.daemon, "one", PAGE);
	daemon_ram(stage.daemon, "two0", PAGE);
	daemon_ram(stage.daemon, "two1", 3 * PAGE);
	make_many(many, sizeof(many));
	pki_issue_uri(daemon_pki(stage.daemon), "acme", "vmsig://sensor/acme", &stage.cert);
	daemon_configure(stage.daemon,
		"limits: {inflight_contexts: 2}\n"
		"endpoints:\n"
		"  - {name: one, adapter: file, path: one.ram, low: 4096, kcr3: 0x1000}\n"
		"  - {name: two, adapter: file, files: [two0.ram, two1.ram], low: 8192, kcr3: "
		"0x1000}\n"
		"  - {name: many, adapter: file, files: [%s], low: 4096, kcr3: 0x1000}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: [\"*\"]}\n",
		many, (unsigned)getuid());
	daemon_start(stage.daemon);
	daemon_await_log(stage.daemon, "kernel root taken from the configuration", 3);
	stage.fds = daemon_fds(stage.daemon);
	return 0;
}

static int teardown(void **state)
{
	daemon_await_fds(stage.daemon, stage.fds);
	assert_int_equal(daemon_stop(stage.daemon, SIGTERM), 0);
	daemon_free(stage.daemon);
	return 0;
}

/* The next Memctx: its descriptors, taken and acknowledged. */
static Vmsig__CtxMessage *expect_files(struct ctx_client *client, int fds[static MOST + 1])
{
	Vmsig__CtxMessage *message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_MEMCTX);
	struct chan_fd_claim claims[MOST + 1];
	const Vmsig__Memctx *memctx = message->memctx;

	assert_true(memctx->n_descriptors <= MOST + 1);
	for (size_t i = 0; i < memctx->n_descriptors; i++) {
		const Vmsig__Descriptor *is = memctx->descriptors[i];
		bool last = i + 1 == memctx->n_descriptors;

		assert_int_equal(is->purpose, last ? VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE
						   : VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM);
		assert_int_equal(is->access, O_RDONLY);
		claims[i] = (struct chan_fd_claim){
			.dev = is->dev, .ino = is->ino, .size = is->size, .access = is->access};
	}
	assert_int_equal(chan_take_fds(client->chan, claims, memctx->n_descriptors, fds), 0);
	assert_int_equal(chan_pending_fds(client->chan), 0);
	ctx_client_taken(client, memctx->delivery);
	return message;
}

static void close_all(Vmsig__CtxMessage *message, const int *fds)
{
	for (size_t i = 0; i < message->memctx->n_descriptors; i++)
		close(fds[i]);
	ctx_client_free_message(message);
}

static void an_older_holder_is_told_why(void **state)
{
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[2];

	ctx_client_open(&client, stage.daemon, &stage.cert);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "two"));
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE);
	assert_int_equal(message->endpoint_state->state, VMSIG_STATE_READY);
	assert_non_null(strstr(message->endpoint_state->detail, "several files"));
	assert_non_null(strstr(message->endpoint_state->detail, "newer libvmsig"));
	ctx_client_free_message(message);
	/* A guest with one file is served to it as ever. */
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "one"));
	message = ctx_client_expect_memctx(&client, fds);
	assert_string_equal(message->memctx->name, "one");
	assert_int_equal(message->memctx->n_files, 0);
	close(fds[0]);
	close(fds[1]);
	ctx_client_free_message(message);
	assert_true(ctx_client_silent(&client, 100));
	ctx_client_close(&client);
}

static void a_newer_holder_gets_all_files(void **state)
{
	static const uint64_t sizes[] = {PAGE, 3 * PAGE};
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[MOST + 1];

	ctx_client_open_with(&client, stage.daemon, &stage.cert, FEATURE_RAM_FILES);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "two"));
	message = expect_files(&client, fds);
	assert_int_equal(message->memctx->n_files, 2);
	assert_int_equal(message->memctx->n_descriptors, 3);
	for (size_t i = 0; i < 2; i++) {
		struct stat st;

		assert_int_equal(message->memctx->files[i]->size, sizes[i]);
		assert_int_equal(fstat(fds[i], &st), 0);
		assert_int_equal(st.st_size, sizes[i]);
		assert_int_equal(write(fds[i], "x", 1), -1);
	}
	close_all(message, fds);
	/* One file has no list of files, whoever asks. */
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "one"));
	message = expect_files(&client, fds);
	assert_int_equal(message->memctx->n_files, 0);
	close_all(message, fds);
	ctx_client_close(&client);
}

/* Which of them has something to read. */
static size_t readable(const struct ctx_client *clients, size_t n)
{
	struct pollfd pollers[3];

	for (size_t i = 0; i < n; i++)
		pollers[i] = (struct pollfd){.fd = chan_socket(clients[i].chan), .events = POLLIN};
	assert_true(poll(pollers, n, DAEMON_WAIT_MS) > 0);
	for (size_t i = 0; i < n; i++) {
		if (pollers[i].revents)
			return i;
	}
	return n;
}

/* They take more of limits.inflight_contexts than there is, and so go alone. */
static void as_many_as_may_be_go_one_after_the_other(void **state)
{
	struct ctx_client clients[3];
	int fds[MOST + 1];

	for (size_t i = 0; i < 3; i++) {
		ctx_client_open_with(&clients[i], stage.daemon, &stage.cert, FEATURE_RAM_FILES);
		ctx_client_expect_done(&clients[i], ctx_client_subscribe(&clients[i], "many"));
	}
	assert_true(ctx_client_silent(&clients[1], 50));
	assert_true(ctx_client_silent(&clients[2], 50));
	for (size_t i = 0; i < 3; i++) {
		size_t next = i ? readable(clients, 3) : 0;
		Vmsig__CtxMessage *message = expect_files(&clients[next], fds);

		assert_int_equal(message->memctx->n_files, MOST);
		close_all(message, fds);
	}
	for (size_t i = 0; i < 3; i++)
		ctx_client_close(&clients[i]);
}

/* What a holder does not take is closed with its connection. */
static void what_is_not_taken_is_given_back(void **state)
{
	struct ctx_client one, other;
	int fds[MOST + 1];

	ctx_client_open_with(&one, stage.daemon, &stage.cert, FEATURE_RAM_FILES);
	ctx_client_open_with(&other, stage.daemon, &stage.cert, FEATURE_RAM_FILES);
	ctx_client_expect_done(&one, ctx_client_subscribe(&one, "many"));
	ctx_client_expect_done(&other, ctx_client_subscribe(&other, "many"));
	ctx_client_close(&one);
	close_all(expect_files(&other, fds), fds);
	ctx_client_close(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_older_holder_is_told_why),
		TEST(a_newer_holder_gets_all_files),
		TEST(as_many_as_may_be_go_one_after_the_other),
		TEST(what_is_not_taken_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
