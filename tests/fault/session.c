/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/session.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void link_identity(const struct session *session, const char *target, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", session->identity, name);
	assert_int_equal(symlink(target, path), 0);
}

void session_init(
	struct session *session, struct desk_scene *scene, const char *name, int patience_ms)
{
	const char *dir = daemon_dir(scene->daemon);

	memset(session, 0, sizeof(*session));
	snprintf(session->identity, sizeof(session->identity), "%s/session-id", dir);
	assert_int_equal(mkdir(session->identity, 0700), 0);
	link_identity(session, pki_ca(daemon_pki(scene->daemon)), "ca.pem");
	link_identity(session, scene->alice.cert, "cert.pem");
	link_identity(session, scene->alice.key, "key.pem");
	snprintf(session->socket, sizeof(session->socket), "%s/%s", dir, name);
	session->patience_ms = patience_ms;
}

int session_run(const struct session *session, uint64_t word)
{
	const vmsig_options options = {.identity_dir = session->identity,
		.socket_path = session->socket,
		.backoff_min_ms = 2,
		.backoff_max_ms = 20,
		.connect_timeout_ms = (uint32_t)session->patience_ms,
		.request_timeout_ms = (uint32_t)session->patience_ms};
	const vmsig_lease_range range = {.start = SESSION_ADDR, .last = SESSION_ADDR + 7};
	const vmsig_lease_request request = {
		.endpoint = "w1", .ranges = &range, .nranges = 1, .ttl_ms = 60000};
	const vmsig_write_op op = {.addr = SESSION_ADDR, .data = &word, .len = sizeof(word)};
	int wait_ms = 2 * session->patience_ms;
	vmsig_write_result result = {0};
	vmsig_writer *writer;
	vmsig_lease *lease;
	int r = vmsig_writer_open(&writer, &options, NULL, 0);

	if (r)
		return r;
	r = vmsig_lease_acquire_wait(writer, &request, &lease, wait_ms);
	if (!r)
		r = vmsig_write_wait(lease, &op, 1, 0, &result, wait_ms);
	vmsig_write_result_clear(&result);
	if (!r)
		r = vmsig_lease_release_wait(lease, wait_ms);
	vmsig_writer_close(writer);
	return r;
}

uint64_t session_word(struct desk_scene *scene)
{
	uint64_t word;

	desk_scene_read(scene, "w1", SESSION_ADDR, &word, sizeof(word));
	return word;
}

void session_of_another(struct desk_scene *scene, uint64_t word)
{
	struct write_client bob;
	struct write_lease lease;
	uint64_t found;

	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	lease = write_client_acquire(&bob, "w2");
	assert_int_equal(write_client_put(&bob, &lease, 1, SESSION_ADDR, word), 0);
	write_client_close(&bob);
	desk_scene_read(scene, "w2", SESSION_ADDR, &found, sizeof(found));
	assert_int_equal(found, word);
}
