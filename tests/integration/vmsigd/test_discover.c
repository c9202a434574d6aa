/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP sockets that come and go in a folder: each becomes an endpoint by its QEMU's word, as long as
 * nobody else has that name, and whatever else lies in the folder becomes none.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/vmsigd/crowd.h"
#include "tests/integration/vmsigd/scene.h"

#define UUID_A "0a1b2c3d-0000-4000-8000-00000000000a"
#define UUID_B "0a1b2c3d-0000-4000-8000-00000000000b"
#define MANY 300
#define PLANTED 70000u
#define PAUSE_US 20000

static struct world {
	struct daemon *daemon;
	struct pki_cert sensor, admin;
	struct ctx_client client;
	struct crowd *crowd;
} world;

/* Of the folder that is watched. */
static const char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *format, ...)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 4];
	int n = snprintf(path, PATH_MAX, "%s/", daemon_dir(world.daemon));
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, PATH_MAX - (size_t)n, format, args);
	va_end(args);
	return path;
}

static void configure(const char *endpoints, const char *discover)
{
	daemon_configure(world.daemon,
		"endpoints: [%s]\n"
		"discover:\n"
		"  - {%s, qmp_timeout: 500ms, retry: 50ms, retry_max: 200ms}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: boss, role: admin, uids: [%u], endpoints: ['*']}\n",
		endpoints, discover, getuid(), getuid());
}

static int setup(void **state)
{
	world.daemon = daemon_new();
	pki_issue_uri(daemon_pki(world.daemon), "acme", "vmsig://sensor/acme", &world.sensor);
	pki_issue_uri(daemon_pki(world.daemon), "boss", "vmsig://admin/boss", &world.admin);
	world.crowd = crowd_new();
	assert_int_equal(mkdir(at("q"), 0755), 0);
	configure("", "qmp: 'q/*.qmp'");
	return 0;
}

static void start(void)
{
	daemon_start(world.daemon);
	ctx_client_open(&world.client, world.daemon, &world.sensor);
}

static int teardown(void **state)
{
	ctx_client_close(&world.client);
	if (daemon_stop(world.daemon, SIGTERM))
		fail_msg("%s", daemon_log(world.daemon));
	world.crowd = crowd_free(world.crowd);
	world.daemon = daemon_free(world.daemon);
	return 0;
}

static void add(const char *file, const char *name, const char *uuid)
{
	crowd_add(world.crowd, at("q/%s", file), name, uuid, CROWD_HONEST);
}

static void end(const char *file)
{
	crowd_end(world.crowd, at("q/%s", file), false);
}

/* ---- what there is ---- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a b c": the endpoints' names in their order; how many. */
static size_t names(char *text, size_t size)
{
	Vmsig__CtxMessage *message;
	char *sorted[MANY + 8];
	size_t n;

	ctx_client_list(&world.client);
	message = ctx_client_expect(&world.client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST);
	n = message->endpoint_list->n_endpoints;
	assert_true(n <= MANY + 8);
	for (size_t i = 0; i < n; i++)
		sorted[i] = message->endpoint_list->endpoints[i]->name;
	if (n)
		qsort(sorted, n, sizeof(char *), compare);
	text[0] = '\0';
	for (size_t i = 0; i < n && strlen(text) + 70 < size; i++)
		snprintf(text + strlen(text), size - strlen(text), "%s%s", i ? " " : "", sorted[i]);
	ctx_client_free_message(message);
	return n;
}

static void await_names(const char *wanted)
{
	char text[4096] = "";

	for (unsigned ms = 0; ms < DAEMON_WAIT_MS; ms += PAUSE_US / 1000) {
		(void)names(text, sizeof(text));
		if (strcmp(text, wanted) == 0)
			return;
		usleep(PAUSE_US);
	}
	fail_msg("endpoints are '%s' and not '%s'\n%s", text, wanted, daemon_log(world.daemon));
}

static void await_count(size_t wanted)
{
	char text[256];
	size_t n = 0;

	for (unsigned ms = 0; ms < DAEMON_WAIT_MS; ms += PAUSE_US / 1000) {
		n = names(text, sizeof(text));
		if (n == wanted)
			return;
		usleep(PAUSE_US);
	}
	fail_msg("%zu endpoints and not %zu\n%s", n, wanted, daemon_log(world.daemon));
}

/* What `endpoint ls` prints has a line with these words. */
static void await_listed(const char *pattern)
{
	static const char script[] =
		"cd '%s' && mkdir -p boss && ln -sf '%s' boss/key.pem && ln -sf '%s' boss/cert.pem "
		"&& ln -sf '%s' boss/ca.pem && for i in $(seq 600); do '%s' --identity boss "
		"--socket run/admin.sock endpoint ls > boss/list && grep -qE '%s' boss/list && "
		"exit 0; sleep 0.1; done; cat boss/list; exit 1";
	char command[8 * PATH_MAX];

	snprintf(command, sizeof(command), script, daemon_dir(world.daemon), world.admin.key,
		world.admin.cert, pki_ca(daemon_pki(world.daemon)), VMSIGCTL, pattern);
	if (system(command))
		fail_msg("no line has '%s'\n%s", pattern, daemon_log(world.daemon));
}

/* ---- tests ---- */

static void guests_come_and_go(void **state)
{
	add("a.qmp", "web1", UUID_A);
	start();
	await_names("web1");
	add("b.qmp", "web2", NULL);
	add("not-ours.sock", "other", NULL);
	await_names("web1 web2");
	await_listed("^web1 .* qmp +" UUID_A);
	end("a.qmp");
	await_names("web2");
	end("b.qmp");
	await_names("");
}

static void names_that_are_none_give_way_to_the_uuid(void **state)
{
	char too_long[400];

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	add("a.qmp", "../../etc/passwd", UUID_A);
	add("b.qmp", too_long, UUID_B);
	add("c.qmp", "web\\u0000x", NULL);
	add("d.qmp", "a b\\nlevel=error", "not-a-uuid");
	add("e.qmp", NULL, NULL);
	start();
	await_names(UUID_A " " UUID_B);
	daemon_await_log(world.daemon, "no name that an endpoint can have", 2);
	daemon_await_log(world.daemon, "does not say what it is called", 1);
	await_listed("^- +unserved .* qmp .*e.qmp: .*-name or -uuid");
	await_names(UUID_A " " UUID_B);
}

static void who_comes_first_keeps_the_name(void **state)
{
	add("z.qmp", "web1", UUID_A);
	usleep(PAUSE_US); /* younger, by the clock of the file system */
	add("a.qmp", "web1", UUID_B);
	start();
	await_names("web1");
	daemon_await_log(world.daemon, "another endpoint has its name", 1);
	await_listed("^web1 +unserved .* qmp .*/q/a.qmp: .*rename");
	add("b.qmp", "web2", UUID_A);
	daemon_await_log(world.daemon, "another QEMU of this source has its UUID", 1);
	await_names("web1");
	assert_true(crowd_visits(world.crowd, at("q/z.qmp")) > 0);
	end("z.qmp");
	await_names("web1 web2");
	end("a.qmp");
	await_names("web2");
}

static void names_come_from_where_they_are_told(void **state)
{
	configure("", "qmp: q, name: uuid, labels: {team: blue}");
	add("a.qmp", "web1", "0A1B2C3D-0000-4000-8000-00000000000A");
	add("b.other", "web1", UUID_B);
	start();
	await_names(UUID_A " " UUID_B);
	configure("", "qmp: q/, name: file");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGHUP), 0);
	await_names("a b");
}

static void a_missing_folder_may_come_later(void **state)
{
	configure("", "qmp: 'late/deep/*.qmp'");
	start();
	await_names("");
	assert_int_equal(mkdir(at("late"), 0755), 0);
	assert_int_equal(mkdir(at("made"), 0755), 0);
	crowd_add(world.crowd, at("made/a.qmp"), "web1", NULL, CROWD_HONEST);
	assert_int_equal(rename(at("made"), at("late/deep")), 0);
	await_names("web1");
	/* Away, and another one in its place. */
	assert_int_equal(rename(at("late/deep"), at("away")), 0);
	await_names("");
	assert_int_equal(mkdir(at("late/deep"), 0755), 0);
	crowd_add(world.crowd, at("late/deep/b.qmp"), "web2", NULL, CROWD_HONEST);
	await_names("web2");
	assert_int_equal(unlink(at("away/a.qmp")), 0);
	assert_int_equal(rmdir(at("away")), 0);
	crowd_end(world.crowd, at("late/deep/b.qmp"), false);
	await_names("");
	assert_int_equal(rmdir(at("late/deep")), 0);
	assert_int_equal(rmdir(at("late")), 0);
}

static void what_is_no_socket_is_none(void **state)
{
	int fd;

	crowd_add(world.crowd, at("hidden.sock"), "victim", NULL, CROWD_HONEST);
	assert_int_equal(symlink("../hidden.sock", at("q/link.qmp")), 0);
	fd = open(at("q/file.qmp"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkfifo(at("q/pipe.qmp"), 0600), 0);
	assert_int_equal(mkdir(at("q/folder.qmp"), 0700), 0);
	add("a.qmp", "web1", NULL);
	start();
	await_names("web1");
	daemon_await_log(world.daemon, "is a symbolic link", 1);
	daemon_await_log(world.daemon, "is no socket", 2);
	await_listed("unserved .*link.qmp: .*symbolic link");
	assert_int_equal(crowd_visits(world.crowd, at("hidden.sock")), 0);
}

static void another_socket_is_another_guest(void **state)
{
	add("a.qmp", "web1", NULL);
	start();
	await_names("web1");
	assert_int_equal(rename(at("q/a.qmp"), at("old.qmp")), 0);
	add("a.qmp", "db1", NULL);
	await_names("db1");
	/* By a move that is one step. */
	crowd_add(world.crowd, at("new.sock"), "mail1", NULL, CROWD_HONEST);
	assert_int_equal(rename(at("new.sock"), at("q/a.qmp")), 0);
	await_names("mail1");
}

static void a_file_that_a_killed_guest_left_ends_in_time(void **state)
{
	struct stat st;

	add("a.qmp", "web1", NULL);
	add("b.qmp", "web1", NULL);
	start();
	await_names("web1");
	crowd_end(world.crowd, at("q/a.qmp"), true);
	daemon_await_log(world.daemon, "connection refused", 1);
	/* Its name goes to the next, which still runs. */
	await_listed("unserved .*a.qmp: .*connection refused");
	await_names("web1");
	assert_int_equal(stat(at("q/a.qmp"), &st), 0);
}

static void who_does_not_answer_harms_nobody(void **state)
{
	crowd_add(world.crowd, at("q/a.qmp"), NULL, NULL, CROWD_SILENT);
	crowd_add(world.crowd, at("q/b.qmp"), NULL, NULL, CROWD_GARBAGE);
	crowd_add(world.crowd, at("q/c.qmp"), NULL, NULL, CROWD_TALKER);
	add("d.qmp", "web1", NULL);
	start();
	await_names("web1");
	daemon_await_log(world.daemon, "no QMP greeting came", 1);
	daemon_await_log(world.daemon, "does not speak QMP", 1);
	daemon_await_log(world.daemon, "does not say what it is called", 3);
	add("e.qmp", "web2", NULL);
	await_names("web1 web2");
	crowd_end(world.crowd, at("q/c.qmp"), false);
}

/* A silent one is waited for over one connection. */
static void a_configured_endpoint_has_its_socket(void **state)
{
	add("a.qmp", "web1", NULL);
	start();
	await_names("web1");
	configure("{name: mine, adapter: qemu, qmp: q/a.qmp}", "qmp: 'q/*.qmp'");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGHUP), 0);
	await_names("mine");
	configure("", "qmp: 'q/b*'");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGHUP), 0);
	await_names("");
	configure("", "qmp: 'q/[ab]*'");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGHUP), 0);
	await_names("web1");
}

static void sockets_of_others_are_refused(void **state)
{
	char discover[64];

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(at("q"), 0777), 0);
	add("a.qmp", "web1", NULL);
	add("b.qmp", "web2", NULL);
	assert_int_equal(chown(at("q/b.qmp"), 3001, 3001), 0);
	start();
	await_names("web1");
	daemon_await_log(world.daemon, "owner: 3001", 1);
	snprintf(discover, sizeof(discover), "qmp: 'q/*.qmp', owner: 3001");
	configure("", discover);
	assert_int_equal(kill(daemon_pid(world.daemon), SIGHUP), 0);
	await_names("web1 web2");
}

/* A broker that stands still while the folder changes more often than the kernel remembers. */
static void lost_events_are_made_up_for(void **state)
{
	static const char limit[] = "/proc/sys/fs/inotify/max_queued_events";
	FILE *file = fopen(limit, "re");
	unsigned long most = 16384;

	if (file) {
		assert_int_equal(fscanf(file, "%lu", &most), 1); /* NOLINT(cert-err34-c) */
		fclose(file);
	}
	add("a.qmp", "web1", NULL);
	start();
	await_names("web1");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGSTOP), 0);
	for (unsigned long i = 0; i <= most; i++) {
		int fd = open(
			at("q/%s", i % 2 ? "odd" : "even"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(unlink(at("q/%s", i % 2 ? "odd" : "even")), 0);
	}
	add("b.qmp", "web2", NULL);
	end("a.qmp");
	assert_int_equal(kill(daemon_pid(world.daemon), SIGCONT), 0);
	await_names("web2");
	daemon_await_log(world.daemon, "the kernel has lost events", 1);
}

static void hundreds_come_at_once(void **state)
{
	char file[32], name[32];
	size_t fds;

	/* With what is opened for the first of all. */
	add("first.qmp", "first", NULL);
	start();
	await_names("first");
	end("first.qmp");
	await_names("");
	fds = daemon_fds(world.daemon);
	for (int i = 0; i < MANY; i++) {
		snprintf(file, sizeof(file), "%d.qmp", i);
		snprintf(name, sizeof(name), "vm%d", i);
		add(file, name, NULL);
	}
	await_count(MANY);
	for (int i = 0; i < MANY; i++) {
		snprintf(file, sizeof(file), "%d.qmp", i);
		end(file);
	}
	await_count(0);
	daemon_await_fds(world.daemon, fds);
}

static void more_than_the_limit_drive_out_none(void **state)
{
	configure("", "qmp: 'q/*.qmp', limit: 2");
	add("m.qmp", "web1", NULL);
	add("n.qmp", "web2", NULL);
	start();
	await_names("web1 web2");
	usleep(PAUSE_US);
	add("a.qmp", "web3", NULL);
	daemon_await_log(world.daemon, "raise 'limit'", 1);
	await_names("web1 web2");
	end("m.qmp");
	await_names("web2 web3");
}

/* More than any bound of what is kept, by who may make names in the folder. */
static void planted_names_keep_nobody_out(void **state)
{
	add("m.qmp", "web1", NULL);
	for (unsigned i = 0; i < PLANTED; i++)
		assert_int_equal(symlink("nowhere", at("q/planted%u.qmp", i)), 0);
	start();
	await_names("web1");
	add("n.qmp", "web2", NULL);
	await_names("web1 web2");
	end("m.qmp");
	await_names("web2");
	for (unsigned i = 0; i < PLANTED; i++)
		assert_int_equal(unlink(at("q/planted%u.qmp", i)), 0);
}

#define DISCOVER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISCOVER_TEST(guests_come_and_go),
		DISCOVER_TEST(names_that_are_none_give_way_to_the_uuid),
		DISCOVER_TEST(who_comes_first_keeps_the_name),
		DISCOVER_TEST(names_come_from_where_they_are_told),
		DISCOVER_TEST(a_missing_folder_may_come_later),
		DISCOVER_TEST(what_is_no_socket_is_none),
		DISCOVER_TEST(another_socket_is_another_guest),
		DISCOVER_TEST(a_file_that_a_killed_guest_left_ends_in_time),
		DISCOVER_TEST(who_does_not_answer_harms_nobody),
		DISCOVER_TEST(a_configured_endpoint_has_its_socket),
		DISCOVER_TEST(sockets_of_others_are_refused),
		DISCOVER_TEST(lost_events_are_made_up_for),
		DISCOVER_TEST(hundreds_come_at_once),
		DISCOVER_TEST(more_than_the_limit_drive_out_none),
		DISCOVER_TEST(planted_names_keep_nobody_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
