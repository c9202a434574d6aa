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

#include "tests/integration/vmsigd/discover_scene.h"

#define UUID_A "0a1b2c3d-0000-4000-8000-00000000000a"
#define UUID_B "0a1b2c3d-0000-4000-8000-00000000000b"
#define PLANTED 70000u
#define PAUSE_US 20000

static void add(const char *file, const char *name, const char *uuid)
{
	crowd_add(discover.crowd, discover_at("q/%s", file), name, uuid, CROWD_HONEST);
}

static void end(const char *file)
{
	crowd_end(discover.crowd, discover_at("q/%s", file), false);
}

static void guests_come_and_go(void **state)
{
	add("a.qmp", "web1", UUID_A);
	discover_start();
	discover_await_names("web1");
	add("b.qmp", "web2", NULL);
	add("not-ours.sock", "other", NULL);
	discover_await_names("web1 web2");
	discover_await_listed("^web1 .* qmp +" UUID_A);
	end("a.qmp");
	discover_await_names("web2");
	end("b.qmp");
	discover_await_names("");
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
	discover_start();
	discover_await_names(UUID_A " " UUID_B);
	daemon_await_log(discover.daemon, "no name that an endpoint can have", 2);
	daemon_await_log(discover.daemon, "does not say what it is called", 1);
	discover_await_listed("^- +unserved .* qmp .*e.qmp: .*-name or -uuid");
	discover_await_printed("status", "^unserved +3; see `vmsigctl endpoint ls`");
	discover_await_names(UUID_A " " UUID_B);
}

static void who_comes_first_keeps_the_name(void **state)
{
	add("z.qmp", "web1", UUID_A);
	usleep(PAUSE_US); /* younger, by the clock of the file system */
	add("a.qmp", "web1", UUID_B);
	discover_start();
	discover_await_names("web1");
	daemon_await_log(discover.daemon, "another endpoint has its name", 1);
	discover_await_listed("^web1 +unserved .* qmp .*/q/a.qmp: .*rename");
	add("b.qmp", "web2", UUID_A);
	daemon_await_log(discover.daemon, "another QEMU of this source has its UUID", 1);
	discover_await_names("web1");
	assert_true(crowd_visits(discover.crowd, discover_at("q/z.qmp")) > 0);
	end("z.qmp");
	discover_await_names("web1 web2");
	end("a.qmp");
	discover_await_names("web2");
}

static void names_come_from_where_they_are_told(void **state)
{
	discover_configure("", "qmp: q, name: uuid, labels: {team: blue}");
	add("a.qmp", "web1", "0A1B2C3D-0000-4000-8000-00000000000A");
	add("b.other", "web1", UUID_B);
	discover_start();
	discover_await_names(UUID_A " " UUID_B);
	discover_configure("", "qmp: q/, name: file");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("a b");
}

static void a_missing_folder_may_come_later(void **state)
{
	discover_configure("", "qmp: 'late/deep/*.qmp'");
	discover_start();
	discover_await_names("");
	assert_int_equal(mkdir(discover_at("late"), 0755), 0);
	assert_int_equal(mkdir(discover_at("made"), 0755), 0);
	crowd_add(discover.crowd, discover_at("made/a.qmp"), "web1", NULL, CROWD_HONEST);
	assert_int_equal(rename(discover_at("made"), discover_at("late/deep")), 0);
	discover_await_names("web1");
	/* Away, and another one in its place. */
	assert_int_equal(rename(discover_at("late/deep"), discover_at("away")), 0);
	discover_await_names("");
	assert_int_equal(mkdir(discover_at("late/deep"), 0755), 0);
	crowd_add(discover.crowd, discover_at("late/deep/b.qmp"), "web2", NULL, CROWD_HONEST);
	discover_await_names("web2");
	assert_int_equal(unlink(discover_at("away/a.qmp")), 0);
	assert_int_equal(rmdir(discover_at("away")), 0);
	crowd_end(discover.crowd, discover_at("late/deep/b.qmp"), false);
	discover_await_names("");
	assert_int_equal(rmdir(discover_at("late/deep")), 0);
	assert_int_equal(rmdir(discover_at("late")), 0);
}

static void what_is_no_socket_is_none(void **state)
{
	int fd;

	crowd_add(discover.crowd, discover_at("hidden.sock"), "victim", NULL, CROWD_HONEST);
	assert_int_equal(symlink("../hidden.sock", discover_at("q/link.qmp")), 0);
	fd = open(discover_at("q/file.qmp"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkfifo(discover_at("q/pipe.qmp"), 0600), 0);
	assert_int_equal(mkdir(discover_at("q/folder.qmp"), 0700), 0);
	add("a.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	daemon_await_log(discover.daemon, "is a symbolic link", 1);
	daemon_await_log(discover.daemon, "is no socket", 2);
	discover_await_listed("unserved .*link.qmp: .*symbolic link");
	assert_int_equal(crowd_visits(discover.crowd, discover_at("hidden.sock")), 0);
}

static void another_socket_is_another_guest(void **state)
{
	add("a.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	assert_int_equal(rename(discover_at("q/a.qmp"), discover_at("old.qmp")), 0);
	add("a.qmp", "db1", NULL);
	discover_await_names("db1");
	/* By a move that is one step. */
	crowd_add(discover.crowd, discover_at("new.sock"), "mail1", NULL, CROWD_HONEST);
	assert_int_equal(rename(discover_at("new.sock"), discover_at("q/a.qmp")), 0);
	discover_await_names("mail1");
}

static void a_file_that_a_killed_guest_left_ends_in_time(void **state)
{
	struct stat st;

	add("a.qmp", "web1", NULL);
	add("b.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	crowd_end(discover.crowd, discover_at("q/a.qmp"), true);
	daemon_await_log(discover.daemon, "connection refused", 1);
	/* Its name goes to the next, which still runs. */
	discover_await_listed("unserved .*a.qmp: .*connection refused");
	discover_await_names("web1");
	assert_int_equal(stat(discover_at("q/a.qmp"), &st), 0);
}

static void who_does_not_answer_harms_nobody(void **state)
{
	crowd_add(discover.crowd, discover_at("q/a.qmp"), NULL, NULL, CROWD_SILENT);
	crowd_add(discover.crowd, discover_at("q/b.qmp"), NULL, NULL, CROWD_GARBAGE);
	crowd_add(discover.crowd, discover_at("q/c.qmp"), NULL, NULL, CROWD_TALKER);
	add("d.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	daemon_await_log(discover.daemon, "no QMP greeting came", 1);
	daemon_await_log(discover.daemon, "does not speak QMP", 1);
	daemon_await_log(discover.daemon, "does not say what it is called", 3);
	add("e.qmp", "web2", NULL);
	discover_await_names("web1 web2");
	crowd_end(discover.crowd, discover_at("q/c.qmp"), false);
}

/* A silent one is waited for over one connection. */
static void a_configured_endpoint_has_its_socket(void **state)
{
	add("a.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	discover_configure("{name: mine, adapter: qemu, qmp: q/a.qmp}", "qmp: 'q/*.qmp'");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("mine");
	discover_configure("", "qmp: 'q/b*'");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("");
	discover_configure("", "qmp: 'q/[ab]*'");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("web1");
}

static void sockets_of_others_are_refused(void **state)
{
	char source[64];

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(discover_at("q"), 0777), 0);
	add("a.qmp", "web1", NULL);
	add("b.qmp", "web2", NULL);
	assert_int_equal(chown(discover_at("q/b.qmp"), 3001, 3001), 0);
	discover_start();
	discover_await_names("web1");
	daemon_await_log(discover.daemon, "owner: 3001", 1);
	snprintf(source, sizeof(source), "qmp: 'q/*.qmp', owner: 3001");
	discover_configure("", source);
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("web1 web2");
}

/* A broker that stands still while the folder changes more often than the kernel remembers. */
static void lost_events_are_made_up_for(void **state)
{
	add("a.qmp", "web1", NULL);
	discover_start();
	discover_await_names("web1");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGSTOP), 0);
	discover_make_events("q");
	add("b.qmp", "web2", NULL);
	end("a.qmp");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGCONT), 0);
	discover_await_names("web2");
	daemon_await_log(discover.daemon, "the kernel has lost events", 1);
}

static void hundreds_come_at_once(void **state)
{
	char file[32], name[32];
	size_t fds;

	/* With what is opened for the first of all. */
	add("first.qmp", "first", NULL);
	discover_start();
	discover_await_names("first");
	end("first.qmp");
	discover_await_names("");
	fds = daemon_fds(discover.daemon);
	for (int i = 0; i < DISCOVER_MANY; i++) {
		snprintf(file, sizeof(file), "%d.qmp", i);
		snprintf(name, sizeof(name), "vm%d", i);
		add(file, name, NULL);
	}
	discover_await_count(DISCOVER_MANY);
	for (int i = 0; i < DISCOVER_MANY; i++) {
		snprintf(file, sizeof(file), "%d.qmp", i);
		end(file);
	}
	discover_await_count(0);
	daemon_await_fds(discover.daemon, fds);
}

static void more_than_the_limit_drive_out_none(void **state)
{
	discover_configure("", "qmp: 'q/*.qmp', limit: 2");
	add("m.qmp", "web1", NULL);
	add("n.qmp", "web2", NULL);
	discover_start();
	discover_await_names("web1 web2");
	usleep(PAUSE_US);
	add("a.qmp", "web3", NULL);
	daemon_await_log(discover.daemon, "raise 'limit'", 1);
	discover_await_names("web1 web2");
	end("m.qmp");
	discover_await_names("web2 web3");
}

/* More than any bound of what is kept, by who may make names in the folder. */
static void planted_names_keep_nobody_out(void **state)
{
	add("m.qmp", "web1", NULL);
	for (unsigned i = 0; i < PLANTED; i++)
		assert_int_equal(symlink("nowhere", discover_at("q/planted%u.qmp", i)), 0);
	discover_start();
	discover_await_names("web1");
	add("n.qmp", "web2", NULL);
	discover_await_names("web1 web2");
	end("m.qmp");
	discover_await_names("web2");
	for (unsigned i = 0; i < PLANTED; i++)
		assert_int_equal(unlink(discover_at("q/planted%u.qmp", i)), 0);
}

#define DISCOVER_TEST(name) cmocka_unit_test_setup_teardown(name, discover_setup, discover_teardown)

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
