/* SPDX-License-Identifier: Apache-2.0 */
/* QMP sockets in folders that come and go themselves: a glob may stand for each part of a path. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/vmsigd/discover_scene.h"

static void add_in(const char *folder, const char *file, const char *name)
{
	assert_true(mkdir(discover_at("q/%s", folder), 0755) == 0 || errno == EEXIST);
	crowd_add(discover.crowd, discover_at("q/%s/%s", folder, file), name, NULL, CROWD_HONEST);
}

static void end_in(const char *folder, const char *file)
{
	crowd_end(discover.crowd, discover_at("q/%s/%s", folder, file), false);
	assert_int_equal(rmdir(discover_at("q/%s", folder)), 0);
}

static void folders_come_and_go(void **state)
{
	discover_configure("", "qmp: 'q/vm*/qmp.sock', name: file");
	add_in("vm1", "qmp.sock", "x");
	discover_start();
	discover_await_names("vm1");
	discover_await_listed("^vm1 .* qmp +- ");
	add_in("vm2", "qmp.sock", "x");
	add_in("vm2", "other.sock", "x");
	add_in("other", "qmp.sock", "x");
	discover_await_names("vm1 vm2");
	/* A folder that is there already gets its socket later, and loses it. */
	assert_int_equal(mkdir(discover_at("q/vm3"), 0755), 0);
	discover_await_names("vm1 vm2");
	add_in("vm3", "qmp.sock", "x");
	discover_await_names("vm1 vm2 vm3");
	crowd_end(discover.crowd, discover_at("q/vm3/qmp.sock"), false);
	discover_await_names("vm1 vm2");
	add_in("vm3", "qmp.sock", "x");
	discover_await_names("vm1 vm2 vm3");
	/* With all that is in it, away and back, under another name. */
	assert_int_equal(rename(discover_at("q/vm1"), discover_at("q/gone")), 0);
	discover_await_names("vm2 vm3");
	assert_int_equal(rename(discover_at("q/gone"), discover_at("q/vm4")), 0);
	discover_await_names("vm2 vm3 vm4");
	end_in("vm3", "qmp.sock");
	discover_await_names("vm2 vm4");
	/* And the one above them. */
	assert_int_equal(rename(discover_at("q"), discover_at("p")), 0);
	discover_await_names("");
	assert_int_equal(rename(discover_at("p"), discover_at("q")), 0);
	discover_await_names("vm2 vm4");
}

/* Of all of the broker's. */
static unsigned count_watches(void)
{
	char path[64], line[256];
	unsigned n = 0;
	struct dirent *entry;
	DIR *all;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)daemon_pid(discover.daemon));
	all = opendir(path);
	assert_non_null(all);
	while ((entry = readdir(all))) {
		int fd = openat(dirfd(all), entry->d_name, O_RDONLY | O_CLOEXEC);
		FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;

		while (file && fgets(line, sizeof(line), file))
			n += strncmp(line, "inotify ", 8) == 0;
		if (file)
			fclose(file);
	}
	closedir(all);
	return n;
}

static void await_watches(unsigned n)
{
	for (int i = 0; count_watches() != n; i++) {
		if (i == 6000)
			fail_msg("there are %u watches and not %u", count_watches(), n);
		usleep(10000);
	}
}

/* Whoever goes does not stay watched, though the folder is there still. */
static void watches_end_with_what_they_are_for(void **state)
{
	char name[16];

	discover_configure("", "qmp: 'q/vm*/qmp.sock', name: file");
	discover_start();
	await_watches(2); /* the folder and the one above */
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "vm%d", i);
		assert_int_equal(mkdir(discover_at("q/%s", name), 0755), 0);
	}
	await_watches(602);
	for (int i = 0; i < 600; i++) {
		char other[32];

		snprintf(name, sizeof(name), "vm%d", i);
		snprintf(other, sizeof(other), "%s", discover_at("q/old%d", i));
		assert_int_equal(rename(discover_at("q/%s", name), other), 0);
	}
	await_watches(2);
	add_in("vm1", "qmp.sock", "x");
	discover_await_names("vm1");
	await_watches(3);
}

static void folders_lie_in_folders(void **state)
{
	discover_configure("", "qmp: 'q/*/run/*.qmp', name: file");
	discover_start();
	assert_int_equal(mkdir(discover_at("q/red"), 0755), 0);
	discover_await_names("");
	add_in("red/run", "a.qmp", "x");
	discover_await_names("red-a");
	add_in("red/run", "b.qmp", "x");
	assert_int_equal(mkdir(discover_at("q/blue"), 0755), 0);
	add_in("blue/run", "a.qmp", "x");
	discover_await_names("blue-a red-a red-b");
	end_in("blue/run", "a.qmp");
	discover_await_names("red-a red-b");
	discover_configure("", "qmp: 'q/r?d/run/b*', name: name");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("x");
}

/* Links, files and what others have put there are no folders that are meant. */
static void folders_of_others_are_not_looked_into(void **state)
{
	int fd = open(discover_at("q/file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	discover_configure("", "qmp: 'q/*/qmp.sock', name: file");
	add_in("vm1", "qmp.sock", "x");
	assert_int_equal(symlink("vm1", discover_at("q/link")), 0);
	add_in("foreign", "qmp.sock", "x");
	discover_start();
	discover_await_names("foreign vm1");
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(discover_at("q/foreign/qmp.sock"), 3001, 3001), 0);
	assert_int_equal(chown(discover_at("q/foreign"), 3001, 3001), 0);
	assert_int_equal(chmod(discover_at("q"), 0777), 0);
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("vm1");
	discover_configure("", "qmp: 'q/*/qmp.sock', name: file, owner: 3001");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGHUP), 0);
	discover_await_names("foreign vm1");
}

static void a_glob_leads_into_folders_only(void **state)
{
	discover_configure("", "qmp: 'q/.*/a.qmp', name: name");
	crowd_add(discover.crowd, discover_at("q/a.qmp"), "beside", NULL, CROWD_HONEST);
	crowd_add(discover.crowd, discover_at("a.qmp"), "above", NULL, CROWD_HONEST);
	add_in(".red", "a.qmp", "below");
	discover_start();
	discover_await_names("below");
}

/* What the kernel did not remember is found, below the folders too. */
static void lost_events_of_folders_are_made_up_for(void **state)
{
	discover_configure("", "qmp: 'q/*/qmp.sock', name: file");
	add_in("vm1", "qmp.sock", "x");
	add_in("vm2", "qmp.sock", "x");
	discover_start();
	discover_await_names("vm1 vm2");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGSTOP), 0);
	discover_make_events("q/vm1");
	end_in("vm2", "qmp.sock");
	add_in("vm3", "qmp.sock", "x");
	assert_int_equal(kill(daemon_pid(discover.daemon), SIGCONT), 0);
	discover_await_names("vm1 vm3");
	daemon_await_log(discover.daemon, "the kernel has lost events", 1);
}

static void hundreds_of_folders_come_at_once(void **state)
{
	char folder[32], name[32];
	size_t fds;

	discover_configure("", "qmp: 'q/*/qmp.sock'");
	add_in("first", "qmp.sock", "first");
	discover_start();
	discover_await_names("first");
	end_in("first", "qmp.sock");
	discover_await_names("");
	fds = daemon_fds(discover.daemon);
	for (int i = 0; i < DISCOVER_MANY; i++) {
		snprintf(folder, sizeof(folder), "%d", i);
		snprintf(name, sizeof(name), "vm%d", i);
		add_in(folder, "qmp.sock", name);
	}
	discover_await_count(DISCOVER_MANY);
	for (int i = 0; i < DISCOVER_MANY; i++) {
		snprintf(folder, sizeof(folder), "%d", i);
		end_in(folder, "qmp.sock");
	}
	discover_await_count(0);
	daemon_await_fds(discover.daemon, fds);
}

#define DISCOVER_TEST(name) cmocka_unit_test_setup_teardown(name, discover_setup, discover_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISCOVER_TEST(folders_come_and_go),
		DISCOVER_TEST(watches_end_with_what_they_are_for),
		DISCOVER_TEST(folders_lie_in_folders),
		DISCOVER_TEST(folders_of_others_are_not_looked_into),
		DISCOVER_TEST(a_glob_leads_into_folders_only),
		DISCOVER_TEST(lost_events_of_folders_are_made_up_for),
		DISCOVER_TEST(hundreds_of_folders_come_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
