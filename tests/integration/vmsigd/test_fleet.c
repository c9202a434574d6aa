/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two brokers as two hosts, one guest's identity on both, and a real etcd between them: one of them
 * writes, and none when it cannot be known which.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

/* The command's output, as somebody of this host, until it ends or has so many lines. */
static void says(struct fleet_host *host, const struct pki_cert *who, const char *arguments,
	const char *pattern)
{
	/* What follows something is left when its first line has come. */
	static const char script[] =
		"cd %s && mkdir -p id && cp %s id/key.pem && cp %s id/cert.pem && cp %s id/ca.pem;"
		" export VMSIG_SOCKET=run/ctx.sock VMSIG_WRITE_SOCKET=run/write.sock"
		" VMSIG_ADMIN_SOCKET=run/admin.sock;"
		" \"%s\" --identity id %s >out 2>&1 & pid=$!;"
		" for i in $(seq 1200); do grep -qE '%s' %s/out && break; sleep 0.05; done;"
		" kill $pid 2>/dev/null; wait $pid; grep -qE '%s' %s/out || { cat %s/out >&2; exit "
		"1; }";
	char command[10 * PATH_MAX];
	const char *dir = daemon_dir(host->daemon);

	snprintf(command, sizeof(command), script, dir, who->key, who->cert,
		pki_ca(daemon_pki(host->daemon)), VMSIGCTL, arguments, pattern, dir, pattern, dir,
		dir);
	if (system(command))
		fail_msg("vmsigctl %s does not say '%s'", arguments, pattern);
}

static void fleet_says(struct fleet_host *host, const char *arguments, const char *pattern)
{
	says(host, &host->admin, arguments, pattern);
}

/* The same of who has no rights on etcd, nor on the admin plane. */
static void tenants_ask(struct fleet_host *hosts)
{
	says(&hosts[0], &hosts[0].operator, "fleet ls",
		"^vm +" FLEET_GUEST " +OWNED +host1 +vm +[0-9]+ +- ");
	says(&hosts[1], &hosts[1].operator, "fleet where vm", "^host1$");
	says(&hosts[1], &hosts[1].operator, "fleet hosts", "^host1 +1$");
	says(&hosts[1], &hosts[1].operator, "fleet leases",
		"^ *[0-9]+ +vm +" FLEET_GUEST " +host1 +granted +[0-9]+ +alice/[0-9]+ +-");
	says(&hosts[0], &hosts[0].operator, "fleet leases",
		"^ *[0-9]+ +vm +" FLEET_GUEST " +host1 +active +[0-9]+ +alice/");
	says(&hosts[1], &hosts[1].sensor, "fleet ls", "^vm +" FLEET_GUEST " +FOREIGN +host1 ");
	says(&hosts[1], &hosts[1].sensor, "fleet watch --interval 50ms",
		"Z vm " FLEET_GUEST " FOREIGN host1$");
	says(&hosts[1], &hosts[1].sensor, "fleet leases", "sensors have none");
	says(&hosts[1], &hosts[1].sensor, "fleet bump", "role");
}

static void operators_ask_any_host(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client first;

	(void)state;
	fleet_scene_start();
	fleet_scene_open(&first, &hosts[0]);
	fleet_scene_acquire(&first, FLEET_LONG);
	fleet_says(&hosts[0], "fleet leases",
		"^ *[0-9]+ +vm +" FLEET_GUEST " +host1 +active +[0-9]+ +alice/");
	fleet_says(&hosts[0], "fleet leases --json", "\"tenant\": ?\"alice\"");
	fleet_says(&hosts[1], "fleet leases",
		"^ *[0-9]+ +vm +" FLEET_GUEST " +host1 +granted +[0-9]+ +alice/[0-9]+ +-");
	fleet_says(&hosts[1], "fleet leases --json", "\"ttl_ms\": ?300000");
	fleet_says(&hosts[1], "fleet ls", "^vm +" FLEET_GUEST " +FOREIGN +host1 +vm ");
	fleet_says(&hosts[1], "fleet where vm", "^host1$");
	fleet_says(&hosts[1], "endpoint ls", "^vm .* config +" FLEET_GUEST);
	fleet_says(&hosts[1], "fleet watch --interval 50ms", "Z vm " FLEET_GUEST " FOREIGN host1$");
	fleet_says(&hosts[0], "fleet watch --json", "\"state\": ?\"OWNED\"");
	tenants_ask(hosts);
	write_client_close(&first);
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

/* The cluster that the text names behind these words; 0: none. */
static uint64_t cluster_in(const char *text, const char *words)
{
	const char *at = strstr(text, words);

	return at ? strtoull(at + strlen(words), NULL, 16) : 0;
}

/* As one that was restored from a snapshot: what is said in it is not believed. */
static void another_etcd_makes_nobody_write_until_somebody_says_so(void **state)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	struct write_lease old, new;
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
	/* A member that was made anew in its old place has its old cluster's identity. */
	assert_true(cluster_in(detail, "from cluster ") && cluster_in(detail, " to "));
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
			operators_ask_any_host, fleet_scene_setup, fleet_scene_teardown),
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
