/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two brokers as two hosts, one guest's identity on both, and a real etcd between them: one of them
 * writes, and none when it cannot be known which.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/cluster.h"
#include "tests/support/write_client.h"
#include "vmsig/vmsig_error.h"

#define RAM (1u << 20)
#define SHORT 6000u  /* ms */
#define LONG 300000u /* longer than the test */
#define ADDRESS 0x4000u
#define OURS "this host has the guest"
#define GUEST "6f1f2c1e-0000-4000-8000-0000000000aa"

struct host {
	struct daemon *daemon;
	struct pki_cert operator, admin, etcd;
	uint64_t sequence;
};

static struct fleet_stage {
	struct pki *pki; /* of etcd */
	struct cluster *cluster;
	struct host hosts[2];
} stage;

/* ---- hosts ---- */

#define ENDPOINT(name)                                                                             \
	"{name: " name ", adapter: file, path: " name ".ram, low: 1MiB, kcr3: 0x2000,\n"           \
	"     writable: yes, uuid: " GUEST "}"

static void host_configure(struct host *host, unsigned number, const char *endpoint)
{
	daemon_configure(host->daemon,
		"fleet: {name: test, host: host%u, etcd: ['%s'], ca: %s, cert: %s, key: %s,\n"
		"        ttl: 5s, margin: 100ms, timeout: 1s, allow_old_etcd: yes}\n"
		"endpoints:\n"
		"  - %s\n"
		"tenants:\n"
		"  - {name: alice, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     write: [{endpoints: ['*'], ttl_max: 300s}]}\n"
		"  - {name: root, role: admin, uids: [%u], endpoints: ['*']}\n",
		number, cluster_url(stage.cluster, 0), pki_ca(stage.pki), host->etcd.cert,
		host->etcd.key, endpoint, getuid(), getuid());
}

static void host_new(struct host *host, unsigned number)
{
	const struct pki_request plain = {0};
	char name[16];

	host->daemon = daemon_new();
	snprintf(name, sizeof(name), "host%u", number);
	pki_issue(stage.pki, name, &plain, &host->etcd);
	pki_issue_uri(daemon_pki(host->daemon), "alice", "vmsig://operator/alice", &host->operator);
	pki_issue_uri(daemon_pki(host->daemon), "root", "vmsig://admin/root", &host->admin);
	daemon_ram(host->daemon, "vm", RAM);
	host_configure(host, number, ENDPOINT("vm"));
}

static int setup(void **state)
{
	(void)state;
	memset(&stage, 0, sizeof(stage));
	stage.pki = pki_new();
	stage.cluster = cluster_new(1, stage.pki);
	host_new(&stage.hosts[0], 1);
	host_new(&stage.hosts[1], 2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++)
		daemon_free(stage.hosts[i].daemon);
	cluster_free(stage.cluster);
	pki_free(stage.pki);
	return 0;
}

/* What the guest of this host has in its memory. */
static uint64_t word_of(const struct host *host)
{
	uint64_t word = 0;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/vm.ram", daemon_dir(host->daemon));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &word, sizeof(word), ADDRESS), sizeof(word));
	close(fd);
	return word;
}

static void client_open(struct write_client *client, struct host *host)
{
	write_client_open(client, host->daemon, "write.sock", &host->operator);
}

/* Whoever takes over waits for the last lease's TTL too. */
static uint64_t ask(struct write_client *client, uint32_t ttl_ms)
{
	return write_client_ask(client, "vm", 0, 0, ttl_ms, 0, true);
}

static int put(struct write_client *client, struct host *host, const struct write_lease *lease,
	uint64_t word)
{
	return write_client_put(client, lease, ++host->sequence, ADDRESS, word);
}

/* The answer to a request; what is told of leases beside it is skipped. */
static Vmsig__WriteMessage *answer_to(struct write_client *client, uint64_t id)
{
	Vmsig__WriteMessage *message = write_client_receive(client);

	while (message && message->request_id != id) {
		write_client_free_message(message);
		message = write_client_receive(client);
	}
	assert_non_null(message);
	return message;
}

/* The refusal of a request for a lease: its code, and that it says these words. */
static void refused_at(
	struct write_client *client, const char *endpoint, int code, const char *words)
{
	uint64_t id = write_client_ask(client, endpoint, 0, 0, SHORT, 0, true);
	Vmsig__WriteMessage *message = answer_to(client, id);

	assert_int_equal(message->body_case, VMSIG__WRITE_MESSAGE__BODY_ERROR);
	assert_string_equal(vmsig_error_name((int)message->error->code), vmsig_error_name(code));
	if (!strstr(message->error->detail, words))
		fail_msg("'%s' does not say '%s'", message->error->detail, words);
	write_client_free_message(message);
}

static void refused(struct write_client *client, int code, const char *words)
{
	refused_at(client, "vm", code, words);
}

static void both_start(void)
{
	struct host *hosts = stage.hosts;

	daemon_start(hosts[0].daemon);
	daemon_await_log(hosts[0].daemon, OURS, 1);
	daemon_start(hosts[1].daemon);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 1);
}

static struct write_lease acquire(struct write_client *client, uint32_t ttl_ms)
{
	ask(client, ttl_ms);
	return write_client_granted(client);
}

/* ---- administrators ---- */

/* What the host's broker says of its guest; the connection stays open for it. */
static void view_is(struct host *host, const char *state, const char *holder)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	struct write_client client;
	Vmsig__AdminMessage *message;

	write_client_open(&client, host->daemon, "admin.sock", &host->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	write_client_send_admin(&client, &request);
	message = write_client_receive_admin(&client);
	assert_non_null(message);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW);
	assert_string_equal(message->fleet_view->name, "test");
	assert_int_equal(message->fleet_view->n_guests, 1);
	assert_string_equal(message->fleet_view->guests[0]->uuid, GUEST);
	assert_string_equal(message->fleet_view->guests[0]->state, state);
	assert_string_equal(message->fleet_view->guests[0]->holder, holder);
	assert_int_equal(message->fleet_view->guests[0]->right_ms != 0, !strcmp(state, "OWNED"));
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&client);
}

/* The answer's error, 0: it was done. */
static int bump(struct host *host)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetBump body = VMSIG__FLEET_BUMP__INIT;
	struct write_client client;
	Vmsig__AdminMessage *message;
	int code = 0;

	write_client_open(&client, host->daemon, "admin.sock", &host->admin);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_BUMP;
	request.fleet_bump = &body;
	write_client_send_admin(&client, &request);
	message = write_client_receive_admin(&client);
	assert_non_null(message);
	if (message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR)
		code = (int)message->error->code;
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&client);
	return code;
}

/* ---- one of them ---- */

static void the_second_is_refused_and_takes_over_from_the_dead(void **state)
{
	struct host *hosts = stage.hosts;
	struct write_client first, second;
	struct write_lease old, new;

	(void)state;
	both_start();
	client_open(&first, &hosts[0]);
	old = acquire(&first, SHORT);
	assert_int_equal(put(&first, &hosts[0], &old, 11), 0);
	assert_int_equal(word_of(&hosts[0]), 11);
	client_open(&second, &hosts[1]);
	refused(&second, VMSIG_ERR_BUSY, "host1");
	assert_int_equal(daemon_log_count(hosts[1].daemon, OURS), 0);
	view_is(&hosts[0], "OWNED", "host1");
	view_is(&hosts[1], "FOREIGN", "host1");
	assert_int_equal(bump(&hosts[0]), VMSIG_ERR_BAD_REQUEST);
	write_client_close(&first);
	daemon_stop(hosts[0].daemon, SIGKILL);
	daemon_await_log(hosts[1].daemon, OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	new = acquire(&second, LONG);
	/* Nobody who looks at both can take the old one for the newer. */
	assert_true(new.token > old.token);
	assert_true(new.epoch > old.epoch);
	assert_int_equal(put(&second, &hosts[1], &new, 22), 0);
	assert_int_equal(word_of(&hosts[1]), 22);
	/* Back again, it is the other's. */
	daemon_start(hosts[0].daemon);
	daemon_await_log(hosts[0].daemon, "endpoint ready", 2);
	client_open(&first, &hosts[0]);
	refused(&first, VMSIG_ERR_BUSY, "");
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

/* One that ends well is not waited for. */
static void who_leaves_gives_up(void **state)
{
	struct host *hosts = stage.hosts;
	struct write_client second;
	struct write_lease lease;

	(void)state;
	both_start();
	assert_int_equal(daemon_stop(hosts[0].daemon, SIGTERM), 0);
	assert_int_equal(daemon_log_count(hosts[0].daemon, "the guest was given up"), 1);
	daemon_await_log(hosts[1].daemon, OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	client_open(&second, &hosts[1]);
	lease = acquire(&second, LONG);
	assert_int_equal(put(&second, &hosts[1], &lease, 33), 0);
	write_client_close(&second);
	assert_int_equal(daemon_stop(hosts[1].daemon, SIGTERM), 0);
}

static void endpoint_add(struct host *host, const char *yaml)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__EndpointAdd body = VMSIG__ENDPOINT_ADD__INIT;
	struct write_client client;
	Vmsig__AdminMessage *message;

	write_client_open(&client, host->daemon, "admin.sock", &host->admin);
	body.yaml = (char *)(uintptr_t)yaml;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_ADD;
	request.endpoint_add = &body;
	write_client_send_admin(&client, &request);
	message = write_client_receive_admin(&client);
	assert_non_null(message);
	assert_int_not_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_ERROR);
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&client);
}

/* As when a guest gets another name, and begins under it before it has ended under the old one. */
static void the_next_endpoint_of_a_guest_waits_for_the_first(void **state)
{
	struct host *host = &stage.hosts[0];
	struct write_client client;
	struct write_lease lease;

	(void)state;
	daemon_ram(host->daemon, "next", RAM);
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, OURS, 1);
	endpoint_add(host, ENDPOINT("next"));
	daemon_await_log(host->daemon, "another endpoint of this host is the same guest", 1);
	daemon_await_log(host->daemon, "endpoint ready", 2);
	client_open(&client, host);
	refused_at(&client, "next", VMSIG_ERR_BUSY, "");
	host_configure(host, 1, ENDPOINT("next"));
	kill(daemon_pid(host->daemon), SIGHUP);
	daemon_await_log(host->daemon, OURS, 2);
	daemon_await_log(host->daemon, "endpoint ready", 3);
	write_client_ask(&client, "next", 0, 0, SHORT, 0, true);
	lease = write_client_granted(&client);
	assert_int_equal(put(&client, host, &lease, 44), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

/* ---- nobody, when it is not known ---- */

static void one_that_stood_still_writes_nothing_afterwards(void **state)
{
	struct host *hosts = stage.hosts;
	struct write_client first, second;
	struct write_lease old, new;
	const uint64_t late = 99;
	uint64_t id;

	(void)state;
	both_start();
	client_open(&first, &hosts[0]);
	old = acquire(&first, SHORT);
	assert_int_equal(put(&first, &hosts[0], &old, 11), 0);
	kill(daemon_pid(hosts[0].daemon), SIGSTOP);
	id = write_client_write(
		&first, &old, ++hosts[0].sequence, ADDRESS, &late, sizeof(late), NULL);
	daemon_await_log(hosts[1].daemon, OURS, 1);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 2);
	client_open(&second, &hosts[1]);
	new = acquire(&second, LONG);
	assert_int_equal(put(&second, &hosts[1], &new, 22), 0);
	kill(daemon_pid(hosts[0].daemon), SIGCONT);
	assert_int_not_equal(write_client_answer(&first, id), 0);
	assert_int_equal(word_of(&hosts[0]), 11);
	assert_int_equal(put(&second, &hosts[1], &new, 23), 0);
	daemon_await_log(hosts[0].daemon, "not this host's any more", 1);
	refused(&first, VMSIG_ERR_BUSY, "");
	write_client_close(&first);
	write_client_close(&second);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(daemon_stop(hosts[i].daemon, SIGTERM), 0);
}

static void without_etcd_writes_stop_and_go_on_with_it(void **state)
{
	struct host *host = &stage.hosts[0];
	struct write_client client;
	struct write_lease lease;
	int r;

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, OURS, 1);
	client_open(&client, host);
	lease = acquire(&client, LONG);
	assert_int_equal(put(&client, host, &lease, 11), 0);
	cluster_signal(stage.cluster, 0, SIGKILL);
	daemon_await_log(host->daemon, "cut off from the fleet's etcd", 1);
	assert_int_equal(put(&client, host, &lease, 12), VMSIG_ERR_BUSY);
	assert_int_equal(word_of(host), 11);
	refused(&client, VMSIG_ERR_BUSY, "etcd");
	cluster_restart(stage.cluster, 0, false);
	daemon_await_log(host->daemon, "writes go on", 1);
	r = put(&client, host, &lease, 13);
	assert_string_equal(vmsig_error_name(r), "OK");
	assert_int_equal(word_of(host), 13);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

/* As one that was restored from a snapshot: what is said in it is not believed. */
static void another_etcd_makes_nobody_write_until_somebody_says_so(void **state)
{
	struct host *host = &stage.hosts[0];
	struct write_client client;
	struct write_lease old, new;

	(void)state;
	daemon_start(host->daemon);
	daemon_await_log(host->daemon, OURS, 1);
	client_open(&client, host);
	old = acquire(&client, SHORT);
	assert_int_equal(put(&client, host, &old, 11), 0);
	cluster_signal(stage.cluster, 0, SIGKILL);
	cluster_restart(stage.cluster, 0, true);
	daemon_await_log(host->daemon, "the fleet is frozen", 1);
	daemon_await_log(host->daemon, "cut off from the fleet's etcd", 1);
	refused(&client, VMSIG_ERR_BUSY, "frozen");
	assert_int_equal(bump(host), 0);
	daemon_await_log(host->daemon, "an operator has bumped it", 1);
	daemon_await_log(host->daemon, OURS, 2);
	daemon_await_log(host->daemon, "endpoint ready", 2);
	write_client_close(&client);
	client_open(&client, host);
	new = acquire(&client, SHORT);
	assert_true(new.token > old.token);
	assert_true(new.epoch > old.epoch);
	assert_int_equal(put(&client, host, &new, 12), 0);
	write_client_close(&client);
	assert_int_equal(daemon_stop(host->daemon, SIGTERM), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_second_is_refused_and_takes_over_from_the_dead, setup, teardown),
		cmocka_unit_test_setup_teardown(who_leaves_gives_up, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_next_endpoint_of_a_guest_waits_for_the_first, setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_that_stood_still_writes_nothing_afterwards, setup, teardown),
		cmocka_unit_test_setup_teardown(
			without_etcd_writes_stop_and_go_on_with_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			another_etcd_makes_nobody_write_until_somebody_says_so, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
