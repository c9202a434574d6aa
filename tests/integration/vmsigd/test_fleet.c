/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two brokers as two hosts, one guest's identity on both, and a real etcd between them: one of them
 * writes, and none when it cannot be known which.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/integration/vmsigd/fleet_scene.h"

/* ---- one of them ---- */

static void the_second_is_refused_and_takes_over_from_the_dead(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client first, second;
	struct write_lease old, new;

	(void)state;
	fleet_scene_start();
	fleet_scene_open(&first, &hosts[0]);
	old = fleet_scene_acquire(&first, FLEET_SHORT);
	assert_int_equal(fleet_scene_put(&first, &hosts[0], &old, 11), 0);
	assert_int_equal(fleet_scene_word(&hosts[0]), 11);
	fleet_scene_open(&second, &hosts[1]);
	fleet_scene_refused(&second, VMSIG_ERR_BUSY, "host1");
	assert_int_equal(daemon_log_count(hosts[1].daemon, FLEET_OURS), 0);
	fleet_scene_view_is(&hosts[0], "OWNED", "host1");
	fleet_scene_view_is(&hosts[1], "FOREIGN", "host1");
	assert_int_equal(fleet_scene_bump(&hosts[0]), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&first);
	daemon_stop(hosts[0].daemon, SIGKILL);
	daemon_await_log(hosts[1].daemon, FLEET_OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	new = fleet_scene_acquire(&second, FLEET_LONG);
	/* Nobody who looks at both can take the old one for the newer. */
	assert_true(new.token > old.token);
	assert_true(new.epoch > old.epoch);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &new, 22), 0);
	assert_int_equal(fleet_scene_word(&hosts[1]), 22);
	/* Back again, it is the other's. */
	daemon_start(hosts[0].daemon);
	daemon_await_log(hosts[0].daemon, "endpoint ready", 2);
	fleet_scene_open(&first, &hosts[0]);
	fleet_scene_refused(&first, VMSIG_ERR_BUSY, "");
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

/* One that ends well is not waited for. */
static void who_leaves_gives_up(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client second;
	struct write_lease lease;

	(void)state;
	fleet_scene_start();
	assert_int_equal(daemon_stop(hosts[0].daemon, SIGTERM), 0);
	assert_int_equal(daemon_log_count(hosts[0].daemon, "the guest was given up"), 1);
	daemon_await_log(hosts[1].daemon, FLEET_OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	fleet_scene_open(&second, &hosts[1]);
	lease = fleet_scene_acquire(&second, FLEET_LONG);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &lease, 33), 0);
	write_client_close(&second);
	assert_int_equal(daemon_stop(hosts[1].daemon, SIGTERM), 0);
}

/* As when a guest gets another name, and begins under it before it has ended under the old one. */
static void the_next_endpoint_of_a_guest_waits_for_the_first(void **state)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	struct write_lease lease;

	(void)state;
	daemon_ram(host->daemon, "next", FLEET_RAM);
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	fleet_scene_add(host, FLEET_ENDPOINT("next"));
	daemon_await_log(host->daemon, "another endpoint of this host is the same guest", 1);
	daemon_await_log(host->daemon, "endpoint ready", 2);
	fleet_scene_open(&client, host);
	fleet_scene_refused_at(&client, "next", VMSIG_ERR_BUSY, "");
	fleet_scene_configure(host, 1, FLEET_ENDPOINT("next"));
	kill(daemon_pid(host->daemon), SIGHUP);
	daemon_await_log(host->daemon, FLEET_OURS, 2);
	daemon_await_log(host->daemon, "endpoint ready", 3);
	write_client_ask(&client, "next", 0, 0, FLEET_SHORT, 0, true);
	lease = write_client_granted(&client);
	assert_int_equal(fleet_scene_put(&client, host, &lease, 44), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

/* ---- nobody, when it is not known ---- */

static void one_that_stood_still_writes_nothing_afterwards(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client first, second;
	struct write_lease old, new;
	const uint64_t late = 99;
	uint64_t id;

	(void)state;
	fleet_scene_start();
	fleet_scene_open(&first, &hosts[0]);
	old = fleet_scene_acquire(&first, FLEET_SHORT);
	assert_int_equal(fleet_scene_put(&first, &hosts[0], &old, 11), 0);
	kill(daemon_pid(hosts[0].daemon), SIGSTOP);
	id = write_client_write(
		&first, &old, ++hosts[0].sequence, FLEET_ADDRESS, &late, sizeof(late), NULL);
	daemon_await_log(hosts[1].daemon, FLEET_OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	fleet_scene_open(&second, &hosts[1]);
	new = fleet_scene_acquire(&second, FLEET_LONG);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &new, 22), 0);
	kill(daemon_pid(hosts[0].daemon), SIGCONT);
	assert_int_not_equal(write_client_answer(&first, id), 0);
	assert_int_equal(fleet_scene_word(&hosts[0]), 11);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &new, 23), 0);
	daemon_await_log(hosts[0].daemon, "not this host's any more", 1);
	fleet_scene_refused(&first, VMSIG_ERR_BUSY, "");
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

static void without_etcd_writes_stop_and_go_on_with_it(void **state)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	struct write_lease lease;
	int r;

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	fleet_scene_open(&client, host);
	lease = fleet_scene_acquire(&client, FLEET_LONG);
	assert_int_equal(fleet_scene_put(&client, host, &lease, 11), 0);
	cluster_signal(fleet_scene.cluster, 0, SIGKILL);
	daemon_await_log(host->daemon, "cut off from the fleet's etcd", 1);
	assert_int_equal(fleet_scene_put(&client, host, &lease, 12), VMSIG_ERR_BUSY);
	assert_int_equal(fleet_scene_word(host), 11);
	fleet_scene_refused(&client, VMSIG_ERR_BUSY, "etcd");
	cluster_restart(fleet_scene.cluster, 0, false);
	daemon_await_log(host->daemon, "writes go on", 1);
	r = fleet_scene_put(&client, host, &lease, 13);
	assert_string_equal(vmsig_error_name(r), "OK");
	assert_int_equal(fleet_scene_word(host), 13);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

/* As one that was restored from a snapshot: what is said in it is not believed. */
static void another_etcd_makes_nobody_write_until_somebody_says_so(void **state)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	struct write_lease old, new;
	unsigned long long before, after;
	char detail[256];

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	fleet_scene_open(&client, host);
	old = fleet_scene_acquire(&client, FLEET_SHORT);
	assert_int_equal(fleet_scene_put(&client, host, &old, 11), 0);
	cluster_signal(fleet_scene.cluster, 0, SIGKILL);
	cluster_restart(fleet_scene.cluster, 0, true);
	daemon_await_log(host->daemon, "the fleet is frozen", 1);
	daemon_await_log(host->daemon, "cut off from the fleet's etcd", 1);
	fleet_scene_refused(&client, VMSIG_ERR_BUSY, "frozen");
	assert_int_equal(fleet_scene_bump(host), 0);
	daemon_await_log(host->daemon, "an operator has bumped it", 1);
	fleet_scene_recorded(host, VMSIG__AUDIT_RECORD__KIND__FLEET_BUMPED, "root", detail);
	assert_int_equal(sscanf(detail, "from cluster %llx to %llx", &before, &after), 2);
	/* A member that was made anew in its old place has its old cluster's identity. */
	assert_true(before && after);
	assert_non_null(strstr(detail, "restored"));
	daemon_await_log(host->daemon, FLEET_OURS, 2);
	daemon_await_log(host->daemon, "endpoint ready", 2);
	write_client_close(&client);
	fleet_scene_open(&client, host);
	new = fleet_scene_acquire(&client, FLEET_SHORT);
	assert_true(new.token > old.token);
	assert_true(new.epoch > old.epoch);
	assert_int_equal(fleet_scene_put(&client, host, &new, 12), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_second_is_refused_and_takes_over_from_the_dead,
			fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(
			who_leaves_gives_up, fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(the_next_endpoint_of_a_guest_waits_for_the_first,
			fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(one_that_stood_still_writes_nothing_afterwards,
			fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(without_etcd_writes_stop_and_go_on_with_it,
			fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(
			another_etcd_makes_nobody_write_until_somebody_says_so, fleet_scene_setup,
			fleet_scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
