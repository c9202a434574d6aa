/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker's own life: starting, reloading, ending well and badly.
 */
#include "tests/integration/vmsigd/scene.h"
#include "vmsig/vmsig_coherence.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void clients_are_told_of_the_end(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	int stalled = ctx_client_socket(scene->daemon);
	Vmsig__CtxMessage *message;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	if (daemon_stop(scene->daemon, SIGTERM))
		fail_msg("%s", daemon_log(scene->daemon));
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ERROR);
	assert_int_equal(message->error->code, VMSIG_ERR_SHUTTING_DOWN);
	ctx_client_free_message(message);
	assert_null(ctx_client_receive(&client));
	assert_int_equal(client.error, VMSIG_ERR_DISCONNECTED);
	ctx_client_close(&client);
	close(stalled);
	daemon_start(scene->daemon);
}

static void sigint_ends_it_as_well(void **state)
{
	struct scene *scene = *state;

	assert_int_equal(daemon_stop(scene->daemon, SIGINT), 0);
	assert_int_equal(access(daemon_socket(scene->daemon), F_OK), -1);
	daemon_start(scene->daemon);
}

/* R3: whatever happens in between, an epoch never comes back. */
static void epochs_rise_over_kill_and_restart(void **state)
{
	struct scene *scene = *state;
	uint32_t last = 0;

	for (int i = 0; i < 3; i++) {
		uint32_t epoch = ctx_client_epoch(scene->daemon, &scene->acme, "a1");

		assert_true(epoch > last);
		last = epoch;
		assert_int_equal(daemon_stop(scene->daemon, SIGKILL), 128 + SIGKILL);
		/* Its socket file is still there, and is nobody's. */
		assert_int_equal(access(daemon_socket(scene->daemon), F_OK), 0);
		scene_replace_ram(scene);
		daemon_start(scene->daemon);
	}
}

static void a_second_broker_leaves_the_first_alone(void **state)
{
	struct scene *scene = *state;
	const char *const arguments[] = {"-c", daemon_config(scene->daemon), NULL};
	char pid[32];

	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	assert_int_equal(access(daemon_socket(scene->daemon), F_OK), 0);
	/* Who it is, where, and what to do. */
	snprintf(pid, sizeof(pid), "pid=%d", (int)daemon_pid(scene->daemon));
	daemon_await_log(scene->daemon, "another vmsigd runs; stop that one", 1);
	daemon_await_log(scene->daemon, pid, 1);
	ctx_client_epoch(scene->daemon, &scene->acme, "a1");
}

/* Only a socket that nobody listens on may be removed. */
static void a_socket_in_use_or_another_file_stays(void **state)
{
	struct scene *scene = *state;
	const char *const arguments[] = {"-c", daemon_config(scene->daemon), NULL};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;

	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	strncpy(addr.sun_path, daemon_socket(scene->daemon), sizeof(addr.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	assert_int_equal(lstat(addr.sun_path, &st), 0);
	close(fd);
	unlink(addr.sun_path);

	fd = open(addr.sun_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	assert_int_equal(lstat(addr.sun_path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(addr.sun_path);
	daemon_start(scene->daemon);
}

static void modes_are_sane(void **state)
{
	struct scene *scene = *state;
	char path[128];
	struct stat st;

	assert_int_equal(stat(daemon_socket(scene->daemon), &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0666);
	snprintf(path, sizeof(path), "%s/run", daemon_dir(scene->daemon));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	snprintf(path, sizeof(path), "%s/state", daemon_dir(scene->daemon));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

/* ---- reload ---- */

static void a_revoked_certificate_is_cut_off(void **state)
{
	struct scene *scene = *state;
	struct pki *pki = daemon_pki(scene->daemon);
	struct ctx_client acme, globex, late;

	ctx_client_open(&acme, scene->daemon, &scene->acme);
	ctx_client_open(&globex, scene->daemon, &scene->globex);
	pki_revoke(pki, &scene->acme);
	daemon_use_crl(scene->daemon, pki_crl(pki));
	scene_configure(scene, "{}", "{}");
	scene_reload(scene);
	ctx_client_expect_end(&acme);
	ctx_client_close(&acme);
	if (ctx_client_connect(&late, scene->daemon, &scene->acme))
		assert_null(ctx_client_receive(&late));
	ctx_client_close(&late);
	ctx_client_list(&globex);
	ctx_client_free_message(ctx_client_expect(&globex, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&globex);
}

/* Its handshake began under the old list and ends under the new one. */
static void a_revocation_reaches_handshakes_too(void **state)
{
	struct scene *scene = *state;
	struct pki *pki = daemon_pki(scene->daemon);
	struct tls_files files = pki_files(pki, &scene->acme, NULL);
	const struct chan_limits limits = {.frame_max = 4096, .tx_max = 1 << 20};
	struct ctx_client client = {.next_id = 1};
	struct tls_ctx *tls = NULL;
	char error[256];
	int r;

	assert_int_equal(
		tls_ctx_new(&tls, TLS_CLIENT, &files, IDENTITY_BROKER, error, sizeof(error)), 0);
	assert_int_equal(chan_new(&client.chan, tls, ctx_client_socket(scene->daemon), &limits), 0);
	tls_ctx_unref(tls);
	assert_int_equal(chan_handshake(client.chan), VMSIG_ERR_WOULD_BLOCK);
	daemon_await_fds(scene->daemon, scene->fds + 1);
	pki_revoke(pki, &scene->acme);
	daemon_use_crl(scene->daemon, pki_crl(pki));
	scene_configure(scene, "{}", "{}");
	scene_reload(scene);
	do {
		(void)!chan_drain(client.chan);
		usleep(1000);
		(void)!chan_fill(client.chan);
		r = chan_handshake(client.chan);
	} while (r == VMSIG_ERR_WOULD_BLOCK);
	(void)!chan_drain(client.chan);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
}

static void a_uid_that_was_taken_out_is_cut_off(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	scene_configure_uid(scene, "{}", "{}", getuid() + 1);
	scene_reload(scene);
	ctx_client_expect_error(&client, 0, VMSIG_ERR_UNAUTHENTICATED);
	ctx_client_expect_end(&client);
	ctx_client_close(&client);
}

static void a_broken_configuration_changes_nothing(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	daemon_configure(scene->daemon, "tenants: 5\n");
	kill(daemon_pid(scene->daemon), SIGHUP);
	daemon_await_log(scene->daemon, "the old configuration stays", 1);
	ctx_client_list(&client);
	ctx_client_free_message(ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	ctx_client_close(&client);
	ctx_client_epoch(scene->daemon, &scene->acme, "a1");
}

/* An endpoint that the policy takes away ends as if it were gone; one that it gives comes. */
static void subscriptions_follow_the_policy(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->globex);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "*"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	daemon_configure(scene->daemon,
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms}\n"
		"  - {name: g1, path: g1.ram, adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms}\n"
		"tenants:\n"
		"  - {name: globex, role: sensor, uids: [%u], endpoints: [a1]}\n",
		getuid());
	scene_reload(scene);
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE);
	assert_string_equal(message->endpoint_state->name, "g1");
	assert_int_equal(message->endpoint_state->state, VMSIG_STATE_GONE);
	ctx_client_free_message(message);
	message = ctx_client_expect_memctx(&client, fds);
	assert_string_equal(message->memctx->name, "a1");
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
	/* a2 is no longer served, and its descriptors are closed. */
	daemon_await_fds(scene->daemon, scene->fds - 1);
}

/* An endpoint that is configured otherwise ends its epoch, for good and for all who watch. */
static void a_changed_endpoint_ends_its_epoch(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	Vmsig__CtxMessage *message;
	uint32_t before, invalidated = 0;
	vmsig_coherence *page;
	int fds[2];

	ctx_client_open(&client, scene->daemon, &scene->acme);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "a1"));
	message = ctx_client_expect_memctx(&client, fds);
	before = message->memctx->epoch;
	ctx_client_free_message(message);
	page = mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, fds[1], 0);
	assert_true(page != MAP_FAILED);
	close(fds[0]);
	close(fds[1]);
	daemon_configure(scene->daemon,
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x3000, poll: 20ms}\n"
		"  - {name: a2, path: a2.ram, adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms}\n"
		"  - {name: g1, path: g1.ram, adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['a*']}\n",
		getuid());
	scene_reload(scene);
	message = ctx_client_expect(&client, VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED);
	invalidated = message->memctx_invalidated->epoch;
	ctx_client_free_message(message);
	message = ctx_client_expect_memctx(&client, fds);
	assert_int_equal(message->memctx->kcr3, 0x3000);
	/* One that ended with the adapter that went, one of the adapter that came. */
	assert_int_equal(message->memctx->epoch, before + 2);
	assert_true(invalidated <= before + 2);
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(__atomic_load_n(&page->state, __ATOMIC_SEQ_CST), VMSIG_STATE_GONE);
	assert_int_equal(__atomic_load_n(&page->epoch, __ATOMIC_SEQ_CST), before + 1);
	munmap(page, VMSIG_COHERENCE_SIZE);
	ctx_client_close(&client);
}

/* ---- the command line ---- */

static void check_finds_what_the_files_lack(void **state)
{
	struct scene *scene = *state;
	const char *const arguments[] = {"--check", "-c", daemon_config(scene->daemon), NULL};

	assert_int_equal(daemon_run(scene->daemon, arguments), 0);
	daemon_configure(scene->daemon, "endpints: []\n");
	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	assert_non_null(strstr(daemon_log(scene->daemon), "did you mean 'endpoints'?"));
	daemon_configure(scene->daemon,
		"endpoints:\n"
		"  - {name: x, adapter: file, path: missing.ram, low: 1MiB}\n"
		"  - {name: y, adapter: qemu, qmp: nowhere/qmp.sock}\n");
	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	assert_non_null(strstr(daemon_log(scene->daemon), "missing.ram"));
	assert_non_null(strstr(daemon_log(scene->daemon), "nowhere"));
}

static void the_command_line_explains_itself(void **state)
{
	struct scene *scene = *state;

	assert_int_equal(daemon_run(scene->daemon, (const char *const[]){"-h", NULL}), 0);
	assert_int_equal(daemon_run(scene->daemon, (const char *const[]){"--version", NULL}), 0);
	assert_non_null(strstr(daemon_log(scene->daemon), "vmsigd 0."));
	assert_int_equal(daemon_run(scene->daemon, (const char *const[]){"--nope", NULL}), 2);
	assert_int_equal(daemon_run(scene->daemon, (const char *const[]){"stray", NULL}), 2);
	assert_non_null(strstr(daemon_log(scene->daemon), "it takes no arguments"));
	assert_int_equal(
		daemon_run(scene->daemon, (const char *const[]){"-c", "/nonexistent", NULL}), 1);
	assert_non_null(strstr(daemon_log(scene->daemon), "/nonexistent"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(clients_are_told_of_the_end),
		T(sigint_ends_it_as_well),
		T(epochs_rise_over_kill_and_restart),
		T(a_second_broker_leaves_the_first_alone),
		T(a_socket_in_use_or_another_file_stays),
		T(modes_are_sane),
		T(a_revoked_certificate_is_cut_off),
		T(a_revocation_reaches_handshakes_too),
		T(a_uid_that_was_taken_out_is_cut_off),
		T(a_broken_configuration_changes_nothing),
		T(subscriptions_follow_the_policy),
		T(a_changed_endpoint_ends_its_epoch),
		T(check_finds_what_the_files_lack),
		T(the_command_line_explains_itself),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
