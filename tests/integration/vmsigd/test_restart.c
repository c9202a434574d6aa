/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker and the service manager that starts it anew: its sockets stay, and so do its connections
 * to QEMU, and with them the epochs of guests that nothing else tells from their earlier selves.
 * The manager is the test, which speaks what systemd speaks.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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

#include "tests/integration/qemu/fake_qmp.h"
#include "tests/integration/vmsigd/scene.h"
#include "tests/support/write_client.h"
#include "tests/unit/guest/image.h"

#define RAM_SIZE (512l << 20)
#define FDS_START 3 /* sd_listen_fds(3) */
#define KEPT_MAX 8
#define STEP_MS 20

/* Without KASLR: no fact of the boot tells it from the next one. */
static const struct image_linux kernel = {
	.release = "6.1.0-test", .root = 0x200000, .text = 0x210000, .note = 0x220000, .levels = 5};

static struct world {
	struct daemon *daemon;
	struct pki_cert sensor, operator_;
	pid_t broker, qemu; /* 0: it does not run */
	const char *name;   /* the guest's */

	/* The manager. */
	int notify, sockets[2];
	struct {
		char name[256];
		int fd;
	} kept[KEPT_MAX];
	size_t nkept;
	unsigned readies, stops, pings, removals;
} world;

static const char *in_dir(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", daemon_dir(world.daemon), name);
	return path;
}

static int bound(const char *path, int type)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && strlen(path) < sizeof(addr.sun_path));
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(chmod(path, 0666), 0);
	return fd;
}

/* ---- the manager ---- */

static void forget(const char *name)
{
	for (size_t i = 0; i < world.nkept;) {
		if (strcmp(world.kept[i].name, name) != 0) {
			i++;
			continue;
		}
		close(world.kept[i].fd);
		world.kept[i] = world.kept[--world.nkept];
		world.removals++;
	}
}

static void obey(const char *text, int fd)
{
	const char *name = strstr(text, "FDNAME=");

	world.readies += strstr(text, "READY=1") != NULL;
	world.stops += strstr(text, "STOPPING=1") != NULL;
	world.pings += strstr(text, "WATCHDOG=1") != NULL;
	if (strstr(text, "FDSTOREREMOVE=1")) {
		assert_non_null(name);
		forget(name + strlen("FDNAME="));
	} else if (strstr(text, "FDSTORE=1")) {
		assert_true(name && fd >= 0 && world.nkept < KEPT_MAX);
		snprintf(world.kept[world.nkept].name, sizeof(world.kept[0].name), "%s",
			name + strlen("FDNAME="));
		world.kept[world.nkept++].fd = fd;
		return;
	}
	/* A barrier's is closed, which is the answer to it. */
	if (fd >= 0)
		close(fd);
}

/* All that the broker has said. */
static void hear(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char text[1024];

	for (;;) {
		struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
		struct msghdr msg = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(world.notify, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		const struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
		int fd = -1;

		if (n <= 0)
			return;
		text[n] = '\0';
		if (header && header->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		obey(text, fd);
	}
}

static void await(const unsigned *counter, unsigned count)
{
	const struct pollfd heard = {.fd = world.notify, .events = POLLIN};

	for (unsigned waited = 0; *counter < count; waited += STEP_MS) {
		struct pollfd poller = heard;

		if (waited > DAEMON_WAIT_MS)
			fail_msg(
				"the manager was not told; the log:\n%s", daemon_log(world.daemon));
		poll(&poller, 1, STEP_MS);
		hear();
	}
}

/* What is handed in, with its names, at the numbers that the protocol wants. */
static void hand_in(void)
{
	int fds[2 + KEPT_MAX], n = 0;
	char names[2 * 256 * KEPT_MAX] = "ctx:write", number[32];

	fds[n++] = world.sockets[0];
	fds[n++] = world.sockets[1];
	for (size_t i = 0; i < world.nkept; i++) {
		fds[n++] = world.kept[i].fd;
		strcat(strcat(names, ":"), world.kept[i].name);
	}
	/* Out of the way first. */
	for (int i = 0; i < n; i++)
		fds[i] = fcntl(fds[i], F_DUPFD, 100);
	for (int i = 0; i < n; i++)
		dup2(fds[i], FDS_START + i);
	/* One that nobody has handed in. */
	dup2(fds[0], FDS_START + n);
	snprintf(number, sizeof(number), "%d", n);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	setenv("LISTEN_PID", number, 1);
	setenv("WATCHDOG_PID", number, 1);
	setenv("WATCHDOG_USEC", "300000", 1);
	setenv("NOTIFY_SOCKET", in_dir("notify"), 1);
}

static void broker_start(void)
{
	unsigned before = world.readies;

	world.broker = fork();
	assert_true(world.broker >= 0);
	if (world.broker == 0) {
		int log = open(in_dir("log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		hand_in();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(VMSIGD, VMSIGD, "-c", daemon_config(world.daemon), (char *)NULL);
		_exit(127);
	}
	await(&world.readies, before + 1);
}

static void broker_stop(int signal)
{
	int status;

	kill(world.broker, signal);
	for (unsigned waited = 0; waitpid(world.broker, &status, WNOHANG) == 0; waited += STEP_MS) {
		const struct timespec pause = {.tv_nsec = STEP_MS * 1000000};

		if (waited > DAEMON_WAIT_MS)
			fail_msg("vmsigd does not end:\n%s", daemon_log(world.daemon));
		/* It waits until it was heard. */
		hear();
		nanosleep(&pause, NULL);
	}
	hear();
	world.broker = 0;
	assert_int_equal(status, signal == SIGKILL ? SIGKILL : 0);
}

/* ---- QEMU ---- */

static struct fake_qmp fake;

static void on_reset(uv_signal_t *handle, int signum)
{
	fake_qmp_say(&fake, "{\"event\": \"RESET\", \"data\": {\"guest\": true}, \"timestamp\": "
			    "{\"seconds\": 1, \"microseconds\": 1}}");
}

static void make_ram(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct image image;

	assert_true(fd >= 0);
	image_init(&image);
	image_put_linux(&image, &kernel);
	assert_int_equal(ftruncate(fd, RAM_SIZE), 0);
	assert_int_equal(pwrite(fd, image.ram, IMAGE_SIZE, 0), IMAGE_SIZE);
	image_deinit(&image);
	close(fd);
}

/* Resets "the guest", in its words, on SIGUSR1. */
static _Noreturn void qemu_run(void)
{
	static uv_signal_t reset;
	int fd = open(in_dir("ram"), O_RDWR | O_CLOEXEC);
	uv_loop_t loop;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd < 0 ||
		mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ||
		uv_loop_init(&loop))
		abort();
	signal(SIGPIPE, SIG_IGN);
	uv_signal_init(&loop, &reset);
	uv_signal_start(&reset, on_reset, SIGUSR1);
	fake_qmp_start(&fake, &loop, in_dir("qmp"), in_dir("ram"));
	fake.cr3 = kernel.root;
	uv_run(&loop, UV_RUN_DEFAULT);
	abort();
}

/* ---- the scene ---- */

/* Who is served: written down, or found. */
static void configure(const char *served)
{
	daemon_configure(world.daemon,
		"limits: {resume_grace: 1h}\n"
		"%s, reprove: 100ms, retry: 50ms, retry_max: 100ms, writable: yes}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: [\"*\"]}\n"
		"  - {name: ops, role: operator, uids: [%u], endpoints: [\"*\"], write: "
		"[{endpoints: [\"*\"]}]}\n",
		served, (unsigned)getuid(), (unsigned)getuid());
}

static int setup(void **state)
{
	memset(&world, 0, sizeof(world));
	world.name = "web1";
	world.daemon = daemon_new();
	pki_issue_uri(daemon_pki(world.daemon), "acme", "vmsig://sensor/acme", &world.sensor);
	pki_issue_uri(daemon_pki(world.daemon), "ops", "vmsig://operator/ops", &world.operator_);
	configure("endpoints:\n  - {name: web1, adapter: qemu, qmp: qmp");
	assert_int_equal(mkdir(in_dir("run"), 0755), 0);
	world.notify = bound(in_dir("notify"), SOCK_DGRAM);
	world.sockets[0] = bound(in_dir("run/ctx.sock"), SOCK_STREAM);
	world.sockets[1] = bound(in_dir("run/write.sock"), SOCK_STREAM);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(listen(world.sockets[i], 16), 0);
	make_ram(in_dir("ram"));
	world.qemu = fork();
	assert_true(world.qemu >= 0);
	if (world.qemu == 0)
		qemu_run();
	return 0;
}

static int teardown(void **state)
{
	if (world.broker)
		broker_stop(SIGTERM);
	kill(world.qemu, SIGKILL);
	waitpid(world.qemu, NULL, 0);
	while (world.nkept)
		close(world.kept[--world.nkept].fd);
	close(world.notify);
	close(world.sockets[0]);
	close(world.sockets[1]);
	daemon_free(world.daemon);
	return 0;
}

static int setup_discovered(void **state)
{
	int r = setup(state);

	configure("discover:\n  - {qmp: '[q]mp', name: file");
	world.name = "qmp";
	return r;
}

static bool is_listed(struct ctx_client *client)
{
	Vmsig__CtxMessage *message;
	bool found = false;

	ctx_client_list(client);
	message = ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	for (size_t i = 0; i < message->endpoint_list->n_endpoints; i++)
		found |= strcmp(message->endpoint_list->endpoints[i]->name, world.name) == 0;
	ctx_client_free_message(message);
	return found;
}

static void await_listed(void)
{
	const struct timespec pause = {.tv_nsec = STEP_MS * 1000000};
	struct ctx_client client;

	ctx_client_open(&client, world.daemon, &world.sensor);
	for (unsigned waited = 0; !is_listed(&client); waited += STEP_MS) {
		if (waited > DAEMON_WAIT_MS)
			fail_msg("%s is not listed:\n%s", world.name, daemon_log(world.daemon));
		nanosleep(&pause, NULL);
	}
	ctx_client_close(&client);
}

/* Its epoch once the guest is there, and ready. */
static uint32_t epoch(void)
{
	await_listed();
	return ctx_client_epoch(world.daemon, &world.sensor, world.name);
}

/* ---- tests ---- */

static void sockets_and_clients_outlive_a_restart(void **state)
{
	struct ctx_client client;
	struct stat st;

	broker_start();
	await(&world.pings, 2);
	epoch();
	broker_stop(SIGTERM);
	assert_int_equal(world.stops, 1);
	assert_int_equal(stat(in_dir("run/ctx.sock"), &st), 0);
	/* Nobody is refused meanwhile: the connection waits for the next broker. */
	broker_start();
	ctx_client_open(&client, world.daemon, &world.sensor);
	ctx_client_close(&client);
}

static void an_epoch_outlives_a_restart_without_kaslr(void **state)
{
	uint32_t before;

	broker_start();
	before = epoch();
	for (unsigned i = 0; i < 2; i++) {
		broker_stop(SIGTERM);
		assert_int_equal(world.nkept, 1);
		broker_start();
		assert_int_equal(epoch(), before);
		/* Its own copy would keep QEMU's socket from others. */
		hear();
		assert_int_equal(world.nkept, 0);
	}
	daemon_await_log(world.daemon, "kernel proven", 3);
	assert_int_equal(daemon_log_count(world.daemon, "kernel proven"), 3);
}

static void a_reset_meanwhile_is_heard_of(void **state)
{
	uint32_t before;

	broker_start();
	before = epoch();
	broker_stop(SIGTERM);
	assert_int_equal(world.nkept, 1);
	kill(world.qemu, SIGUSR1);
	broker_start();
	assert_true(epoch() > before);
}

static void a_reset_afterwards_ends_it_too(void **state)
{
	uint32_t before, after;

	broker_start();
	before = epoch();
	broker_stop(SIGTERM);
	broker_start();
	assert_int_equal(epoch(), before);
	kill(world.qemu, SIGUSR1);
	daemon_await_log(world.daemon, "guest session ended", 1);
	after = epoch();
	assert_true(after > before);
	broker_stop(SIGTERM);
	broker_start();
	assert_int_equal(epoch(), after);
}

static void without_the_connection_nothing_is_proven(void **state)
{
	uint32_t before;

	broker_start();
	before = epoch();
	broker_stop(SIGTERM);
	forget(world.kept[0].name);
	broker_start();
	assert_true(epoch() > before);
}

/* Who is killed has left nothing, and may have read what it did not act on. */
static void a_kill_is_no_restart(void **state)
{
	uint32_t before;

	broker_start();
	before = epoch();
	broker_stop(SIGTERM);
	broker_start();
	assert_int_equal(epoch(), before);
	broker_stop(SIGKILL);
	assert_int_equal(world.nkept, 0);
	broker_start();
	assert_true(epoch() > before);
}

static void a_removed_endpoint_lets_go(void **state)
{
	broker_start();
	epoch();
	broker_stop(SIGTERM);
	assert_int_equal(world.nkept, 1);
	daemon_configure(world.daemon,
		"endpoints: []\ntenants:\n"
		"  - {name: acme, role: sensor, uids: [0], endpoints: []}\n");
	broker_start();
	await(&world.removals, 1);
	assert_int_equal(world.nkept, 0);
}

static void resume(struct write_client *client, const struct write_lease *lease)
{
	Vmsig__LeaseResume body = VMSIG__LEASE_RESUME__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;

	body.lease = lease->id;
	body.token = lease->token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME;
	request.lease_resume = &body;
	write_client_send(client, &request, NULL, 0);
}

static void a_lease_outlives_a_restart(void **state)
{
	struct write_client client;
	struct write_lease lease;
	uint64_t word = 7;

	broker_start();
	epoch();
	write_client_open(&client, world.daemon, "write.sock", &world.operator_);
	write_client_ask(&client, world.name, 0, 0, 30000, 0, false);
	lease = write_client_granted(&client);
	broker_stop(SIGTERM);
	write_client_close(&client);
	broker_start();
	assert_int_equal(epoch(), lease.epoch);
	write_client_open(&client, world.daemon, "write.sock", &world.operator_);
	resume(&client, &lease);
	write_client_free_message(
		write_client_expect(&client, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO));
	write_client_write(&client, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&client), 0);
	write_client_close(&client);
}

static void what_is_at(int number, char target[static 128])
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)world.broker, number);
	n = readlink(path, target, 127);
	target[n > 0 ? n : 0] = '\0';
}

static void what_was_not_handed_in_is_closed(void **state)
{
	char first[128], stray[128];

	broker_start();
	/* ctx and write are at 3 and 4; at 5 was the first one again. */
	what_is_at(FDS_START, first);
	what_is_at(FDS_START + 2, stray);
	assert_non_null(strstr(first, "socket:"));
	assert_string_not_equal(first, stray);
}

/* Under another name than it was found by: the connection that was kept is in nobody's way. */
static void who_is_named_anew_has_its_socket(void **state)
{
	broker_start();
	epoch();
	broker_stop(SIGTERM);
	assert_int_equal(world.nkept, 1);
	assert_int_equal(rename(in_dir("qmp"), in_dir("qmp2")), 0);
	configure("discover:\n  - {qmp: '[q]mp2', name: file");
	world.name = "qmp2";
	broker_start();
	epoch();
	hear();
	assert_int_equal(world.nkept, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define DISCOVERED(test)                                                                           \
	{                                                                                          \
		.name = #test "_if_discovered", .test_func = (test),                               \
		.setup_func = setup_discovered, .teardown_func = teardown                          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sockets_and_clients_outlive_a_restart),
		TEST(an_epoch_outlives_a_restart_without_kaslr),
		TEST(a_reset_meanwhile_is_heard_of),
		TEST(a_reset_afterwards_ends_it_too),
		TEST(without_the_connection_nothing_is_proven),
		TEST(a_kill_is_no_restart),
		TEST(a_removed_endpoint_lets_go),
		TEST(a_lease_outlives_a_restart),
		TEST(what_was_not_handed_in_is_closed),
		DISCOVERED(an_epoch_outlives_a_restart_without_kaslr),
		DISCOVERED(a_reset_meanwhile_is_heard_of),
		DISCOVERED(a_lease_outlives_a_restart),
		DISCOVERED(who_is_named_anew_has_its_socket),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
