/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that a provider offers over the admin plane: served like any other, over a lost
 * connection, and not when the provider lies or has not the right.
 */
#include "tests/integration/vmsigd/scene.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/write_client.h"

#define KCR3 0x7000u
#define LONG "{provider_grace: 10min}"

static struct pki_cert maker, other;

static void configure(struct scene *scene, const char *limits, const char *names, unsigned uid)
{
	daemon_configure(scene->daemon,
		"limits: %s\n"
		"endpoints:\n"
		"  - {name: a1, path: a1.ram, adapter: file, low: 1MiB, kcr3: 0x2000}\n"
		"tenants:\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: acme, role: admin, uids: [%u], endpoints: ['*']}\n"
		"  - {name: other, role: provider, uids: [%u], endpoints: ['m*', a1]}\n"
		"  - {name: maker, role: provider, uids: [%u], endpoints: %s}\n",
		limits, getuid(), getuid(), getuid(), uid, names);
}

static int setup(void **state)
{
	struct scene *scene;
	struct pki *pki;
	int r = scene_setup(state);

	scene = *state;
	pki = daemon_pki(scene->daemon);
	pki_issue_uri(pki, "maker", "vmsig://provider/maker", &maker);
	pki_issue_uri(pki, "other", "vmsig://provider/other", &other);
	configure(scene, LONG, "['m*']", getuid());
	scene_reload(scene);
	return r;
}

static int memfd(off_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

/* The error's code, or 0; -1: the connection has ended. */
static int answer(struct write_client *client, bool *ret_resumed)
{
	Vmsig__AdminMessage *message = write_client_receive_admin(client);
	int code;

	if (!message)
		return -1;
	code = message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR ? (int)message->error->code
								      : 0;
	if (ret_resumed && message->body_case == VMSIG__ADMIN_MESSAGE__BODY_PROVIDED)
		*ret_resumed = message->provided->resumed;
	vmsig__admin_message__free_unpacked(message, NULL);
	return code;
}

struct guest {
	const char *name;
	uint64_t low;
	int fds[2];
	size_t nfds;
	Vmsig__Segment *segments[2];
	size_t nsegments;
};

static int provide(struct write_client *client, const struct guest *guest, bool *ret_resumed)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__Provide body = VMSIG__PROVIDE__INIT;
	Vmsig__Descriptor files[2], *pointers[2] = {&files[0], &files[1]};

	for (size_t i = 0; i < guest->nfds; i++) {
		write_client_describe(&files[i], guest->fds[i]);
		files[i].purpose = VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM;
	}
	body.name = (char *)(uintptr_t)guest->name;
	body.files = pointers;
	body.n_files = guest->nfds;
	body.low = guest->low;
	body.segments = (Vmsig__Segment **)(uintptr_t)guest->segments;
	body.n_segments = guest->nsegments;
	body.kcr3 = KCR3;
	body.levels = 4;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_PROVIDE;
	request.provide = &body;
	write_client_send_admin_with(client, &request, guest->fds, guest->nfds);
	return answer(client, ret_resumed);
}

static int provide_one(struct write_client *client, const char *name, int fd)
{
	const struct guest guest = {.name = name, .low = SCENE_RAM, .fds = {fd}, .nfds = 1};

	return provide(client, &guest, NULL);
}

static int say(struct write_client *client, bool invalidate, const char *name)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__ProvideInvalidate reset = VMSIG__PROVIDE_INVALIDATE__INIT;
	Vmsig__ProvideEnd end = VMSIG__PROVIDE_END__INIT;

	reset.name = end.name = (char *)(uintptr_t)name;
	reset.kcr3 = KCR3 + 0x1000;
	reset.levels = 4;
	request.body_case = invalidate ? VMSIG__ADMIN_REQUEST__BODY_PROVIDE_INVALIDATE
				       : VMSIG__ADMIN_REQUEST__BODY_PROVIDE_END;
	if (invalidate)
		request.provide_invalidate = &reset;
	else
		request.provide_end = &end;
	write_client_send_admin(client, &request);
	return answer(client, NULL);
}

static void dial(struct scene *scene, struct write_client *client, const struct pki_cert *cert)
{
	write_client_open(client, scene->daemon, "admin.sock", cert);
}

static uint32_t epoch_of(struct scene *scene, const char *name)
{
	return ctx_client_epoch(scene->daemon, &scene->acme, name);
}

/* ---- served ---- */

static void a_guest_is_served_until_it_is_ended(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	uint32_t epoch;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m1", fd), 0);
	epoch = epoch_of(scene, "m1");
	assert_int_equal(say(&client, true, "m1"), 0);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(epoch_of(scene, "m1"), epoch + 1);
	assert_int_equal(provide_one(&client, "m1", fd), VMSIG_ERR_BUSY);
	assert_int_equal(say(&client, false, "m1"), 0);
	assert_int_equal(say(&client, false, "m1"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	write_client_close(&client);
	close(fd);
}

static void who_comes_back_goes_on_in_the_same_epoch(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {
		.name = "m2", .low = SCENE_RAM, .fds = {memfd(SCENE_RAM)}, .nfds = 1};
	struct write_client client;
	bool resumed = true;
	uint32_t epoch;

	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, &resumed), 0);
	assert_false(resumed);
	epoch = epoch_of(scene, "m2");
	write_client_close(&client);
	dial(scene, &client, &other);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_BUSY);
	write_client_close(&client);
	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, &resumed), 0);
	assert_true(resumed);
	assert_int_equal(epoch_of(scene, "m2"), epoch);
	assert_int_equal(say(&client, false, "m2"), 0);
	write_client_close(&client);
	close(guest.fds[0]);
}

static void who_does_not_come_back_loses_it(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m3", fd), 0);
	write_client_close(&client);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

static void a_killed_provider_is_a_lost_one(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	pid_t pid;
	int fd = memfd(SCENE_RAM), status;

	configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dial(scene, &client, &maker);
		_exit(provide_one(&client, "m4", fd) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

/* ---- rights ---- */

static void a_right_that_is_taken_away_ends_it_at_once(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &maker);
	assert_int_equal(provide_one(&client, "m5", fd), 0);
	configure(scene, LONG, "[mine]", getuid());
	scene_reload(scene);
	daemon_await_log(scene->daemon, "does not let its provider provide it any more", 1);
	assert_int_equal(say(&client, false, "m5"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(provide_one(&client, "m5", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provide_one(&client, "mine", fd), 0);
	/* Another uid: the connection ends, and nothing waits for it. */
	configure(scene, LONG, "[mine]", getuid() + 1);
	scene_reload(scene);
	daemon_await_log(scene->daemon, "a provided endpoint ends", 2);
	assert_int_equal(answer(&client, NULL), VMSIG_ERR_UNAUTHENTICATED);
	write_client_close(&client);
	close(fd);
}

static void names_of_others_are_refused(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = memfd(SCENE_RAM);

	dial(scene, &client, &other);
	assert_int_equal(provide_one(&client, "x1", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provide_one(&client, "../a", fd), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(provide_one(&client, "a1", fd), VMSIG_ERR_BUSY);
	write_client_close(&client);
	close(fd);
}

/* Nor may it send a descriptor: what comes with the request is refused before it is one. */
static void an_administrator_is_no_provider(void **state)
{
	struct scene *scene = *state;
	const struct guest guest = {.name = "m6", .low = SCENE_RAM};
	struct write_client client;

	dial(scene, &client, &scene->admin);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_FORBIDDEN);
	write_client_close(&client);
	dial(scene, &client, &maker);
	assert_int_equal(provide(&client, &guest, NULL), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&client);
}

static void a_flood_meets_its_bound(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fds[3];
	char name[8];

	configure(scene, "{provided: 2}", "['m*']", getuid());
	scene_reload(scene);
	dial(scene, &client, &maker);
	for (int i = 0; i < 3; i++) {
		fds[i] = memfd(SCENE_RAM);
		snprintf(name, sizeof(name), "mf%d", i);
		assert_int_equal(provide_one(&client, name, fds[i]), i < 2 ? 0 : VMSIG_ERR_QUOTA);
		close(fds[i]);
	}
	assert_int_equal(say(&client, false, "mf0"), 0);
	assert_int_equal(say(&client, false, "mf1"), 0);
	write_client_close(&client);
}

/* ---- lies ---- */

static void lies_about_ram_are_refused(void **state)
{
	struct scene *scene = *state;
	Vmsig__Segment a = VMSIG__SEGMENT__INIT, b = VMSIG__SEGMENT__INIT;
	int good = memfd(SCENE_RAM), small = memfd(SCENE_RAM / 2), empty = memfd(0);
	const struct guest lies[] = {
		{.name = "m7", .low = SCENE_RAM, .fds = {small}, .nfds = 1},
		{.name = "m7", .low = SCENE_RAM, .fds = {empty}, .nfds = 1},
		{.name = "m7", .low = SCENE_RAM, .fds = {good, good}, .nfds = 2},
		{.name = "m7", .low = 0, .fds = {good}, .nfds = 1},
		{.name = "m7", .low = 1ull << 40, .fds = {good}, .nfds = 1},
		{.name = "m7", .fds = {good}, .nfds = 1, .segments = {&a, &b}, .nsegments = 2},
	};
	struct write_client client;
	int r;

	a.len = b.len = SCENE_RAM;
	b.gpa = SCENE_RAM / 2;
	dial(scene, &client, &maker);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		/* The one before may still end. */
		while ((r = provide(&client, &lies[i], NULL)) == VMSIG_ERR_BUSY)
			continue;
		assert_true(r > 0);
	}
	while ((r = provide_one(&client, "m7", good)) == VMSIG_ERR_BUSY)
		continue;
	assert_int_equal(r, 0);
	assert_int_equal(say(&client, false, "m7"), 0);
	write_client_close(&client);
	close(good);
	close(small);
	close(empty);
}

static void what_is_no_file_in_memory_ends_the_connection(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	dial(scene, &client, &maker);
	assert_true(provide_one(&client, "m8", pipes[0]) != 0);
	write_client_close(&client);
	close(pipes[0]);
	close(pipes[1]);
}

/* ---- vmsigctl ---- */

/* Where an endpoint comes from, as `endpoint ls` has it. */
static void expect_origin(struct scene *scene, const char *name, const char *origin)
{
	static const char script[] =
		"cd '%s' && mkdir -p boss && ln -sf '%s' boss/key.pem && ln -sf '%s' boss/cert.pem "
		"&& ln -sf '%s' boss/ca.pem && '%s' --identity boss --socket run/admin.sock "
		"endpoint ls | tee boss/list | grep -q '^%s .* %s '";
	char command[8 * PATH_MAX];

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), scene->admin.key,
		scene->admin.cert, pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, name, origin);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static void vmsigctl_provides(void **state)
{
	static const char script[] =
		"cd '%s' && mkdir -p maker && ln -sf '%s' maker/key.pem && ln -sf '%s' "
		"maker/cert.pem && ln -sf '%s' maker/ca.pem && exec '%s' --identity maker --socket "
		"run/admin.sock provide m9 --ram /proc/self/fd/%d --kcr3 0x7000";
	struct scene *scene = *state;
	char command[8 * PATH_MAX];
	uint32_t epoch;
	int ram = memfd(SCENE_RAM), status;
	pid_t pid;

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), maker.key, maker.cert,
		pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, ram);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fcntl(ram, F_SETFD, 0);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	daemon_await_log(scene->daemon, "endpoint=\"m9\"", 1);
	epoch = epoch_of(scene, "m9");
	expect_origin(scene, "m9", "provider");
	expect_origin(scene, "a1", "config");
	kill(pid, SIGUSR1);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(epoch_of(scene, "m9"), epoch + 1);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider ended it", 1);
	close(ram);
}

#define PROVIDE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROVIDE_TEST(a_guest_is_served_until_it_is_ended),
		PROVIDE_TEST(who_comes_back_goes_on_in_the_same_epoch),
		PROVIDE_TEST(who_does_not_come_back_loses_it),
		PROVIDE_TEST(a_killed_provider_is_a_lost_one),
		PROVIDE_TEST(a_right_that_is_taken_away_ends_it_at_once),
		PROVIDE_TEST(names_of_others_are_refused),
		PROVIDE_TEST(an_administrator_is_no_provider),
		PROVIDE_TEST(a_flood_meets_its_bound),
		PROVIDE_TEST(lies_about_ram_are_refused),
		PROVIDE_TEST(what_is_no_file_in_memory_ends_the_connection),
		PROVIDE_TEST(vmsigctl_provides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
