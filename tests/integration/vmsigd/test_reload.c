/* SPDX-License-Identifier: Apache-2.0 */
/* A new configuration is taken over whole or not at all, and reading it is nobody's outage. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/vmsigd/scene.h"

#define STAYS "the old configuration stays"
#define RELOADED "configuration reloaded"

/* Somebody who would be disconnected if the policy lost him. */
static void served(struct scene *scene, struct ctx_client *client)
{
	ctx_client_list(client);
	ctx_client_free_message(ctx_client_expect(client, VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST));
	assert_true(daemon_alive(scene->daemon));
}

static void hang_up(struct scene *scene)
{
	assert_int_equal(kill(daemon_pid(scene->daemon), SIGHUP), 0);
}

static size_t read_config(struct scene *scene, char *text, size_t size)
{
	int fd = open(daemon_config(scene->daemon), O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, size - 1);

	assert_true(n > 0);
	close(fd);
	text[n] = '\0';
	return (size_t)n;
}

static int write_config(struct scene *scene, const char *text, size_t len)
{
	int fd = open(daemon_config(scene->daemon), O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	return fd;
}

/* The part before the second tenant is valid by itself. */
static void what_is_being_written_is_waited_for(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	char text[8192];
	size_t len = read_config(scene, text, sizeof(text));
	const char *second = strstr(text, "  - {name: globex");
	size_t half = (size_t)(second - text);
	int fd;

	assert_non_null(second);
	ctx_client_open(&client, scene->daemon, &scene->globex);
	fd = write_config(scene, text, half);
	hang_up(scene);
	for (int i = 0; i < 5; i++) {
		usleep(50000);
		served(scene, &client);
	}
	assert_int_equal(daemon_log_count(scene->daemon, RELOADED), 0);
	assert_int_equal(write(fd, text + half, len - half), len - half);
	close(fd);
	daemon_await_log(scene->daemon, RELOADED, 1);
	served(scene, &client);
	ctx_client_close(&client);
}

static void what_was_cut_off_is_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;
	char text[8192];
	size_t len = read_config(scene, text, sizeof(text));

	strcpy(text + len, "...\n");
	close(write_config(scene, text, len + 4));
	scene_reload(scene);
	ctx_client_open(&client, scene->daemon, &scene->globex);
	close(write_config(scene, text, (size_t)(strstr(text, "  - {name: globex") - text)));
	hang_up(scene);
	daemon_await_log(scene->daemon, STAYS, 1);
	assert_non_null(strstr(daemon_log(scene->daemon), "may have been cut off"));
	served(scene, &client);
	ctx_client_close(&client);
}

static void a_policy_without_tenants_is_refused(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->globex);
	daemon_configure(scene->daemon, "tenants:\n");
	hang_up(scene);
	daemon_await_log(scene->daemon, STAYS, 1);
	served(scene, &client);
	ctx_client_close(&client);
}

/* Somebody holds a write lease on the list: it cannot be opened now. */
static void a_file_that_cannot_be_had_changes_nothing(void **state)
{
	struct scene *scene = *state;
	const char *crl = pki_crl(daemon_pki(scene->daemon));
	int fd = open(crl, O_RDWR | O_CLOEXEC);
	struct ctx_client client;

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETSIG, SIGURG), 0);
	assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	daemon_use_crl(scene->daemon, crl);
	scene_configure(scene, "{}", "{}");
	ctx_client_open(&client, scene->daemon, &scene->acme);
	hang_up(scene);
	daemon_await_log(scene->daemon, STAYS, 1);
	served(scene, &client);
	close(fd);
	scene_reload(scene);
	served(scene, &client);
	ctx_client_close(&client);
}

static void signals_in_a_row_are_one_more_reload(void **state)
{
	struct scene *scene = *state;
	struct ctx_client client;

	ctx_client_open(&client, scene->daemon, &scene->acme);
	for (int i = 0; i < 200; i++)
		hang_up(scene);
	daemon_await_log(scene->daemon, RELOADED, 1);
	served(scene, &client);
	scene_reload(scene);
	ctx_client_close(&client);
}

/* Who sends a signal has the log for an answer. */
static void the_log_says_what_a_signal_changed(void **state)
{
	struct scene *scene = *state;
	static const char *const lines[] = {
		"\"warning\" msg=\"changed by the reload, but see `detail`\" section=\"tenants\" "
		"name=\"sensor/acme\" change=\"changed\" "
		"detail=\"endpoints; 'wbe*' names no endpoint\"",
		"\"warning\" msg=\"changed by the reload, but see `detail`\" section=\"settings\" "
		"name=\"audit.size\" change=\"changed\" "
		"detail=\"1GiB -> 2GiB; the size of its steps from the next start on\"",
		"\"info\" msg=\"changed by the reload\" section=\"tenants\" "
		"name=\"sensor/globex\" change=\"removed\"",
		"\"info\" msg=\"changed by the reload\" section=\"limits\" "
		"name=\"limits.leases\" change=\"changed\"",
	};
	char text[512];

	snprintf(text, sizeof(text),
		"endpoints: [{name: a, adapter: file, path: a1.ram, low: 1MiB}]\n"
		"audit: {size: 2GiB}\nlimits: {leases: 17}\n"
		"tenants: [{name: acme, role: sensor, uids: [%u], endpoints: ['wbe*']}]\n",
		(unsigned)getuid());
	daemon_configure(scene->daemon, "%s", text);
	scene_reload(scene);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (daemon_log_count(scene->daemon, lines[i]) != 1)
			fail_msg("no '%s' in:\n%s", lines[i], daemon_log(scene->daemon));
	}
}

static void check_finds_what_endpoints_share(void **state)
{
	struct scene *scene = *state;
	const char *const arguments[] = {"--check", "-c", daemon_config(scene->daemon), NULL};
	static const char *const words[] = {
		"endpoint 'b': its QMP socket",
		"endpoint 'd': its RAM image",
		"libvirt's own monitor",
		"UNIX sockets only",
		"without 'unix:'",
		"endpoint 'i': its RAM file",
		"endpoint 'k': its domain web is that of endpoint 'j' too",
	};

	daemon_configure(scene->daemon,
		"endpoints:\n"
		"  - {name: a, adapter: qemu, qmp: q.sock}\n"
		"  - {name: b, adapter: qemu, qmp: q.sock}\n"
		"  - {name: c, adapter: file, path: a1.ram, low: 1MiB}\n"
		"  - {name: d, adapter: file, path: ./a1.ram, low: 1MiB}\n"
		"  - {name: e, adapter: qemu, qmp: lib/libvirt/qemu/domain-1-x/monitor.sock}\n"
		"  - {name: f, adapter: qemu, qmp: 'tcp:127.0.0.1:4444'}\n"
		"  - {name: g, adapter: qemu, qmp: 'unix:/run/x.sock'}\n"
		"  - {name: h, adapter: qemu, qmp: h.sock, ram: vm.ram}\n"
		"  - {name: i, adapter: qemu, qmp: i.sock, ram: ./vm.ram}\n"
		"  - {name: j, adapter: libvirt, libvirt: 'qemu:///system', domain: web}\n"
		"  - {name: k, adapter: libvirt, libvirt: 'qemu:///system', domain: web}\n"
		"  - {name: l, adapter: libvirt, libvirt: 'qemu:///session', domain: web}\n");
	assert_int_equal(daemon_run(scene->daemon, arguments), 1);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strstr(daemon_log(scene->daemon), words[i]))
			fail_msg("no '%s' in:\n%s", words[i], daemon_log(scene->daemon));
	}
	assert_null(strstr(daemon_log(scene->daemon), "endpoint 'l'"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_being_written_is_waited_for),
		T(what_was_cut_off_is_refused),
		T(a_policy_without_tenants_is_refused),
		T(a_file_that_cannot_be_had_changes_nothing),
		T(signals_in_a_row_are_one_more_reload),
		T(the_log_says_what_a_signal_changed),
		T(check_finds_what_endpoints_share),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
