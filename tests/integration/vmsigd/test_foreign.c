/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors whose close waits as long as their owner likes, sent by strangers and by an
 * operator, on every plane, where the kernel can refuse them and where it cannot. While they
 * are there the broker serves everybody else, and it ends when it is told to.
 */
#include "tests/integration/vmsigd/desk_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/ctx_client.h"
#include "tests/support/foreign.h"

#define ATTACKS 4 /* of a kind, one after the other */
#define BULKS 64  /* the library's window of writes in flight */
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static const char *const planes[] = {"ctx.sock", "write.sock", "admin.sock"};
#define PLANES (sizeof(planes) / sizeof(planes[0]))

/* ---- everybody else ---- */

static void expect_service(struct desk_scene *scene)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__LeaseList list = VMSIG__LEASE_LIST__INIT;
	struct write_client bob, admin;
	struct ctx_client sensor;
	struct write_lease lease;
	int fds[2];

	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = write_client_acquire(&bob, "w2");
	write_client_write(&bob, &lease, 1, 0x1000, "served", 6, NULL);
	assert_int_equal(write_client_outcome(&bob), 0);
	write_client_close(&bob);
	ctx_client_open(&sensor, scene->daemon, &scene->bob);
	ctx_client_expect_done(&sensor, ctx_client_subscribe(&sensor, "r1"));
	ctx_client_free_message(ctx_client_expect_memctx(&sensor, fds));
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&sensor);
	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST;
	request.lease_list = &list;
	write_client_send_admin(&admin, &request);
	vmsig__admin_message__free_unpacked(write_client_receive_admin(&admin), NULL);
	write_client_close(&admin);
}

/* ---- strangers ---- */

static int stranger(struct desk_scene *scene, const char *plane)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/run/%s", daemon_dir(scene->daemon),
		plane);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The descriptor's last reference goes with the message, or nowhere. */
static void send_lingering(int sock, const void *data, size_t len, int *ret_peer)
{
	int fd = foreign_lingering(ret_peer);

	if (foreign_send(sock, data, len, fd))
		foreign_calm(fd);
	close(fd);
}

static void at_once(int sock, int *ret_peer)
{
	send_lingering(sock, "x", 1, ret_peer);
}

/* Behind bytes that end the connection: it is never received. */
static void unread(int sock, int *ret_peer)
{
	char garbage[512];

	memset(garbage, 'x', sizeof(garbage));
	(void)!send(sock, garbage, sizeof(garbage), MSG_NOSIGNAL);
	send_lingering(sock, "x", 1, ret_peer);
}

/* In a socket that is in the socket. */
static void nested(int sock, int *ret_peer)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	send_lingering(pair[0], "x", 1, ret_peer);
	if (foreign_send(sock, "x", 1, pair[1])) {
		char byte;

		/* Nobody took it: it is ours, and calm when its peer is gone. */
		close(*ret_peer);
		*ret_peer = -1;
		(void)!recv(pair[1], &byte, 0, MSG_DONTWAIT);
	}
	close(pair[0]);
	close(pair[1]);
}

static void (*const attacks[])(int sock, int *ret_peer) = {at_once, unread, nested};
#define KINDS (sizeof(attacks) / sizeof(attacks[0]))

/* The broker stands still meanwhile: or it would be done before we are, and the last reference
 * were ours. */
static void attack(struct desk_scene *scene, size_t kind, int sock, int *ret_peer)
{
	pid_t pid = daemon_pid(scene->daemon);

	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	attacks[kind](sock, ret_peer);
	kill(pid, SIGCONT);
}

static void strangers_stop_nobody(void **state)
{
	struct desk_scene *scene = *state;
	int peers[PLANES * KINDS * ATTACKS];
	size_t n = 0;

	for (size_t plane = 0; plane < PLANES; plane++) {
		for (size_t i = 0; i < KINDS * ATTACKS; i++) {
			int sock = stranger(scene, planes[plane]);

			attack(scene, i % KINDS, sock, &peers[n++]);
			close(sock);
		}
		expect_service(scene);
	}
	desk_scene_reload(scene);
	expect_service(scene);
	desk_scene_restart(scene, SIGTERM);
	for (size_t i = 0; i < n; i++) {
		if (peers[i] >= 0)
			close(peers[i]);
	}
}

/* ---- an operator ---- */

static void expect_cut_off(struct write_client *client)
{
	Vmsig__WriteMessage *message;

	while ((message = write_client_receive(client)))
		write_client_free_message(message);
	write_client_close(client);
}

/* An operator's connection, past hello: it may send descriptors. */
static void operators_sockets_stop_nobody(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	int peers[KINDS];

	for (size_t i = 0; i < KINDS; i++) {
		write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
		attack(scene, i, chan_socket(alice.chan), &peers[i]);
		expect_cut_off(&alice);
		expect_service(scene);
		/* Nobody of its uid could send the next one at once. */
		desk_scene_restart(scene, SIGTERM);
	}
	for (size_t i = 0; i < KINDS; i++)
		close(peers[i]);
}

static int memfd_of(const void *data, size_t len)
{
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	return fd;
}

static void await_waiting(unsigned count)
{
	for (int i = 0; foreign_fuse_waiting() < count; i++) {
		if (i == DAEMON_WAIT_MS / 5)
			fail_msg("nobody has closed the file");
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

/* What was sent is closed by a process that the broker has left behind. It ends when the file
 * system does. */
static void await_orphans(void)
{
	for (int i = 0; waitpid(-1, NULL, WNOHANG) >= 0; i++) {
		if (i == DAEMON_WAIT_MS / 5)
			fail_msg("a process of the broker is left");
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

static void a_file_that_cannot_be_closed_stops_nobody(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	char folder[128];
	int file, fd;

	snprintf(folder, sizeof(folder), "%s/fuse", daemon_dir(scene->daemon));
	assert_int_equal(mkdir(folder, 0700), 0);
	if (!foreign_fuse_up(folder))
		skip();
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	file = foreign_fuse_open();
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	assert_int_equal(foreign_send(chan_socket(alice.chan), "x", 1, file), 0);
	close(file);
	await_waiting(1);
	expect_cut_off(&alice);
	expect_service(scene);
	daemon_await_log(scene->daemon, "that a client sent do not close", 1);
	/* Who did it has lost the right until it is gone; where the kernel cannot refuse, the
	 * connection ends. */
	fd = memfd_of("data", 4);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	if (foreign_send(chan_socket(alice.chan), "x", 1, fd) == EPERM)
		write_client_close(&alice);
	else
		expect_cut_off(&alice);
	close(fd);
	expect_service(scene);
	desk_scene_restart(scene, SIGTERM);
	expect_service(scene);
	/* A killed one frees the way for the next, too. */
	desk_scene_restart(scene, SIGKILL);
	expect_service(scene);
	foreign_fuse_down();
	assert_int_equal(daemon_stop(scene->daemon, SIGTERM), 0);
	await_orphans();
	desk_scene_start(scene);
}

/* ---- memfds, as they should be ---- */

static void a_window_of_bulk_writes_is_taken(void **state)
{
	struct desk_scene *scene = *state;
	char text[64], there[BULKS][64];
	struct write_client alice;
	struct write_lease lease;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_acquire(&alice, "w1");
	for (unsigned i = 0; i < BULKS; i++) {
		int fd;

		snprintf(text, sizeof(text), "bulk write %u", i);
		fd = memfd_of(text, sizeof(text));
		write_client_bulk(
			&alice, &lease, i + 1, 0x4000 + i * sizeof(text), fd, sizeof(text));
		close(fd);
	}
	for (unsigned i = 0; i < BULKS; i++)
		assert_int_equal(write_client_outcome(&alice), 0);
	desk_scene_read(scene, "w1", 0x4000, there, sizeof(there));
	for (unsigned i = 0; i < BULKS; i++) {
		snprintf(text, sizeof(text), "bulk write %u", i);
		assert_string_equal(there[i], text);
	}
	write_client_close(&alice);
}

/* The right to send descriptors follows the policy, both ways. */
static void a_reload_gives_and_takes_the_right(void **state)
{
	struct desk_scene *scene = *state;
	int fd = memfd_of("data", 4);
	struct write_client alice;
	struct write_lease lease;
	uint64_t id;

	desk_scene_configure(scene, "{}", "leases: 16, bulk: 0");
	desk_scene_reload(scene);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	lease = write_client_acquire(&alice, "w1");
	id = write_client_bulk(&alice, &lease, 1, 0x1000, fd, 4);
	write_client_expect_error(&alice, id, VMSIG_ERR_BAD_REQUEST);
	desk_scene_configure(scene, "{}", "leases: 16");
	desk_scene_reload(scene);
	write_client_bulk(&alice, &lease, 1, 0x1000, fd, 4);
	assert_int_equal(write_client_outcome(&alice), 0);
	desk_scene_configure(scene, "{}", "leases: 16, bulk: 0");
	desk_scene_reload(scene);
	id = write_client_bulk(&alice, &lease, 2, 0x1000, fd, 4);
	write_client_expect_error(&alice, id, VMSIG_ERR_BAD_REQUEST);
	write_client_close(&alice);
	close(fd);
}

/* ---- an older kernel ---- */

static int setup_older(void **state)
{
	setenv("LD_PRELOAD", NOPASS, 1);
	setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
	return desk_scene_setup(state);
}

static int teardown_older(void **state)
{
	int r = desk_scene_teardown(state);

	unsetenv("LD_PRELOAD");
	unsetenv("ASAN_OPTIONS");
	return r;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, desk_scene_setup, desk_scene_teardown)
#define OLDER(f)                                                                                   \
	{                                                                                          \
		"older kernel: " #f, f, setup_older, teardown_older, NULL                          \
	}
	const struct CMUnitTest tests[] = {
		T(strangers_stop_nobody),
		T(operators_sockets_stop_nobody),
		T(a_file_that_cannot_be_closed_stops_nobody),
		T(a_window_of_bulk_writes_is_taken),
		T(a_reload_gives_and_takes_the_right),
		OLDER(strangers_stop_nobody),
		OLDER(operators_sockets_stop_nobody),
		OLDER(a_file_that_cannot_be_closed_stops_nobody),
		OLDER(a_window_of_bulk_writes_is_taken),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
