/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that connect and say nothing, or say it a byte at a time, or connect and connect:
 * strangers, and uids of the policy without a key. Whoever has one gets in, the administrator
 * too, however long the others may take. Connecting as somebody else needs root.
 */
#include "tests/integration/vmsigd/scene.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/write_client.h"

#define GHOSTS 6u        /* uids of the policy, which nobody has a key for */
#define GHOST_UID 54001u /* the first one */
#define STRANGER_UID 55001u
#define SILENT_MAX 1024
#define DRIBBLE_NS 100000000 /* between two bytes of a client that takes its time */

struct throng {
	int fds[SILENT_MAX];
	size_t n;
};

/* A connection as this uid; -1: there is no room in the listening socket's queue. */
static int connect_as(struct scene *scene, uid_t uid, const char *socket_name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/run/%s", daemon_dir(scene->daemon),
		socket_name);
	assert_int_equal(seteuid(uid), 0);
	r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	assert_int_equal(seteuid(0), 0);
	if (r < 0)
		fail_msg("connect to %s as %u: %s", addr.sun_path, uid, strerror(errno));
	return fd;
}

static void join(
	struct throng *throng, struct scene *scene, uid_t uid, const char *socket_name, size_t n)
{
	for (; n; n--) {
		assert_true(throng->n < SILENT_MAX);
		throng->fds[throng->n++] = connect_as(scene, uid, socket_name);
	}
}

static void disperse(struct throng *throng)
{
	while (throng->n)
		close(throng->fds[--throng->n]);
}

/* A ClientHello of 16 KiB, of each one byte at a time: it is not over in this test's life. */
static void dribble(const struct throng *throng)
{
	static const unsigned char start[] = {0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc};
	const struct timespec pause = {.tv_nsec = DRIBBLE_NS};

	for (size_t at = 0;; at++) {
		unsigned char byte = at < sizeof(start) ? start[at] : 0;

		for (size_t i = 0; i < throng->n; i++)
			(void)!send(throng->fds[i], &byte, 1, MSG_DONTWAIT);
		nanosleep(&pause, NULL);
	}
}

/* In a process of its own, which ends with this one or in dribbler_stop(). */
static pid_t dribbler_start(const struct throng *throng)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dribble(throng);
	_exit(0);
}

static void dribbler_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int door_setup(void **state)
{
	struct scene *scene;

	if (geteuid() != 0)
		return 0;
	scene_setup(state);
	scene = *state;
	return chmod(daemon_dir(scene->daemon), 0711);
}

static int door_teardown(void **state)
{
	return *state ? scene_teardown(state) : 0;
}

static struct scene *scene_of(void **state)
{
	if (!*state)
		skip();
	return *state;
}

/* Handshakes may take for ever: time frees nobody's slot. */
static void configure(struct scene *scene, const char *limits)
{
	char tenants[1024] = "";

	for (unsigned i = 0; i < GHOSTS; i++)
		snprintf(tenants + strlen(tenants), sizeof(tenants) - strlen(tenants),
			"  - {name: ghost%u, role: sensor, uids: [%u]}\n", i, GHOST_UID + i);
	daemon_configure(scene->daemon,
		"limits: {handshake_timeout: 1h%s}\n"
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"  - {name: a2, path: a2.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"  - {name: g1, path: g1.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"tenants:\n"
		"  - {name: globex, role: sensor, uids: [0], endpoints: [g1]}\n"
		"  - {name: acme, role: admin, uids: [0], endpoints: ['*']}\n"
		"%s",
		limits, tenants);
	scene_restart(scene);
}

static void expect_everybody_in(struct scene *scene)
{
	struct write_client admin;
	struct ctx_client client;
	int fds[2];

	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	write_client_close(&admin);
	ctx_client_open(&client, scene->daemon, &scene->globex);
	ctx_client_expect_done(&client, ctx_client_subscribe(&client, "g1"));
	ctx_client_free_message(ctx_client_expect_memctx(&client, fds));
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&client);
}

static void silent_strangers_lock_nobody_out(void **state)
{
	struct scene *scene = scene_of(state);
	struct throng throng = {.n = 0};

	configure(scene, "");
	for (unsigned i = 0; i < 80; i++) {
		join(&throng, scene, STRANGER_UID + i, "ctx.sock", 4);
		join(&throng, scene, STRANGER_UID + i, "write.sock", 4);
	}
	expect_everybody_in(scene);
	daemon_await_log(scene->daemon, "connection refused: quota", 1);
	disperse(&throng);
}

static void silent_uids_of_the_policy_lock_nobody_out(void **state)
{
	struct scene *scene = scene_of(state);
	struct throng throng = {.n = 0};

	configure(scene, "");
	for (unsigned i = 0; i < GHOSTS; i++)
		join(&throng, scene, GHOST_UID + i, "ctx.sock", 64);
	expect_everybody_in(scene);
	disperse(&throng);
}

/* What counts is how far a handshake has come, not that bytes of it come. */
static void slow_uids_of_the_policy_lock_nobody_out(void **state)
{
	struct scene *scene = scene_of(state);
	struct throng throng = {.n = 0};
	pid_t dribbler;

	configure(scene, "");
	for (unsigned i = 0; i < GHOSTS; i++)
		join(&throng, scene, GHOST_UID + i, "ctx.sock", 64);
	dribbler = dribbler_start(&throng);
	for (unsigned i = 0; i < 8; i++)
		expect_everybody_in(scene);
	dribbler_stop(dribbler);
	disperse(&throng);
}

/* All the places there are: one is given to whoever has fewer. */
static void who_waits_takes_nobody_the_room(void **state)
{
	struct scene *scene = scene_of(state);
	struct throng throng = {.n = 0};

	configure(scene, ", connections: 200");
	for (unsigned i = 0; i < GHOSTS; i++)
		join(&throng, scene, GHOST_UID + i, "ctx.sock", 64);
	for (unsigned i = 0; i < 8; i++)
		expect_everybody_in(scene);
	daemon_await_log(scene->daemon, "was ended for another uid's", 1);
	disperse(&throng);
}

/* Also those of the one uid that administrators and sensors share here. */
static void silence_of_ones_own_uid_gives_way(void **state)
{
	struct scene *scene = scene_of(state);
	struct throng throng = {.n = 0};

	configure(scene, ", handshakes: 8");
	join(&throng, scene, 0, "ctx.sock", 40);
	join(&throng, scene, 0, "admin.sock", 40);
	expect_everybody_in(scene);
	daemon_await_log(scene->daemon, "stood still while others waited", 1);
	disperse(&throng);
}

/* Refused before anything is made for them, and what the log leaves out has a name. */
static void a_flood_of_connects_hides_nobody(void **state)
{
	struct scene *scene = scene_of(state);
	char words[64];

	configure(scene, "");
	for (unsigned i = 0; i < 400; i++)
		close(connect_as(scene, STRANGER_UID, "ctx.sock"));
	daemon_await_log(scene->daemon, "connection refused: quota", 1);
	snprintf(words, sizeof(words), "left out\" uid=%u", STRANGER_UID);
	daemon_await_log(scene->daemon, words, 1);
	/* Somebody else's refusal is told meanwhile. */
	for (unsigned i = 0; i < 60; i++)
		close(connect_as(scene, STRANGER_UID + 1, "ctx.sock"));
	snprintf(words, sizeof(words), "quota\" plane=\"ctx\" uid=%u", STRANGER_UID + 1);
	daemon_await_log(scene->daemon, words, 1);
	expect_everybody_in(scene);
}

static void a_tenant_connects_only_so_often(void **state)
{
	struct scene *scene = scene_of(state);
	bool refused = false;

	scene_configure(scene, "{}", "{connects_per_second: 1}");
	scene_restart(scene);
	while (!refused) {
		struct ctx_client client;
		Vmsig__CtxMessage *message;

		assert_true(ctx_client_connect(&client, scene->daemon, &scene->acme));
		ctx_client_hello(&client, 0);
		message = ctx_client_receive(&client);
		assert_non_null(message);
		refused = message->body_case == VMSIG__CTX_MESSAGE__BODY_ERROR;
		if (refused)
			assert_int_equal(message->error->code, VMSIG_ERR_QUOTA);
		ctx_client_free_message(message);
		ctx_client_close(&client);
	}
	daemon_await_log(scene->daemon, "connections in a second", 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, door_setup, door_teardown)
	const struct rlimit files = {4096, 4096};
	const struct CMUnitTest tests[] = {
		T(silent_strangers_lock_nobody_out),
		T(silent_uids_of_the_policy_lock_nobody_out),
		T(slow_uids_of_the_policy_lock_nobody_out),
		T(who_waits_takes_nobody_the_room),
		T(silence_of_ones_own_uid_gives_way),
		T(a_flood_of_connects_hides_nobody),
		T(a_tenant_connects_only_so_often),
	};

	(void)setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
