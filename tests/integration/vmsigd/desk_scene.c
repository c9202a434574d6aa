/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/vmsigd/desk_scene.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/chain/auditchain.h"

void desk_scene_configure(struct desk_scene *scene, const char *limits, const char *alice_rule)
{
	static const char endpoint[] = "adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms";

	daemon_configure(scene->daemon,
		"limits: %s\n"
		"endpoints:\n"
		"  - {name: w1, path: w1.ram, writable: yes, %s}\n"
		"  - {name: w2, path: w2.ram, writable: yes, %s}\n"
		"  - {name: r1, path: r1.ram, %s}\n"
		"tenants:\n"
		"  - {name: alice, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     write: [{endpoints: ['*'], %s}]}\n"
		"  - {name: bob, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     write: [{endpoints: ['*'], priority_max: 9, wait_max: 20s}]}\n"
		"  - {name: carol, role: operator, uids: [%u], endpoints: [w2],\n"
		"     write: [{endpoints: ['*'], ranges: [{gpa: 64KiB, len: 64KiB}],\n"
		"              keep_bytes: yes}]}\n"
		"  - {name: root, role: admin, uids: [%u], endpoints: ['*']}\n",
		limits, endpoint, endpoint, endpoint, getuid(), alice_rule, getuid(), getuid(),
		getuid());
}

void desk_scene_start(struct desk_scene *scene)
{
	unsigned before = daemon_log_count(scene->daemon, "endpoint ready");

	daemon_start(scene->daemon);
	daemon_await_log(scene->daemon, "endpoint ready", before + 3);
	scene->fds = daemon_fds(scene->daemon);
}

int desk_scene_setup(void **state)
{
	struct desk_scene *scene = calloc(1, sizeof(*scene));
	struct pki *pki;

	assert_non_null(scene);
	scene->daemon = daemon_new();
	pki = daemon_pki(scene->daemon);
	pki_issue_uri(pki, "alice", "vmsig://operator/alice", &scene->alice);
	pki_issue_uri(pki, "bob", "vmsig://operator/bob", &scene->bob);
	pki_issue_uri(pki, "carol", "vmsig://operator/carol", &scene->carol);
	pki_issue_uri(pki, "root", "vmsig://admin/root", &scene->admin);
	daemon_ram(scene->daemon, "w1", DESK_RAM);
	daemon_ram(scene->daemon, "w2", DESK_RAM);
	daemon_ram(scene->daemon, "r1", DESK_RAM);
	desk_scene_configure(scene, "{}", "leases: 16");
	desk_scene_start(scene);
	*state = scene;
	return 0;
}

static void check_end(struct desk_scene *scene, int signal)
{
	int code = daemon_stop(scene->daemon, signal);

	if (signal == SIGTERM && code)
		fail_msg("vmsigd did not end well; its log:\n%s", daemon_log(scene->daemon));
	if (strstr(daemon_log(scene->daemon), "Sanitizer"))
		fail_msg("%s", daemon_log(scene->daemon));
}

int desk_scene_teardown(void **state)
{
	struct desk_scene *scene = *state;

	daemon_await_fds(scene->daemon, scene->fds);
	check_end(scene, SIGTERM);
	daemon_free(scene->daemon);
	free(scene);
	return 0;
}

void desk_scene_restart(struct desk_scene *scene, int signal)
{
	check_end(scene, signal);
	desk_scene_start(scene);
}

void desk_scene_reload(struct desk_scene *scene)
{
	unsigned before = daemon_log_count(scene->daemon, "configuration reloaded");

	kill(daemon_pid(scene->daemon), SIGHUP);
	daemon_await_log(scene->daemon, "configuration reloaded", before + 1);
}

void desk_scene_wait_long(struct desk_scene *scene)
{
	desk_scene_configure(scene, "{resume_grace: 1h}", "ttl_max: 1h");
	desk_scene_reload(scene);
}

/* ---- the guest's side ---- */

static int ram_open(struct desk_scene *scene, const char *endpoint)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.ram", daemon_dir(scene->daemon), endpoint);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

void desk_scene_read(
	struct desk_scene *scene, const char *endpoint, uint64_t addr, void *buf, size_t len)
{
	int fd = ram_open(scene, endpoint);

	assert_int_equal(pread(fd, buf, len, (off_t)addr), len);
	close(fd);
}

void desk_scene_poke(
	struct desk_scene *scene, const char *endpoint, uint64_t addr, const void *data, size_t len)
{
	int fd = ram_open(scene, endpoint);

	assert_int_equal(pwrite(fd, data, len, (off_t)addr), len);
	close(fd);
}

void desk_scene_reset(struct desk_scene *scene, const char *endpoint)
{
	unsigned before = daemon_log_count(scene->daemon, "endpoint ready");
	char from[PATH_MAX], to[PATH_MAX], other[64];

	snprintf(other, sizeof(other), "%s-next", endpoint);
	daemon_ram(scene->daemon, other, DESK_RAM);
	snprintf(from, sizeof(from), "%s/%s.ram", daemon_dir(scene->daemon), other);
	snprintf(to, sizeof(to), "%s/%s.ram", daemon_dir(scene->daemon), endpoint);
	assert_int_equal(rename(from, to), 0);
	daemon_await_log(scene->daemon, "endpoint ready", before + 1);
}

/* ---- the audit log ---- */

static Vmsig__AdminMessage *audit_page(struct write_client *admin, uint64_t after)
{
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__AuditQuery query = VMSIG__AUDIT_QUERY__INIT;
	Vmsig__AdminMessage *message;

	query.after = after;
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_AUDIT_QUERY;
	request.audit_query = &query;
	write_client_send_admin(admin, &request);
	message = write_client_receive_admin(admin);
	assert_non_null(message);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_AUDIT_ROWS);
	return message;
}

static unsigned count_page(const Vmsig__AuditRows *rows, struct auditchain *chain,
	Vmsig__AuditRecord__Kind kind, Vmsig__AuditRecord **newest, uint64_t *ret_last)
{
	unsigned count = 0;

	for (size_t i = 0; i < rows->n_rows; i++) {
		const Vmsig__AuditRow *row = rows->rows[i];
		Vmsig__AuditRecord *record =
			vmsig__audit_record__unpack(NULL, row->body.len, row->body.data);

		assert_non_null(record);
		assert_int_equal(row->hash.len, AUDITCHAIN_HASH);
		if (auditchain_add(chain, row->id, row->body.data, row->body.len, row->hash.data))
			fail_msg("the audit log is broken: %s", auditchain_error(chain));
		*ret_last = row->id;
		if (record->kind != kind) {
			vmsig__audit_record__free_unpacked(record, NULL);
			continue;
		}
		count++;
		if (*newest)
			vmsig__audit_record__free_unpacked(*newest, NULL);
		*newest = record;
	}
	return count;
}

unsigned desk_scene_audit(
	struct desk_scene *scene, Vmsig__AuditRecord__Kind kind, Vmsig__AuditRecord **ret_newest)
{
	Vmsig__AuditRecord *newest = NULL;
	uint8_t head[AUDITCHAIN_HASH];
	struct auditchain chain;
	struct write_client admin;
	uint64_t last = 0, before, id;
	unsigned count = 0;

	assert_int_equal(auditchain_init(&chain), 0);
	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	do {
		Vmsig__AdminMessage *message = audit_page(&admin, last);

		/* What retention has left begins after the anchor. */
		if (!last && message->audit_rows->first > 1)
			auditchain_start(&chain, message->audit_rows->first - 1,
				message->audit_rows->anchor.data);
		before = last;
		count += count_page(message->audit_rows, &chain, kind, &newest, &last);
		vmsig__admin_message__free_unpacked(message, NULL);
	} while (last != before);
	write_client_close(&admin);
	assert_int_equal(auditchain_finish(&chain, &id, head), 0);
	auditchain_deinit(&chain);
	if (ret_newest)
		*ret_newest = newest;
	else if (newest)
		vmsig__audit_record__free_unpacked(newest, NULL);
	return count;
}
