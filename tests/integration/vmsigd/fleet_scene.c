/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/fleet_scene.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fleet_stage fleet_scene;

/* ---- hosts ---- */

static void list_members(const struct fleet_host *host, char list[static CLUSTER_MAX * 64])
{
	size_t len = 0;

	list[0] = '\0';
	if (host->way.pid) {
		snprintf(list, (size_t)CLUSTER_MAX * 64, "'https://127.0.0.1:%u'", host->way.port);
		return;
	}
	for (unsigned i = 0; i < fleet_scene.members; i++)
		len += (size_t)snprintf(list + len, (size_t)CLUSTER_MAX * 64 - len, "%s'%s'",
			i ? ", " : "", cluster_url(fleet_scene.cluster, i));
}

void fleet_scene_configure(struct fleet_host *host, unsigned number, const char *endpoint)
{
	char members[CLUSTER_MAX * 64];

	list_members(host, members);
	daemon_configure(host->daemon,
		"fleet: {name: test, host: host%u, etcd: [%s], ca: %s, cert: %s, key: %s,\n"
		"        ttl: %s, margin: 100ms, timeout: 1s, allow_old_etcd: yes}\n"
		"endpoints:\n"
		"  - %s\n"
		"tenants:\n"
		"  - {name: alice, role: operator, uids: [%u], endpoints: ['*'], fleet: ['*'],\n"
		"     write: [{endpoints: ['*'], ttl_max: 300s}]}\n"
		"  - {name: acme, role: sensor, uids: [%u], endpoints: ['*']}\n"
		"  - {name: root, role: admin, uids: [%u], endpoints: ['*']}\n"
		"%s",
		number, members, pki_ca(fleet_scene.pki), host->etcd.cert, host->etcd.key,
		fleet_scene.ttl, endpoint, getuid(), getuid(), getuid(),
		fleet_scene.tenants ? fleet_scene.tenants : "");
}

static void host_new(struct fleet_host *host, unsigned number)
{
	const struct pki_request plain = {0};
	char name[16];

	host->daemon = daemon_new();
	snprintf(name, sizeof(name), "host%u", number);
	pki_issue(fleet_scene.pki, name, &plain, &host->etcd);
	pki_issue_uri(daemon_pki(host->daemon), "alice", "vmsig://operator/alice", &host->operator);
	pki_issue_uri(daemon_pki(host->daemon), "acme", "vmsig://sensor/acme", &host->sensor);
	pki_issue_uri(daemon_pki(host->daemon), "root", "vmsig://admin/root", &host->admin);
	daemon_ram(host->daemon, "vm", FLEET_RAM);
	fleet_scene_configure(host, number, FLEET_ENDPOINT("vm"));
}

void fleet_scene_begin(unsigned members, const char *ttl)
{
	memset(&fleet_scene, 0, sizeof(fleet_scene));
	fleet_scene.members = members;
	fleet_scene.ttl = ttl;
	fleet_scene.pki = pki_new();
	fleet_scene.cluster = cluster_new(members, fleet_scene.pki);
	host_new(&fleet_scene.hosts[0], 1);
	host_new(&fleet_scene.hosts[1], 2);
}

int fleet_scene_setup(void **state)
{
	(void)state;
	fleet_scene_begin(1, "5s");
	return 0;
}

int fleet_scene_teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		daemon_free(fleet_scene.hosts[i].daemon);
		relay_end(&fleet_scene.hosts[i].way);
	}
	cluster_free(fleet_scene.cluster);
	pki_free(fleet_scene.pki);
	return 0;
}

uint64_t fleet_scene_word(const struct fleet_host *host)
{
	uint64_t word = 0;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/vm.ram", daemon_dir(host->daemon));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &word, sizeof(word), FLEET_ADDRESS), sizeof(word));
	close(fd);
	return word;
}

void fleet_scene_open(struct write_client *client, struct fleet_host *host)
{
	write_client_open(client, host->daemon, "write.sock", &host->operator);
}

uint64_t fleet_scene_ask(struct write_client *client, uint32_t ttl_ms)
{
	return write_client_ask(client, "vm", 0, 0, ttl_ms, 0, true);
}

int fleet_scene_put(struct write_client *client, struct fleet_host *host,
	const struct write_lease *lease, uint64_t word)
{
	return write_client_put(client, lease, ++host->sequence, FLEET_ADDRESS, word);
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

void fleet_scene_refused_at(
	struct write_client *client, const char *endpoint, int code, const char *words)
{
	uint64_t id = write_client_ask(client, endpoint, 0, 0, FLEET_SHORT, 0, true);
	Vmsig__WriteMessage *message = answer_to(client, id);

	assert_int_equal(message->body_case, VMSIG__WRITE_MESSAGE__BODY_ERROR);
	assert_string_equal(vmsig_error_name((int)message->error->code), vmsig_error_name(code));
	if (!strstr(message->error->detail, words))
		fail_msg("'%s' does not say '%s'", message->error->detail, words);
	write_client_free_message(message);
}

void fleet_scene_refused(struct write_client *client, int code, const char *words)
{
	fleet_scene_refused_at(client, "vm", code, words);
}

void fleet_scene_start(void)
{
	struct fleet_host *hosts = fleet_scene.hosts;

	daemon_start(hosts[0].daemon);
	daemon_await_log(hosts[0].daemon, FLEET_OURS, 1);
	daemon_start(hosts[1].daemon);
	daemon_await_log(hosts[1].daemon, "endpoint ready", 1);
}

struct write_lease fleet_scene_acquire(struct write_client *client, uint32_t ttl_ms)
{
	fleet_scene_ask(client, ttl_ms);
	return write_client_granted(client);
}

int fleet_scene_resume(struct write_client *client, const struct write_lease *lease)
{
	Vmsig__LeaseResume body = VMSIG__LEASE_RESUME__INIT;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__WriteMessage *message;
	int code = 0;

	body.lease = lease->id;
	body.token = lease->token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME;
	request.lease_resume = &body;
	message = answer_to(client, write_client_send(client, &request, NULL, 0));
	if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR)
		code = (int)message->error->code;
	else
		assert_int_equal(message->body_case, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO);
	write_client_free_message(message);
	return code;
}

/* ---- administrators ---- */

/* The connection stays open for it. */
Vmsig__AdminMessage *fleet_scene_ask_at(struct fleet_host *host, const char *socket,
	const struct pki_cert *who, Vmsig__AdminRequest *request,
	Vmsig__AdminMessage__BodyCase body)
{
	struct write_client client;
	Vmsig__AdminMessage *message;

	write_client_open(&client, host->daemon, socket, who);
	write_client_send_admin(&client, request);
	message = write_client_receive_admin(&client);
	assert_non_null(message);
	if (body)
		assert_int_equal(message->body_case, body);
	write_client_close(&client);
	return message;
}

Vmsig__AdminMessage *fleet_scene_ask_as(struct fleet_host *host, const struct pki_cert *who,
	Vmsig__AdminRequest *request, Vmsig__AdminMessage__BodyCase body)
{
	return fleet_scene_ask_at(host, "admin.sock", who, request, body);
}

Vmsig__AdminMessage *fleet_scene_ask_admin(
	struct fleet_host *host, Vmsig__AdminRequest *request, Vmsig__AdminMessage__BodyCase body)
{
	return fleet_scene_ask_as(host, &host->admin, request, body);
}

void fleet_scene_view_is(struct fleet_host *host, const char *state, const char *holder)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	Vmsig__AdminMessage *message;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY;
	request.fleet_query = &body;
	message = fleet_scene_ask_admin(host, &request, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW);
	assert_string_equal(message->fleet_view->name, "test");
	assert_int_equal(message->fleet_view->n_guests, 1);
	assert_string_equal(message->fleet_view->guests[0]->uuid, FLEET_GUEST);
	assert_string_equal(message->fleet_view->guests[0]->state, state);
	assert_string_equal(message->fleet_view->guests[0]->holder, holder);
	assert_int_equal(message->fleet_view->guests[0]->right_ms != 0, !strcmp(state, "OWNED"));
	vmsig__admin_message__free_unpacked(message, NULL);
}

int fleet_scene_bump(struct fleet_host *host)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__FleetBump body = VMSIG__FLEET_BUMP__INIT;
	Vmsig__AdminMessage *message;
	int code = 0;

	request.body_case = VMSIG__ADMIN_REQUEST__BODY_FLEET_BUMP;
	request.fleet_bump = &body;
	message = fleet_scene_ask_admin(host, &request, 0);
	if (message->body_case == VMSIG__ADMIN_MESSAGE__BODY_ERROR)
		code = (int)message->error->code;
	vmsig__admin_message__free_unpacked(message, NULL);
	return code;
}

void fleet_scene_recorded(struct fleet_host *host, Vmsig__AuditRecord__Kind kind,
	const char *tenant, char ret_detail[static 256])
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__AuditQuery body = VMSIG__AUDIT_QUERY__INIT;
	Vmsig__AdminMessage *message;
	Vmsig__AuditRecord *record;
	ProtobufCBinaryData bytes;

	body.kinds = 1ull << kind;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_AUDIT_QUERY;
	request.audit_query = &body;
	message = fleet_scene_ask_admin(host, &request, VMSIG__ADMIN_MESSAGE__BODY_AUDIT_ROWS);
	assert_int_equal(message->audit_rows->n_rows, 1);
	bytes = message->audit_rows->rows[0]->body;
	record = vmsig__audit_record__unpack(NULL, bytes.len, bytes.data);
	assert_non_null(record);
	assert_string_equal(record->tenant, tenant);
	snprintf(ret_detail, 256, "%s", record->detail);
	vmsig__audit_record__free_unpacked(record, NULL);
	vmsig__admin_message__free_unpacked(message, NULL);
}

void fleet_scene_add(struct fleet_host *host, const char *yaml)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__EndpointAdd body = VMSIG__ENDPOINT_ADD__INIT;
	Vmsig__AdminMessage *message;

	body.yaml = (char *)(uintptr_t)yaml;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_ADD;
	request.endpoint_add = &body;
	message = fleet_scene_ask_admin(host, &request, 0);
	assert_int_not_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_ERROR);
	vmsig__admin_message__free_unpacked(message, NULL);
}
