/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that a provider offers over the admin plane: served like any other, and over a lost
 * connection. What a provider may not, and its lies, are test_provide_rights.c.
 */
#include "tests/integration/vmsigd/provider.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/guest/image.h"

/* ---- served ---- */

static void a_guest_is_served_until_it_is_ended(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	uint32_t epoch;
	int fd = provider_memfd(SCENE_RAM);

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "m1", fd), 0);
	epoch = provider_epoch(scene, "m1");
	assert_int_equal(provider_say(&client, true, "m1"), 0);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(provider_epoch(scene, "m1"), epoch + 1);
	assert_int_equal(provider_offer_one(&client, "m1", fd), VMSIG_ERR_BUSY);
	assert_int_equal(provider_say(&client, false, "m1"), 0);
	assert_int_equal(provider_say(&client, false, "m1"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	write_client_close(&client);
	close(fd);
}

static void who_comes_back_goes_on_in_the_same_epoch(void **state)
{
	struct scene *scene = *state;
	const struct provider_guest guest = {
		.name = "m2", .low = SCENE_RAM, .fds = {provider_memfd(SCENE_RAM)}, .nfds = 1};
	struct write_client client;
	bool resumed = true;
	uint32_t epoch;

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer(&client, &guest, &resumed), 0);
	assert_false(resumed);
	epoch = provider_epoch(scene, "m2");
	write_client_close(&client);
	provider_dial(scene, &client, &provider_other);
	assert_int_equal(provider_offer(&client, &guest, NULL), VMSIG_ERR_BUSY);
	write_client_close(&client);
	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer(&client, &guest, &resumed), 0);
	assert_true(resumed);
	assert_int_equal(provider_epoch(scene, "m2"), epoch);
	assert_int_equal(provider_say(&client, false, "m2"), 0);
	write_client_close(&client);
	close(guest.fds[0]);
}

static void who_does_not_come_back_loses_it(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM);

	provider_configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "m3", fd), 0);
	write_client_close(&client);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

static void a_killed_provider_is_a_lost_one(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	pid_t pid;
	int fd = provider_memfd(SCENE_RAM), status;

	provider_configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		provider_dial(scene, &client, &provider_maker);
		_exit(provider_offer_one(&client, "m4", fd) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider did not come back", 1);
	close(fd);
}

/* ---- as any other guest ---- */

static void operators_write_to_it(void **state)
{
	struct scene *scene = *state;
	const struct provider_guest guest = {.name = "mw",
		.low = SCENE_RAM,
		.fds = {provider_memfd(SCENE_RAM)},
		.nfds = 1,
		.writable = true};
	const struct provider_guest fixed = {
		.name = "mx", .low = SCENE_RAM, .fds = {provider_memfd(SCENE_RAM)}, .nfds = 1};
	struct write_client provider, operator_;
	struct write_lease lease;
	uint64_t word = 0, id;

	provider_dial(scene, &provider, &provider_maker);
	assert_int_equal(provider_offer(&provider, &guest, NULL), 0);
	assert_int_equal(provider_offer(&provider, &fixed, NULL), 0);
	(void)provider_epoch(scene, "mw");
	(void)provider_epoch(scene, "mx");
	write_client_open(&operator_, scene->daemon, "write.sock", &provider_ops);
	lease = write_client_lease(&operator_, "mw");
	assert_int_equal(write_client_put(&operator_, &lease, 1, 0x3000, 0x1122334455667788), 0);
	assert_int_equal(pread(guest.fds[0], &word, sizeof(word), 0x3000), sizeof(word));
	assert_int_equal(word, 0x1122334455667788);
	/* Over a lost connection its epoch goes on, and so does the lease. */
	write_client_close(&provider);
	provider_dial(scene, &provider, &provider_maker);
	assert_int_equal(provider_offer(&provider, &guest, NULL), 0);
	assert_int_equal(write_client_put(&operator_, &lease, 2, 0x3000, 1), 0);
	/* A reset ends it; the next lease writes again. */
	assert_int_equal(provider_say(&provider, true, "mw"), 0);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_not_equal(write_client_put(&operator_, &lease, 3, 0x3000, 2), 0);
	(void)provider_epoch(scene, "mw");
	write_client_close(&operator_);
	write_client_open(&operator_, scene->daemon, "write.sock", &provider_ops);
	lease = write_client_lease(&operator_, "mw");
	assert_int_equal(write_client_put(&operator_, &lease, 1, 0x3000, 3), 0);
	assert_int_equal(pread(guest.fds[0], &word, sizeof(word), 0x3000), sizeof(word));
	assert_int_equal(word, 3);
	id = write_client_ask(&operator_, "mx", 0, 0, 1000, 0, true);
	assert_int_not_equal(write_client_answer(&operator_, id), 0);
	assert_int_equal(provider_say(&provider, false, "mw"), 0);
	write_client_close(&operator_);
	write_client_close(&provider);
	close(guest.fds[0]);
	close(fixed.fds[0]);
}

/* The layout is given, the kernel is not. */
static void a_kernel_that_is_not_named_is_found(void **state)
{
	static const struct image_linux kernel = {.release = "6.1.0-test",
		.root = 0x200000,
		.text = 0x210000,
		.note = 0x220000,
		.levels = 4};
	struct scene *scene = *state;
	struct provider_guest guest = {.name = "mk", .low = IMAGE_SIZE, .nfds = 1, .find = true};
	Vmsig__CtxMessage *message;
	struct write_client provider;
	struct ctx_client sensor;
	struct image image;
	int fds[2];

	image_init(&image);
	image_put_linux(&image, &kernel);
	guest.fds[0] = image.fd;
	provider_dial(scene, &provider, &provider_maker);
	assert_int_equal(provider_offer(&provider, &guest, NULL), 0);
	ctx_client_open(&sensor, scene->daemon, &scene->acme);
	ctx_client_expect_done(&sensor, ctx_client_subscribe(&sensor, "mk"));
	message = ctx_client_expect_memctx(&sensor, fds);
	assert_int_equal(message->memctx->kcr3, kernel.root);
	ctx_client_free_message(message);
	close(fds[0]);
	close(fds[1]);
	ctx_client_close(&sensor);
	assert_int_equal(provider_say(&provider, false, "mk"), 0);
	write_client_close(&provider);
	image_deinit(&image);
}

/* ---- vmsigctl ---- */

static int vmsigctl(struct scene *scene, const char *words)
{
	static const char script[] =
		"cd '%s' && mkdir -p boss && ln -sf '%s' boss/key.pem && ln -sf '%s' boss/cert.pem "
		"&& ln -sf '%s' boss/ca.pem && '%s' --identity boss --socket run/admin.sock %s";
	char command[8 * PATH_MAX];

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), scene->admin.key,
		scene->admin.cert, pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, words);
	return system(command); /* NOLINT(cert-env33-c) */
}

/* Where an endpoint comes from, as `endpoint ls` has it. */
static void expect_origin(struct scene *scene, const char *name, const char *origin)
{
	char words[128];

	snprintf(words, sizeof(words), "endpoint ls | grep -q '^%s .* %s '", name, origin);
	assert_int_equal(vmsigctl(scene, words), 0);
}

/* An administrator ends the connection and not the right: who comes back begins anew. */
static void a_disconnected_provider_loses_it_at_once(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	uint32_t epoch;
	int fd = provider_memfd(SCENE_RAM);

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "md", fd), 0);
	epoch = provider_epoch(scene, "md");
	expect_origin(scene, "md", "provider");
	assert_int_equal(vmsigctl(scene, "disconnect --tenant maker"), 0);
	daemon_await_log(scene->daemon, "its provider's connection ended", 1);
	assert_int_not_equal(provider_answer(&client, NULL), 0);
	write_client_close(&client);
	/* The one before may still end. */
	provider_dial(scene, &client, &provider_maker);
	while (provider_offer_one(&client, "md", fd) == VMSIG_ERR_BUSY)
		continue;
	assert_true(provider_epoch(scene, "md") > epoch);
	/* And in the grace, in which nobody is connected. */
	write_client_close(&client);
	assert_int_not_equal(vmsigctl(scene, "disconnect --tenant other"), 0);
	assert_int_not_equal(vmsigctl(scene, "disconnect --role sensor --tenant maker"), 0);
	assert_int_equal(daemon_log_count(scene->daemon, "an administrator ended it"), 0);
	assert_int_equal(vmsigctl(scene, "disconnect --role provider --tenant maker"), 0);
	daemon_await_log(scene->daemon, "an administrator ended it", 1);
	close(fd);
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
	int ram = provider_memfd(SCENE_RAM), status;
	pid_t pid;

	snprintf(command, sizeof(command), script, daemon_dir(scene->daemon), provider_maker.key,
		provider_maker.cert, pki_ca(daemon_pki(scene->daemon)), VMSIGCTL, ram);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fcntl(ram, F_SETFD, 0);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	daemon_await_log(scene->daemon, "endpoint=\"m9\"", 1);
	epoch = provider_epoch(scene, "m9");
	expect_origin(scene, "m9", "provider");
	expect_origin(scene, "a1", "config");
	kill(pid, SIGUSR1);
	daemon_await_log(scene->daemon, "its provider says that the guest was reset", 1);
	assert_int_equal(provider_epoch(scene, "m9"), epoch + 1);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	daemon_await_log(scene->daemon, "its provider ended it", 1);
	close(ram);
}

#define PROVIDE_TEST(name) cmocka_unit_test_setup_teardown(name, provider_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROVIDE_TEST(a_guest_is_served_until_it_is_ended),
		PROVIDE_TEST(who_comes_back_goes_on_in_the_same_epoch),
		PROVIDE_TEST(who_does_not_come_back_loses_it),
		PROVIDE_TEST(a_killed_provider_is_a_lost_one),
		PROVIDE_TEST(operators_write_to_it),
		PROVIDE_TEST(a_kernel_that_is_not_named_is_found),
		PROVIDE_TEST(a_disconnected_provider_loses_it_at_once),
		PROVIDE_TEST(vmsigctl_provides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
