/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that a provider offers, and has not the right to, or not any more; and those that are not
 * what it says.
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

/* ---- rights ---- */

static void a_right_that_is_taken_away_ends_it_at_once(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM);

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "m5", fd), 0);
	provider_configure(scene, PROVIDER_LONG, "[mine]", getuid());
	scene_reload(scene);
	daemon_await_log(scene->daemon, "does not let its provider provide it any more", 1);
	assert_int_equal(provider_say(&client, false, "m5"), VMSIG_ERR_NO_SUCH_ENDPOINT);
	assert_int_equal(provider_offer_one(&client, "m5", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provider_offer_one(&client, "mine", fd), 0);
	/* Another uid: the connection ends, and nothing waits for it. */
	provider_configure(scene, PROVIDER_LONG, "[mine]", getuid() + 1);
	scene_reload(scene);
	daemon_await_log(scene->daemon, "a provided endpoint ends", 2);
	assert_int_equal(provider_answer(&client, NULL), VMSIG_ERR_UNAUTHENTICATED);
	write_client_close(&client);
	close(fd);
}

/* Nobody is connected when the right is taken away. */
static void a_right_ends_in_the_grace_too(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM);

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "mg", fd), 0);
	(void)provider_epoch(scene, "mg");
	write_client_close(&client);
	provider_configure(scene, PROVIDER_LONG, "[mine]", getuid());
	scene_reload(scene);
	daemon_await_log(scene->daemon, "does not let its provider provide it any more", 1);
	close(fd);
}

static void a_revoked_certificate_ends_it(void **state)
{
	struct scene *scene = *state;
	struct pki *pki = daemon_pki(scene->daemon);
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM);

	daemon_use_crl(scene->daemon, pki_crl(pki));
	provider_configure(scene, "{provider_grace: 50ms}", "['m*']", getuid());
	scene_reload(scene);
	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "mr", fd), 0);
	pki_revoke(pki, &provider_maker);
	(void)pki_crl(pki);
	scene_reload(scene);
	assert_int_not_equal(provider_answer(&client, NULL), 0);
	daemon_await_log(scene->daemon, "a provided endpoint ends", 1);
	write_client_close(&client);
	close(fd);
}

static void names_of_others_are_refused(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM);

	provider_dial(scene, &client, &provider_other);
	assert_int_equal(provider_offer_one(&client, "x1", fd), VMSIG_ERR_FORBIDDEN);
	assert_int_equal(provider_offer_one(&client, "../a", fd), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(provider_offer_one(&client, "a1", fd), VMSIG_ERR_BUSY);
	write_client_close(&client);
	close(fd);
}

/* Nor may it send a descriptor: what comes with the request is refused before it is one. */
static void an_administrator_is_no_provider(void **state)
{
	struct scene *scene = *state;
	const struct provider_guest guest = {.name = "m6", .low = SCENE_RAM};
	struct write_client client;

	provider_dial(scene, &client, &scene->admin);
	assert_int_equal(provider_offer(&client, &guest, NULL), VMSIG_ERR_FORBIDDEN);
	write_client_close(&client);
	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer(&client, &guest, NULL), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&client);
}

/* A holder of a guest offers what it was given as a guest of its own. */
static void who_may_only_read_gives_way(void **state)
{
	struct scene *scene = *state;
	struct write_client holder, owner;
	int fd = provider_memfd(SCENE_RAM), reader;
	char path[64];

	if (fchown(fd, getuid() + 1, (gid_t)-1) < 0) {
		close(fd);
		skip();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(reader >= 0);
	provider_configure(scene, PROVIDER_LONG, "['m*']", getuid());
	scene_reload(scene);
	provider_dial(scene, &holder, &provider_maker);
	assert_int_equal(provider_offer_one(&holder, "mh", reader), 0);
	(void)provider_epoch(scene, "mh");
	provider_dial(scene, &owner, &provider_other);
	assert_int_equal(provider_offer_one(&owner, "mo", fd), 0);
	(void)provider_epoch(scene, "mo");
	daemon_await_log(scene->daemon, "its RAM file is another endpoint's", 1);
	assert_int_equal(provider_offer_one(&holder, "mi", reader), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&holder);
	write_client_close(&owner);
	close(reader);
	close(fd);
}

static void a_flood_meets_its_bound(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fds[3];
	char name[8];

	provider_configure(scene, "{provided: 2}", "['m*']", getuid());
	scene_reload(scene);
	provider_dial(scene, &client, &provider_maker);
	for (int i = 0; i < 3; i++) {
		fds[i] = provider_memfd(SCENE_RAM);
		snprintf(name, sizeof(name), "mf%d", i);
		assert_int_equal(
			provider_offer_one(&client, name, fds[i]), i < 2 ? 0 : VMSIG_ERR_QUOTA);
		close(fds[i]);
	}
	assert_int_equal(provider_say(&client, false, "mf0"), 0);
	assert_int_equal(provider_say(&client, false, "mf1"), 0);
	write_client_close(&client);
}

/* The names a1, a2 and g1 are known from before. */
static void the_names_that_are_remembered_have_a_bound(void **state)
{
	struct scene *scene = *state;
	struct write_client client;
	int fd = provider_memfd(SCENE_RAM), r;

	provider_configure(scene, "{names: 4}", "['m*']", getuid());
	scene_reload(scene);
	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer_one(&client, "mn1", fd), 0);
	assert_int_equal(provider_say(&client, false, "mn1"), 0);
	assert_int_equal(provider_offer_one(&client, "mn2", fd), VMSIG_ERR_QUOTA);
	/* The one before may still end. */
	while ((r = provider_offer_one(&client, "mn1", fd)) == VMSIG_ERR_BUSY)
		continue;
	assert_int_equal(r, 0);
	write_client_close(&client);
	close(fd);
}

/* ---- lies ---- */

static void lies_about_ram_are_refused(void **state)
{
	struct scene *scene = *state;
	Vmsig__Segment a = VMSIG__SEGMENT__INIT, b = VMSIG__SEGMENT__INIT;
	int good = provider_memfd(SCENE_RAM), small = provider_memfd(SCENE_RAM / 2),
	    empty = provider_memfd(0);
	const struct provider_guest lies[] = {
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
	provider_dial(scene, &client, &provider_maker);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		/* The one before may still end. */
		while ((r = provider_offer(&client, &lies[i], NULL)) == VMSIG_ERR_BUSY)
			continue;
		assert_true(r > 0);
	}
	while ((r = provider_offer_one(&client, "m7", good)) == VMSIG_ERR_BUSY)
		continue;
	assert_int_equal(r, 0);
	assert_int_equal(provider_say(&client, false, "m7"), 0);
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
	provider_dial(scene, &client, &provider_maker);
	assert_true(provider_offer_one(&client, "m8", pipes[0]) != 0);
	write_client_close(&client);
	close(pipes[0]);
	close(pipes[1]);
}

/* It is mapped as it was looked at: what is read or written beyond its new end must end nobody. */
static void a_file_that_shrinks_ends_its_epoch(void **state)
{
	struct scene *scene = *state;
	const struct provider_guest guest = {.name = "ms",
		.low = SCENE_RAM,
		.fds = {provider_memfd(SCENE_RAM)},
		.nfds = 1,
		.writable = true};
	struct write_client client, operator_;
	struct write_lease lease;

	provider_dial(scene, &client, &provider_maker);
	assert_int_equal(provider_offer(&client, &guest, NULL), 0);
	(void)provider_epoch(scene, "ms");
	write_client_open(&operator_, scene->daemon, "write.sock", &provider_ops);
	lease = write_client_lease(&operator_, "ms");
	assert_int_equal(ftruncate(guest.fds[0], SCENE_RAM / 2), 0);
	assert_int_not_equal(
		write_client_put(&operator_, &lease, 1, SCENE_RAM - 0x1000, 0x1122334455667788), 0);
	daemon_await_log(scene->daemon, "endpoint=\"ms\"", 2);
	(void)provider_epoch(scene, "a1");
	write_client_close(&operator_);
	write_client_close(&client);
	close(guest.fds[0]);
}

#define PROVIDE_TEST(name) cmocka_unit_test_setup_teardown(name, provider_setup, scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROVIDE_TEST(a_right_that_is_taken_away_ends_it_at_once),
		PROVIDE_TEST(a_right_ends_in_the_grace_too),
		PROVIDE_TEST(a_revoked_certificate_ends_it),
		PROVIDE_TEST(a_file_that_shrinks_ends_its_epoch),
		PROVIDE_TEST(names_of_others_are_refused),
		PROVIDE_TEST(an_administrator_is_no_provider),
		PROVIDE_TEST(who_may_only_read_gives_way),
		PROVIDE_TEST(a_flood_meets_its_bound),
		PROVIDE_TEST(the_names_that_are_remembered_have_a_bound),
		PROVIDE_TEST(lies_about_ram_are_refused),
		PROVIDE_TEST(what_is_no_file_in_memory_ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
