/* SPDX-License-Identifier: Apache-2.0 */
/* The etcd of a fleet as it is in the field: its keys change, its members come and go. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/integration/vmsigd/fleet_scene.h"
#include "tests/support/ctx_client.h"

#define PAUSE_MS 100 /* between two looks */

/* Another authority has signed etcd and its clients since. */
static struct pki *sign_anew(struct fleet_host *host)
{
	const struct pki_request plain = {0};
	struct pki *old = fleet_scene.pki;

	fleet_scene.pki = pki_new();
	pki_issue(fleet_scene.pki, "host1", &plain, &host->etcd);
	cluster_rekey(fleet_scene.cluster, fleet_scene.pki);
	return old;
}

static void reload(struct fleet_host *host, const char *words)
{
	fleet_scene_configure(host, 1, FLEET_ENDPOINT("vm"));
	kill(daemon_pid(host->daemon), SIGHUP);
	daemon_await_log(host->daemon, words, 1);
}

static void its_keys_change_with_a_reload(void **state)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	struct write_lease lease;
	struct pki_cert old, new;
	struct pki *before;

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, FLEET_OURS, 1);
	fleet_scene_open(&client, host);
	lease = fleet_scene_acquire(&client, FLEET_LONG);
	cluster_signal(fleet_scene.cluster, 0, SIGKILL);
	old = host->etcd;
	before = sign_anew(host);
	new = host->etcd;
	cluster_restart(fleet_scene.cluster, 0, false);
	daemon_await_log(host->daemon, "cut off from the fleet's etcd", 1);
	/* One file of two. */
	memcpy(host->etcd.key, old.key, sizeof(old.key));
	reload(host, "is not the certificate of the key");
	assert_int_equal(daemon_log_count(host->daemon, "configuration reloaded"), 0);
	host->etcd = new;
	reload(host, "configuration reloaded");
	daemon_await_log(host->daemon, "writes go on", 1);
	assert_int_equal(fleet_scene_put(&client, host, &lease, 11), 0);
	assert_int_equal(daemon_log_count(host->daemon, "from the next start on"), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
	pki_free(before);
}

/* ---- members that come and go ---- */

static uint64_t right_of(struct fleet_host *host)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	Vmsig__AdminMessage *message;
	uint64_t right_ms;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	message = fleet_scene_ask_admin(host, &request, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW);
	right_ms = message->fleet_view->guests[0]->right_ms;
	vmsig__admin_message__free_unpacked(message, NULL);
	return right_ms;
}

/* So many renewals have succeeded since: its right has become longer as often. */
static void await_renewals(struct fleet_host *host, unsigned n)
{
	uint64_t before = right_of(host), now;

	for (unsigned waited = 0; n; waited += PAUSE_MS) {
		if (waited > DAEMON_WAIT_MS)
			fail_msg("its right is not renewed:\n%s", daemon_log(host->daemon));
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000l}, NULL);
		now = right_of(host);
		n -= now > before;
		before = now;
	}
}

static int setup_three(void **state)
{
	(void)state;
	fleet_scene_begin(3, "9s");
	return 0;
}

/* One is killed, one stands still for longer than the TTL with its connections open, one is killed;
 * so the leader goes at least once. A renewal comes a third of a TTL after the one before. */
static void two_members_of_three_do(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client first, second;
	struct write_lease lease;

	(void)state;
	fleet_scene_start();
	fleet_scene_open(&first, &hosts[0]);
	fleet_scene_open(&second, &hosts[1]);
	lease = fleet_scene_acquire(&first, FLEET_LONG);
	for (unsigned i = 0; i < 3; i++) {
		bool stops = i == 1;

		cluster_signal(fleet_scene.cluster, i, stops ? SIGSTOP : SIGKILL);
		await_renewals(&hosts[0], stops ? 4 : 2);
		assert_int_equal(fleet_scene_put(&first, &hosts[0], &lease, 100 + i), 0);
		fleet_scene_refused(&second, VMSIG_ERR_BUSY, "");
		cluster_signal(fleet_scene.cluster, i, SIGCONT);
		if (!stops)
			cluster_restart(fleet_scene.cluster, i, false);
	}
	assert_int_equal(fleet_scene_word(&hosts[0]), 102);
	assert_int_equal(daemon_log_count(hosts[1].daemon, FLEET_OURS), 0);
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

/* ---- a host that is cut off ---- */

static void status_says(struct fleet_host *host, const char *words)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__StatusQuery body = VMSIG__STATUS_QUERY__INIT;
	Vmsig__AdminMessage *message;
	bool said = false;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_STATUS_QUERY;
	request.status_query = &body;
	message = fleet_scene_ask_admin(host, &request, VMSIG__ADMIN_MESSAGE__BODY_STATUS);
	for (size_t i = 0; i < message->status->n_warnings; i++)
		said |= strstr(message->status->warnings[i], words) != NULL;
	assert_true(said);
	vmsig__admin_message__free_unpacked(message, NULL);
}

/* Guests of the host in a state, as its metrics count them. */
static uint64_t counted(struct fleet_host *host, const char *state)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__StatsQuery body = VMSIG__STATS_QUERY__INIT;
	Vmsig__AdminMessage *message;
	uint64_t n = 0;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_STATS_QUERY;
	request.stats_query = &body;
	message = fleet_scene_ask_admin(host, &request, VMSIG__ADMIN_MESSAGE__BODY_STATS);
	for (size_t i = 0; i < message->stats->n_metrics; i++) {
		const Vmsig__Metric *metric = message->stats->metrics[i];

		if (strcmp(metric->name, "vmsig_fleet_guests") != 0)
			continue;
		for (size_t j = 0; j < metric->n_samples; j++) {
			const Vmsig__Sample *sample = metric->samples[j];

			if (sample->n_labels && strcmp(sample->labels[0]->value, state) == 0)
				n += sample->value;
		}
	}
	vmsig__admin_message__free_unpacked(message, NULL);
	return n;
}

/* Its connections to etcd stay, and nothing comes through them. */
static void who_is_cut_off_stops_by_itself(void **state)
{
	struct fleet_host *hosts = fleet_scene.hosts;
	struct write_client first, second;
	struct write_lease old, new;
	const char *port = strrchr(cluster_url(fleet_scene.cluster, 0), ':') + 1;

	(void)state;
	relay_start(&hosts[0].way, (unsigned)strtoul(port, NULL, 10));
	fleet_scene_configure(&hosts[0], 1, FLEET_ENDPOINT("vm"));
	fleet_scene_start();
	fleet_scene_open(&first, &hosts[0]);
	old = fleet_scene_acquire(&first, FLEET_SHORT);
	assert_int_equal(fleet_scene_put(&first, &hosts[0], &old, 11), 0);
	kill(hosts[0].way.pid, SIGSTOP);
	daemon_await_log(hosts[0].daemon, "cut off from the fleet's etcd", 1);
	assert_int_not_equal(fleet_scene_put(&first, &hosts[0], &old, 12), 0);
	fleet_scene_refused(&first, VMSIG_ERR_BUSY, "cut off");
	fleet_scene_view_is(&hosts[0], "CUT_OFF", "host1");
	status_says(&hosts[0], "writes to 1 of this host's guests have stopped, reads go on");
	assert_int_equal(counted(&hosts[0], "CUT_OFF"), 1);
	assert_int_equal(ctx_client_epoch(hosts[0].daemon, &hosts[0].sensor, "vm"), old.epoch);
	daemon_await_log(hosts[1].daemon, FLEET_OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	fleet_scene_open(&second, &hosts[1]);
	new = fleet_scene_acquire(&second, FLEET_LONG);
	assert_true(new.token > old.token &&new.epoch > old.epoch);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &new, 22), 0);
	kill(hosts[0].way.pid, SIGCONT);
	daemon_await_log(hosts[0].daemon, "not this host's any more", 1);
	fleet_scene_refused(&first, VMSIG_ERR_BUSY, "");
	assert_int_equal(fleet_scene_word(&hosts[0]), 11);
	assert_int_equal(fleet_scene_put(&second, &hosts[1], &new, 23), 0);
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			its_keys_change_with_a_reload, fleet_scene_setup, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(
			two_members_of_three_do, setup_three, fleet_scene_teardown),
		cmocka_unit_test_setup_teardown(
			who_is_cut_off_stops_by_itself, fleet_scene_setup, fleet_scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
