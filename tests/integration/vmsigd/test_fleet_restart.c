/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker of a fleet that starts anew: its guest's epoch and its operators' leases go on, as those
 * of a host that is alone, unless another host has had the guest meanwhile.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>

#include "tests/integration/vmsigd/fleet_scene.h"

static struct fleet_host *const host = &fleet_scene.hosts[0];

/* It runs, and a lease of it is the operator's. */
static struct write_lease begin(struct write_client *client)
{
	struct write_lease lease;

	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	daemon_await_log(host->daemon, "endpoint ready", 1);
	fleet_scene_open(client, host);
	lease = fleet_scene_acquire(client, FLEET_LONG);
	assert_int_equal(fleet_scene_put(client, host, &lease, 11), 0);
	return lease;
}

static void goes_on(struct write_client *client, const struct write_lease *lease, unsigned times)
{
	daemon_await_log(host->daemon, FLEET_OURS, times);
	fleet_scene_open(client, host);
	assert_int_equal(fleet_scene_resume(client, lease), 0);
	assert_int_equal(fleet_scene_put(client, host, lease, 11 + times), 0);
	assert_int_equal(fleet_scene_word(host), 11 + times);
	/* Its epoch is the only one that there was. */
	assert_int_equal(daemon_log_count(host->daemon, "\"epoch\""), 1);
}

static void a_lease_outlives_restarts(void **state)
{
	struct write_client client;
	struct write_lease lease;

	(void)state;
	lease = begin(&client);
	for (unsigned i = 2; i < 4; i++) {
		write_client_close(&client);
		assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
		daemon_start(host->daemon);
		goes_on(&client, &lease, i);
	}
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

static void a_lease_outlives_kills(void **state)
{
	struct write_client client;
	struct write_lease lease;

	(void)state;
	lease = begin(&client);
	for (unsigned i = 2; i < 4; i++) {
		write_client_close(&client);
		daemon_stop(host->daemon, SIGKILL);
		daemon_start(host->daemon);
		goes_on(&client, &lease, i);
	}
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

static void hide_ram(bool hidden)
{
	const char *dir = daemon_dir(host->daemon);
	char shown[PATH_MAX], away[PATH_MAX];

	snprintf(shown, sizeof(shown), "%s/vm.ram", dir);
	snprintf(away, sizeof(away), "%s/vm.away", dir);
	assert_int_equal(hidden ? rename(shown, away) : rename(away, shown), 0);
}

/* It has not seen the guest, and gives nothing up that it does not know to be over. */
static void a_lease_outlives_one_that_ends_at_once(void **state)
{
	struct write_client client;
	struct write_lease lease;

	(void)state;
	lease = begin(&client);
	write_client_close(&client);
	daemon_stop(host->daemon, SIGKILL);
	hide_ram(true);
	daemon_start(host->daemon);
	fleet_scene_view_is(host, "NONE", "");
	daemon_await_log(host->daemon, "etcd answers", 2);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
	hide_ram(false);
	daemon_start(host->daemon);
	goes_on(&client, &lease, 2);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

/* Who asks finds that the lease is over: another host has given one since. */
static void what_another_host_has_had_meanwhile_is_over(void **state)
{
	struct fleet_host *other = &fleet_scene.hosts[1];
	struct write_client client, second;
	struct write_lease old, new;

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	fleet_scene_open(&client, host);
	old = fleet_scene_acquire(&client, FLEET_SHORT);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
	daemon_start(other->daemon);
	daemon_await_log(other->daemon, FLEET_OURS, 1);
	daemon_await_log(other->daemon, "endpoint ready", 2);
	fleet_scene_open(&second, other);
	new = fleet_scene_acquire(&second, FLEET_SHORT);
	assert_true(new.token > old.token &&new.epoch > old.epoch);
	write_client_close(&second);
	assert_int_equal(daemon_stop(other->daemon, SIGTERM), 0);
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 2);
	fleet_scene_open(&client, host);
	assert_int_not_equal(fleet_scene_resume(&client, &old), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_lease_outlives_restarts, fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(
			a_lease_outlives_kills, fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(a_lease_outlives_one_that_ends_at_once,
			fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(what_another_host_has_had_meanwhile_is_over,
			fleet_scene_setup, fleet_scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
