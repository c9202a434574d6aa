/* SPDX-License-Identifier: Apache-2.0 */
/* All guests of the fleet, asked of one of its hosts: as etcd has them, and as the policy allows.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/vmsigd/fleet_scene.h"

#define PAUSE_MS 50 /* between two looks */
#define OTHER "6f1f2c1e-0000-4000-8000-0000000000bb"
#define OTHER_ENDPOINT                                                                             \
	"{name: web, adapter: file, path: web.ram, low: 1MiB, kcr3: 0x2000,\n"                     \
	"     writable: yes, uuid: " OTHER "}"

static Vmsig__AdminMessage *ask(struct fleet_host *host, const struct pki_cert *who, bool whole)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;

	body.whole = whole;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	return fleet_scene_ask_as(host, who, &request, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW);
}

/* As a sensor or an operator. */
static Vmsig__AdminMessage *ask_tenant(
	struct fleet_host *host, const struct pki_cert *who, bool whole)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;

	body.whole = whole;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	return fleet_scene_ask_at(
		host, "ctx.sock", who, &request, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW);
}

/* NULL: it is not told of. */
static const Vmsig__FleetGuest *find(const Vmsig__FleetView *view, const char *uuid)
{
	for (size_t i = 0; i < view->n_guests; i++) {
		if (strcmp(view->guests[i]->uuid, uuid) == 0)
			return view->guests[i];
	}
	return NULL;
}

/* One more tenant, who administers some endpoints. */
static void part_new(const char *name, const char *uri, struct pki_cert *ret_cert)
{
	pki_issue_uri(daemon_pki(fleet_scene.hosts[0].daemon), name, uri, ret_cert);
}

static int setup(void **state)
{
	static char tenants[1024];

	fleet_scene_setup(state);
	snprintf(tenants, sizeof(tenants),
		"  - {name: part-v, role: admin, uids: [%u], endpoints: ['v*']}\n"
		"  - {name: part-w, role: admin, uids: [%u], endpoints: ['w*']}\n"
		"  - {name: part-l, role: admin, uids: [%u], endpoints: ['label:a=*']}\n"
		"  - {name: eyes, role: monitor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: none, role: sensor, uids: [%u], endpoints: ['w*'], fleet: ['v*', "
		"'guest']}\n"
		"  - {name: far, role: sensor, uids: [%u], endpoints: ['v*'], fleet: ['w*']}\n"
		"  - {name: bob, role: operator, uids: [%u], endpoints: [], fleet: ['web']}\n",
		getuid(), getuid(), getuid(), getuid(), getuid(), getuid(), getuid());
	fleet_scene.tenants = tenants;
	daemon_ram(fleet_scene.hosts[1].daemon, "web", FLEET_RAM);
	fleet_scene_configure(&fleet_scene.hosts[0], 1, FLEET_ENDPOINT("vm"));
	fleet_scene_configure(
		&fleet_scene.hosts[1], 2, FLEET_ENDPOINT("guest") "\n  - " OTHER_ENDPOINT);
	daemon_ram(fleet_scene.hosts[1].daemon, "guest", FLEET_RAM);
	return 0;
}

static void start(void)
{
	struct fleet_host *hosts = fleet_scene.hosts;

	daemon_start(hosts[0].daemon);
	daemon_await_log(hosts[0].daemon, FLEET_OURS, 1);
	daemon_start(hosts[1].daemon);
	daemon_await_log(hosts[1].daemon, FLEET_OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
}

/* A lease of the other host's guest. */
static struct write_lease lease_of_web(struct write_client *client)
{
	fleet_scene_open(client, &fleet_scene.hosts[1]);
	write_client_ask(client, "web", 0, 0, FLEET_LONG, 0, false);
	return write_client_granted(client);
}

static void guests_of_all_hosts_with_their_leases(void)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	Vmsig__AdminMessage *message;
	const Vmsig__FleetGuest *guest;
	struct write_lease lease;
	struct pki_cert cert;

	lease = lease_of_web(&client);
	message = ask(host, &host->admin, true);
	assert_false(message->fleet_view->alone);
	assert_int_equal(message->fleet_view->n_guests, 2);
	guest = find(message->fleet_view, FLEET_GUEST);
	assert_string_equal(guest->endpoint, "vm");
	assert_string_equal(guest->name, "vm");
	assert_string_equal(guest->state, "OWNED");
	assert_int_equal(guest->n_leases, 0);
	guest = find(message->fleet_view, OTHER);
	assert_string_equal(guest->endpoint, "");
	assert_string_equal(guest->name, "web");
	assert_string_equal(guest->state, "FOREIGN");
	assert_string_equal(guest->holder, "host2");
	assert_int_equal(guest->right_ms, 0);
	assert_int_equal(guest->n_leases, 1);
	assert_int_equal(guest->leases[0]->lease, lease.id);
	assert_string_equal(guest->leases[0]->tenant, "alice");
	assert_int_equal(guest->leases[0]->uid, getuid());
	assert_int_equal(guest->leases[0]->epoch, lease.epoch);
	assert_int_equal(guest->leases[0]->ttl_ms, FLEET_LONG);
	vmsig__admin_message__free_unpacked(message, NULL);
	/* A monitor does not learn who has leases. */
	part_new("eyes", "vmsig://monitor/eyes", &cert);
	message = ask(host, &cert, true);
	assert_int_equal(message->fleet_view->n_guests, 2);
	assert_int_equal(find(message->fleet_view, OTHER)->n_leases, 0);
	vmsig__admin_message__free_unpacked(message, NULL);
	/* Whoever does not ask for them gets none of them. */
	message = ask(host, &host->admin, false);
	assert_int_equal(message->fleet_view->n_guests, 1);
	assert_false(message->fleet_view->alone);
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&client);
}

static void sees(struct fleet_host *host, const struct pki_cert *who, const char *uuid)
{
	Vmsig__AdminMessage *message = ask(host, who, true);

	assert_int_equal(message->fleet_view->n_guests, uuid ? 1 : 0);
	if (uuid)
		assert_string_equal(message->fleet_view->guests[0]->uuid, uuid);
	vmsig__admin_message__free_unpacked(message, NULL);
}

/* By the endpoint where one is asked, and else by the name on the host that has the guest. */
static void the_policy_of_the_host_that_is_asked_applies(void)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct pki_cert cert;

	part_new("part-v", "vmsig://admin/part-v", &cert);
	sees(host, &cert, FLEET_GUEST);
	part_new("part-w", "vmsig://admin/part-w", &cert);
	sees(host, &cert, OTHER);
	part_new("part-l", "vmsig://admin/part-l", &cert);
	sees(host, &cert, NULL);
}

/* What is beside the guests, and is not for tenants. */
static void only_guests(const Vmsig__FleetView *view)
{
	assert_string_equal(view->name, "test");
	assert_string_equal(view->host, "host1");
	assert_string_equal(view->etcd, "");
	assert_string_equal(view->version, "");
	assert_string_equal(view->problem, "");
	for (size_t i = 0; i < view->n_guests; i++)
		assert_int_equal(view->guests[i]->token, 0);
}

static void tenant_sees(
	struct fleet_host *host, const struct pki_cert *who, const char *here, const char *away)
{
	Vmsig__AdminMessage *message = ask_tenant(host, who, true);
	const Vmsig__FleetView *view = message->fleet_view;
	const Vmsig__FleetGuest *guest;

	only_guests(view);
	assert_int_equal(view->n_guests, (here ? 1u : 0u) + (away ? 1u : 0u));
	guest = here ? find(view, here) : NULL;
	assert_true(!here || guest);
	if (guest) {
		assert_string_equal(guest->endpoint, "vm");
		assert_string_equal(guest->state, "OWNED");
		assert_string_equal(guest->holder, "host1");
		assert_int_not_equal(guest->present, 0);
		assert_true(guest->present <= guest->epoch);
	}
	guest = away ? find(view, away) : NULL;
	assert_true(!away || guest);
	if (guest) {
		assert_string_equal(guest->endpoint, "");
		assert_string_equal(guest->name, "web");
		assert_string_equal(guest->holder, "host2");
		assert_int_equal(guest->present, 0);
	}
	vmsig__admin_message__free_unpacked(message, NULL);
}

/* The lease of the other host's guest, which is alice's. */
static void tenant_sees_lease(
	struct fleet_host *host, const struct pki_cert *who, bool lease, const char *tenant)
{
	Vmsig__AdminMessage *message = ask_tenant(host, who, true);
	const Vmsig__FleetGuest *guest = find(message->fleet_view, OTHER);

	assert_non_null(guest);
	assert_int_equal(guest->n_leases, lease);
	if (lease) {
		assert_int_not_equal(guest->leases[0]->lease, 0);
		assert_string_equal(guest->leases[0]->tenant, tenant);
		assert_int_equal(guest->leases[0]->uid, tenant[0] ? getuid() : 0);
	}
	vmsig__admin_message__free_unpacked(message, NULL);
}

/* What has an endpoint here is seen by that alone; what has none, by what the policy says of the
 * fleet, and without that not at all. */
static void tenants_see_what_their_policy_names(void)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	Vmsig__AdminMessage *message;
	struct pki_cert none, far, bob;

	part_new("none", "vmsig://sensor/none", &none);
	part_new("far", "vmsig://sensor/far", &far);
	part_new("bob", "vmsig://operator/bob", &bob);
	/* It may see each endpoint here, and hears nothing of others. */
	tenant_sees(host, &host->sensor, FLEET_GUEST, NULL);
	/* Names of other hosts do not show what is hidden here, nor the other way round. */
	tenant_sees(host, &none, NULL, NULL);
	tenant_sees(host, &far, FLEET_GUEST, OTHER);
	tenant_sees(host, &bob, NULL, OTHER);
	message = ask_tenant(host, &far, false);
	assert_int_equal(message->fleet_view->n_guests, 1);
	assert_false(message->fleet_view->alone);
	vmsig__admin_message__free_unpacked(message, NULL);
	(void)lease_of_web(&client);
	tenant_sees_lease(host, &far, false, "");
	tenant_sees_lease(host, &bob, true, "");
	tenant_sees_lease(host, &host->operator, true, "alice");
	write_client_close(&client);
}

/* One question at a time is a connection's, and who asks without an end waits, but gets its
 * answers; a question that is waited for no more harms nobody. */
static void questions_are_bounded(void)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	struct fleet_host *host = &fleet_scene.hosts[0];
	struct write_client client;
	unsigned answers = 0, refusals = 0;

	body.whole = true;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	cluster_signal(fleet_scene.cluster, 0, SIGSTOP);
	write_client_open(&client, host->daemon, "ctx.sock", &host->sensor);
	for (unsigned i = 0; i < 3; i++)
		write_client_send_admin(&client, &request);
	for (unsigned i = 0; i < 3; i++) {
		Vmsig__AdminMessage *message = write_client_receive_admin(&client);

		assert_non_null(message);
		if (message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR) {
			assert_int_equal(message->error->code, VMSIG_ERR_QUOTA);
			refusals++;
		} else {
			assert_true(message->fleet_view->alone);
			answers++;
		}
		vmsig__admin_message__free_unpacked(message, NULL);
	}
	assert_int_equal(answers, 1);
	assert_int_equal(refusals, 2);
	write_client_send_admin(&client, &request);
	write_client_close(&client);
	cluster_signal(fleet_scene.cluster, 0, SIGCONT);
	for (unsigned i = 0; i < 12; i++) {
		Vmsig__AdminMessage *message = ask_tenant(host, &host->sensor, true);

		assert_int_equal(message->fleet_view->n_guests, 1);
		vmsig__admin_message__free_unpacked(message, NULL);
	}
}

static void await_state(struct fleet_host *host, const char *uuid, const char *state)
{
	bool reached = false;

	for (unsigned waited = 0; !reached; waited += PAUSE_MS) {
		Vmsig__AdminMessage *message = ask(host, &host->admin, true);
		const Vmsig__FleetGuest *guest = find(message->fleet_view, uuid);

		reached = guest ? strcmp(guest->state, state) == 0 : !*state;
		if (!reached && waited > DAEMON_WAIT_MS)
			fail_msg("it is %s and not %s", guest ? guest->state : "gone", state);
		vmsig__admin_message__free_unpacked(message, NULL);
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000l}, NULL);
	}
}

static void what_becomes_of_a_host_is_seen(void)
{
	struct fleet_host *hosts = fleet_scene.hosts;

	daemon_stop(hosts[1].daemon, SIGKILL);
	await_state(&hosts[0], OTHER, "SILENT");
	daemon_start(hosts[1].daemon);
	await_state(&hosts[0], OTHER, "FOREIGN");
	/* What was given up nobody has. */
	assert_int_equal(daemon_stop(hosts[1].daemon, SIGTERM), 0);
	await_state(&hosts[0], OTHER, "");
}

static void without_etcd_a_host_says_that_it_is_alone(void)
{
	struct fleet_host *host = &fleet_scene.hosts[0];
	Vmsig__AdminMessage *message;

	cluster_signal(fleet_scene.cluster, 0, SIGSTOP);
	message = ask(host, &host->admin, true);
	assert_true(message->fleet_view->alone);
	assert_int_equal(message->fleet_view->n_guests, 1);
	assert_string_equal(message->fleet_view->guests[0]->uuid, FLEET_GUEST);
	vmsig__admin_message__free_unpacked(message, NULL);
	cluster_signal(fleet_scene.cluster, 0, SIGCONT);
}

/* One after another, as it takes some seconds until hosts have their guests. */
static void the_whole_fleet_is_seen_from_one_host(void **state)
{
	(void)state;
	start();
	guests_of_all_hosts_with_their_leases();
	the_policy_of_the_host_that_is_asked_applies();
	tenants_see_what_their_policy_names();
	questions_are_bounded();
	without_etcd_a_host_says_that_it_is_alone();
	what_becomes_of_a_host_is_seen();
	assert_int_equal(daemon_stop(fleet_scene.hosts[0].daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_whole_fleet_is_seen_from_one_host, setup, fleet_scene_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
