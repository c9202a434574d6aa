/* SPDX-License-Identifier: Apache-2.0 */
/* The etcd of a fleet as it is in the field: its keys change, its members come and go. */
#include <signal.h>
#include <string.h>

#include "tests/integration/vmsigd/fleet_scene.h"

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
	assert_int_equal(daemon_log_count(host->daemon, "changes with the next start"), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
	pki_free(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			its_keys_change_with_a_reload, fleet_scene_setup, fleet_scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
