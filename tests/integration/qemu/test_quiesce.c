/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs that are stopped around a write, between the real QMP connection, the real guardian
 * and a fake QEMU: the guest always goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/adapters/qemu/guardian.h"
#include "broker/adapters/qemu/quiesce.h"
#include "broker/policy/share.h"
#include "tests/integration/qemu/fake_qmp.h"
#include "vmsig/vmsig_error.h"

#define PATIENCE_MS 60000
#define TICK_MS 5
#define SLOW_TICKS 10
#define LONG_MS 60000 /* a bound that does not come */

static struct scene {
	uv_loop_t loop;
	char dir[64], socket[96];
	struct fake_qmp fake;
	struct link link;
	struct quiesce quiesce;
	struct guardian *guardian;
	struct shares *shares;
	struct share *share;
	uv_prepare_t turn; /* runs their tasks, as the broker does */
	bool ready, quiesce_closed;
	unsigned done;
	int error;
	uv_timer_t tick;
	unsigned ticks;
	uint64_t began;
} scene;

/* Also keeps the loop turning: it may sleep right after a timer has changed something. */
static void on_tick(uv_timer_t *timer)
{
	if (scene.fake.slow && ++scene.ticks % SLOW_TICKS == 0)
		fake_qmp_go_on(&scene.fake);
	if (uv_now(timer->loop) - scene.began < PATIENCE_MS)
		return;
	fail_msg("nothing happens; QEMU was told: %s", scene.fake.log);
}

static void on_ready(void *arg, pid_t pid)
{
	scene.ready = true;
	quiesce_link_ready(&scene.quiesce);
}

static void on_message(void *arg, struct qmp_message *message)
{
	if (message->kind == QMP_REPLY)
		(void)!quiesce_reply(&scene.quiesce, message);
}

static void on_down(void *arg, const char *reason)
{
	scene.ready = false;
	quiesce_link_down(&scene.quiesce);
}

/* As a link that is down: the next commands are of the next connection. */
static void on_silent(void *arg, const char *reason)
{
	on_down(arg, reason);
}

static void on_voice(void *arg)
{
	on_ready(arg, 0);
}

static uint64_t now_ns(void *ctx)
{
	return uv_hrtime();
}

static void on_turn(uv_prepare_t *turn)
{
	shares_run(scene.shares);
}

static void on_link_closed(void *arg)
{
	/* The loop runs out. */
}

/* As the adapter does it. */
static void on_quiesce_closed(void *arg)
{
	link_close(&scene.link);
	scene.quiesce_closed = true;
}

static void on_done(void *arg, int error)
{
	assert_ptr_equal(arg, &scene);
	scene.done++;
	scene.error = error;
}

#define await(condition)                                                                           \
	while (!(condition))                                                                       \
	uv_run(&scene.loop, UV_RUN_ONCE)

static bool is_active(void)
{
	enum quiesce_state state = scene.quiesce.state;

	return state != QUIESCE_IDLE && state != QUIESCE_REFUSED;
}

/* The socket file itself. */
static int place_of(const char *path)
{
	return open(path, O_PATH | O_CLOEXEC);
}

static void connect_link(void)
{
	assert_int_equal(link_open(&scene.link, place_of(scene.socket)), 0);
	await(scene.ready);
}

static int setup(void **state)
{
	memset(&scene, 0, sizeof(scene));
	assert_int_equal(guardian_start(&scene.guardian), 0);
	strcpy(scene.dir, "/tmp/vmsig-quiesce-XXXXXX");
	assert_non_null(mkdtemp(scene.dir));
	snprintf(scene.socket, sizeof(scene.socket), "%s/qmp", scene.dir);
	assert_int_equal(uv_loop_init(&scene.loop), 0);
	assert_int_equal(uv_timer_init(&scene.loop, &scene.tick), 0);
	scene.began = uv_now(&scene.loop);
	uv_timer_start(&scene.tick, on_tick, TICK_MS, TICK_MS);
	fake_qmp_start(&scene.fake, &scene.loop, scene.socket, "");
	assert_int_equal(shares_new(&scene.shares, &SHARE_LIMITS_DEFAULT, now_ns, NULL), 0);
	assert_int_equal(share_get(scene.shares, SHARE_QEMU, "vm", &scene.share), 0);
	assert_int_equal(uv_prepare_init(&scene.loop, &scene.turn), 0);
	assert_int_equal(uv_prepare_start(&scene.turn, on_turn), 0);
	scene.link = (struct link){.loop = &scene.loop,
		.share = scene.share,
		.path = scene.socket,
		.timeout_ms = 5000,
		.on_ready = on_ready,
		.on_message = on_message,
		.on_silent = on_silent,
		.on_voice = on_voice,
		.on_down = on_down,
		.on_closed = on_link_closed};
	quiesce_init(&scene.quiesce, &scene.link, scene.guardian, on_quiesce_closed, NULL);
	connect_link();
	return 0;
}

static int teardown(void **state)
{
	if (!scene.quiesce.closing)
		quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	fake_qmp_stop(&scene.fake);
	uv_close((uv_handle_t *)&scene.tick, NULL);
	uv_close((uv_handle_t *)&scene.turn, NULL);
	uv_run(&scene.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&scene.loop), 0);
	share_unref(scene.share);
	shares_free(scene.shares);
	guardian_stop(scene.guardian);
	unlink(scene.socket);
	return rmdir(scene.dir);
}

static void start(uint64_t bound_ms)
{
	scene.done = 0;
	quiesce_start(&scene.quiesce, bound_ms, on_done, &scene);
	/* Never from inside of the call. */
	assert_int_equal(scene.done, 0);
}

static void a_running_guest_is_stopped_and_goes_on(void **state)
{
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop ");
	quiesce_end(&scene.quiesce);
	assert_false(quiesce_is_still(&scene.quiesce));
	await(!is_active());
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.done, 1);
}

static void a_paused_guest_stays_paused(void **state)
{
	scene.fake.status = "paused";
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	assert_true(quiesce_is_still(&scene.quiesce));
	quiesce_end(&scene.quiesce);
	await(!is_active());
	assert_string_equal(scene.fake.log, "");
}

static void the_bound_ends_it(void **state)
{
	start(20);
	await(scene.done);
	assert_int_equal(scene.error, 0);
	/* Nobody resumes it. */
	await(!is_active());
	assert_false(quiesce_is_still(&scene.quiesce));
	assert_string_equal(scene.fake.log, "stop cont ");
	quiesce_end(&scene.quiesce);
	assert_int_equal(scene.done, 1);
}

static void a_silent_qemu_is_not_waited_for(void **state)
{
	scene.fake.mute = true;
	start(20);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_TIMEOUT);
	assert_string_equal(scene.fake.log, "");
}

static void one_follows_the_other(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		/* Also while QEMU has not said yet that it goes on. */
		start(LONG_MS);
		await(scene.done);
		assert_int_equal(scene.error, 0);
		quiesce_end(&scene.quiesce);
	}
	await(!is_active());
	assert_string_equal(scene.fake.log, "stop cont stop cont stop cont ");
}

static void a_lost_connection_is_made_up_for(void **state)
{
	start(LONG_MS);
	await(scene.done);
	assert_true(quiesce_is_still(&scene.quiesce));
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	assert_false(quiesce_is_still(&scene.quiesce));
	connect_link();
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	await(!is_active());
}

/* Somebody else stops the guest as soon as it goes on. It is theirs to continue. */
static void who_stops_it_too_keeps_it_stopped(void **state)
{
	start(LONG_MS);
	await(scene.done);
	scene.fake.stopped_by_other = "paused";
	quiesce_end(&scene.quiesce);
	/* Before QEMU has said that it goes on. */
	start(LONG_MS);
	await(scene.done);
	assert_true(quiesce_is_still(&scene.quiesce));
	quiesce_end(&scene.quiesce);
	quiesce_close(&scene.quiesce);
	await(scene.quiesce_closed);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* QEMU answers to nothing for longer than the bound, with a cont under way. */
static void a_late_answer_settles_it(void **state)
{
	uint64_t cont;

	start(LONG_MS);
	await(scene.done);
	scene.fake.mute = true;
	quiesce_end(&scene.quiesce);
	cont = scene.quiesce.cont_id;
	assert_true(cont > 0);
	start(20);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_TIMEOUT);
	assert_true(is_active());
	assert_true(quiesce_reply(
		&scene.quiesce, &(struct qmp_message){.kind = QMP_REPLY, .id = cont}));
	assert_false(is_active());
	assert_false(scene.quiesce.stopped);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* No command can be sent at the moment. */
static void a_cont_that_cannot_be_sent_is_tried_again(void **state)
{
	uint64_t id;

	start(LONG_MS);
	await(scene.done);
	while (link_command(&scene.link, "query-status", NULL, &id) == 0)
		;
	quiesce_end(&scene.quiesce);
	assert_int_equal(scene.quiesce.cont_id, 0);
	await(!is_active());
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* The connection comes between the refusal and the word of it. */
static void a_connection_forgets_nobody_who_waits(void **state)
{
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	start(LONG_MS);
	quiesce_link_ready(&scene.quiesce);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
	connect_link();
}

static void one_without_a_connection_is_refused(void **state)
{
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	start(LONG_MS);
	await(scene.done);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
	connect_link();
}

/* The adapter goes while the guest is stopped: not before it goes on. */
static void an_endpoint_that_is_given_up_goes_on(void **state)
{
	start(LONG_MS);
	await(scene.done);
	quiesce_close(&scene.quiesce);
	assert_false(quiesce_is_still(&scene.quiesce));
	await(scene.quiesce_closed);
	assert_string_equal(scene.fake.log, "stop cont ");
	assert_int_equal(scene.fake.accepted, 1);
}

static void one_that_waits_when_it_is_given_up_is_told(void **state)
{
	scene.fake.mute = true;
	start(LONG_MS);
	quiesce_close(&scene.quiesce);
	assert_int_equal(scene.done, 1);
	assert_int_equal(scene.error, VMSIG_ERR_GONE);
}

/* There is no connection to say it over: the guardian makes one. */
static void the_guardian_continues_what_is_given_up(void **state)
{
	start(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	quiesce_close(&scene.quiesce);
	await(strcmp(scene.fake.log, "stop cont ") == 0);
	assert_int_equal(scene.fake.accepted, 2);
}

/* The guardian of this process has taken its name, which it does last. */
static bool has_guardian(pid_t pid)
{
	char path[64], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	file = fopen(path, "re");
	assert_non_null(file);
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/comm", atoi(text));
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strcmp(text, "vmsig-guardian\n") == 0;
}

/* A process like the broker arms these, in this order, and its process group gets a signal
 * that it dies of. */
static void arm_and_die(const char *const *sockets, size_t n, int signum)
{
	int ready[2];
	char byte;
	pid_t pid;

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct guardian *guardian;

		close(ready[0]);
		if (setpgid(0, 0) < 0 || guardian_start(&guardian))
			_exit(1);
		for (size_t i = 0; i < n; i++) {
			if (guardian_arm(guardian, sockets[i], place_of(sockets[i])))
				_exit(1);
		}
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_string_equal(scene.fake.log, "");
	await(has_guardian(pid));
	assert_int_equal(kill(signum == SIGKILL ? pid : -pid, signum), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ready[0]);
}

static void a_killed_broker_is_made_up_for(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *const sockets[] = {scene.socket, addr.sun_path};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* Of the other one only the socket file is left. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/left", scene.dir);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	arm_and_die(sockets, 2, SIGKILL);
	await(strcmp(scene.fake.log, "cont ") == 0);
	unlink(addr.sun_path);
}

static void what_ends_the_group_leaves_the_guardian(void **state)
{
	static const int signums[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	const char *const sockets[] = {scene.socket};

	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]); i++) {
		arm_and_die(sockets, 1, signums[i]);
		await(strcmp(scene.fake.log, "cont ") == 0);
		await(!scene.fake.connected);
		scene.fake.log[0] = '\0';
	}
}

/* Of two QEMUs one hangs: it accepts, and says nothing. */
static void one_that_hangs_delays_no_other(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *const sockets[] = {addr.sun_path, scene.socket, addr.sun_path};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/silent", scene.dir);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	arm_and_die(sockets, 3, SIGKILL);
	await(strcmp(scene.fake.log, "cont ") == 0);
	unlink(addr.sun_path);
	close(fd);
}

/* QEMU answers to its next client what the last one has asked, and forgets what nobody stays
 * for: the guardian waits for its own answers. */
static void the_guardian_takes_no_answer_for_its_own(void **state)
{
	start(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene.fake.late = scene.fake.slow = true;
	quiesce_close(&scene.quiesce);
	await(strcmp(scene.fake.log, "stop cont ") == 0);
}

/* QEMU says that there is nothing to continue. The guardian leaves it at that. */
static void a_refused_cont_is_not_repeated(void **state)
{
	start(LONG_MS);
	await(scene.done);
	fake_qmp_hang_up(&scene.fake);
	await(!scene.ready);
	scene.fake.refuses_cont = true;
	quiesce_close(&scene.quiesce);
	await(scene.fake.accepted == 2);
	await(!scene.fake.connected);
	/* Waits for its end. */
	scene.guardian = guardian_stop(scene.guardian);
	uv_run(&scene.loop, UV_RUN_NOWAIT);
	assert_int_equal(scene.fake.accepted, 2);
	assert_string_equal(scene.fake.log, "stop cont ");
}

/* Neither what the broker had open nor its standard streams. */
static void the_guardian_holds_nothing(void **state)
{
	struct guardian *guardian;
	struct rlimit limit;
	int fds[2], saved = dup(STDOUT_FILENO), high;
	struct pollfd end;
	char byte;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(pipe(fds), 0);
	high = fcntl(fds[1], F_DUPFD, limit.rlim_max > 1100 ? 1100 : 20);
	assert_true(high > 0);
	assert_int_equal(dup2(fds[1], STDOUT_FILENO), STDOUT_FILENO);
	assert_int_equal(guardian_start(&guardian), 0);
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	close(saved);
	close(high);
	close(fds[1]);
	/* The end of it: nobody else can write. */
	end = (struct pollfd){.fd = fds[0], .events = POLLIN};
	assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	close(fds[0]);
	guardian_stop(guardian);
}

static void a_disarmed_guardian_does_nothing(void **state)
{
	struct guardian *guardian;
	int place = place_of(scene.socket);

	link_close(&scene.link);
	await(!scene.fake.connected);
	assert_int_equal(guardian_start(&guardian), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket, -1), -EBADF);
	assert_int_equal(guardian_arm(guardian, scene.socket, place), 0);
	guardian_disarm(guardian, scene.socket);
	/* Waits for its end. */
	guardian_stop(guardian);
	uv_run(&scene.loop, UV_RUN_NOWAIT);
	assert_int_equal(scene.fake.accepted, 1);
	assert_int_equal(guardian_arm(NULL, scene.socket, place), -ENOENT);
	close(place);
}

/* What the name means when the time comes does not matter: the guest that was stopped goes on. */
static void a_planted_name_does_not_lead_the_guardian_astray(void **state)
{
	struct guardian *guardian;
	int place = place_of(scene.socket);

	link_close(&scene.link);
	await(!scene.fake.connected);
	scene.fake.status = "paused";
	assert_int_equal(guardian_start(&guardian), 0);
	assert_int_equal(guardian_arm(guardian, scene.socket, place), 0);
	close(place);
	assert_int_equal(unlink(scene.socket), 0);
	assert_int_equal(symlink("/nonexistent", scene.socket), 0);
	guardian_release(guardian, scene.socket);
	await(strcmp(scene.fake.log, "cont ") == 0);
	guardian_stop(guardian);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_running_guest_is_stopped_and_goes_on),
		TEST(a_paused_guest_stays_paused),
		TEST(the_bound_ends_it),
		TEST(a_silent_qemu_is_not_waited_for),
		TEST(one_follows_the_other),
		TEST(a_lost_connection_is_made_up_for),
		TEST(who_stops_it_too_keeps_it_stopped),
		TEST(a_late_answer_settles_it),
		TEST(a_cont_that_cannot_be_sent_is_tried_again),
		TEST(a_connection_forgets_nobody_who_waits),
		TEST(one_without_a_connection_is_refused),
		TEST(an_endpoint_that_is_given_up_goes_on),
		TEST(one_that_waits_when_it_is_given_up_is_told),
		TEST(the_guardian_continues_what_is_given_up),
		TEST(a_killed_broker_is_made_up_for),
		TEST(what_ends_the_group_leaves_the_guardian),
		TEST(one_that_hangs_delays_no_other),
		TEST(the_guardian_takes_no_answer_for_its_own),
		TEST(a_refused_cont_is_not_repeated),
		TEST(the_guardian_holds_nothing),
		TEST(a_disarmed_guardian_does_nothing),
		TEST(a_planted_name_does_not_lead_the_guardian_astray),
	};

	/* As in vmsigd. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
