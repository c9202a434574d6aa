/* SPDX-License-Identifier: Apache-2.0 */
/* The library's writer against the real broker: leases, writes, what is told of their ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"
#include "vmsig/vmsig_admin.h"
#include "vmsig/vmsig_write.h"

#define ADDR 0x3000u

static void identity_dir(struct desk_scene *scene, const char *name, const struct pki_cert *cert,
	char dir[static PATH_MAX])
{
	const char *const files[][2] = {{"ca.pem", pki_ca(daemon_pki(scene->daemon))},
		{"cert.pem", cert->cert}, {"key.pem", cert->key}};
	char path[PATH_MAX + 16];

	snprintf(dir, PATH_MAX, "%s/id-%s", daemon_dir(scene->daemon), name);
	if (mkdir(dir, 0700) < 0)
		assert_int_equal(errno, EEXIST);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i][0]);
		if (symlink(files[i][1], path) < 0)
			assert_int_equal(errno, EEXIST);
	}
}

static vmsig_writer *writer_open(
	struct desk_scene *scene, const char *name, const struct pki_cert *cert)
{
	char dir[PATH_MAX], socket[PATH_MAX], error[256] = "";
	const vmsig_options options = {.identity_dir = dir,
		.socket_path = socket,
		.backoff_min_ms = 5,
		.backoff_max_ms = 50};
	vmsig_writer *writer;

	identity_dir(scene, name, cert, dir);
	snprintf(socket, sizeof(socket), "%s/run/write.sock", daemon_dir(scene->daemon));
	if (vmsig_writer_open(&writer, &options, error, sizeof(error)))
		fail_msg("%s", error);
	return writer;
}

static vmsig_lease *acquire(vmsig_writer *writer, uint32_t ttl_ms)
{
	const vmsig_lease_request request = {.endpoint = "w1", .ttl_ms = ttl_ms};
	vmsig_lease *lease;

	if (vmsig_lease_acquire_wait(writer, &request, &lease, DAEMON_WAIT_MS))
		fail_msg("%s", vmsig_writer_last_error(writer));
	return lease;
}

static int write_word(vmsig_lease *lease, uint64_t addr, uint64_t word)
{
	const vmsig_write_op op = {.addr = addr, .data = &word, .len = sizeof(word)};
	vmsig_write_result result;
	int r = vmsig_write_wait(lease, &op, 1, 0, &result, DAEMON_WAIT_MS);

	vmsig_write_result_clear(&result);
	return r;
}

static uint64_t word_at(struct desk_scene *scene, uint64_t addr)
{
	uint64_t word;

	desk_scene_read(scene, "w1", addr, &word, sizeof(word));
	return word;
}

/* Drives the handle until an event of the kind comes, which must be about the lease. */
static vmsig_writer_event await_event(vmsig_writer *writer, uint32_t kind)
{
	vmsig_writer_event event;

	for (;;) {
		int r = vmsig_writer_wait(writer, &event, DAEMON_WAIT_MS);

		if (r)
			fail_msg("no event %u: %s", kind, vmsig_writer_last_error(writer));
		if (event.kind == kind)
			return event;
	}
}

static void a_write_is_applied_and_its_past_is_told(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 0);
	const uint64_t expect = 7, word = 8;
	const vmsig_write_op op = {
		.addr = ADDR, .data = &word, .expect = &expect, .len = sizeof(word)};
	vmsig_write_result result;
	vmsig_lease_info info;

	assert_int_equal(write_word(lease, ADDR, 7), 0);
	assert_int_equal(
		vmsig_write_wait(lease, &op, 1, VMSIG_WRITE_WANT_OLD, &result, DAEMON_WAIT_MS), 0);
	assert_int_equal(result.written, 8);
	assert_int_equal(result.old_len, 8);
	assert_memory_equal(result.old, &expect, 8);
	vmsig_write_result_clear(&result);
	assert_int_equal(
		vmsig_write_wait(lease, &op, 1, VMSIG_WRITE_WANT_OLD, &result, DAEMON_WAIT_MS),
		-VMSIG_ERR_COMPARE_FAILED);
	assert_memory_equal(result.old, &word, 8);
	vmsig_write_result_clear(&result);
	assert_int_equal(word_at(scene, ADDR), 8);
	vmsig_lease_get(lease, &info);
	assert_int_equal(info.phase, VMSIG_LEASE_HELD);
	assert_string_equal(info.endpoint, "w1");
	assert_int_equal(info.ttl_ms, 5000);
	assert_int_equal(vmsig_lease_release_wait(lease, DAEMON_WAIT_MS), 0);
	assert_int_equal(write_word(lease, ADDR, 9), -VMSIG_ERR_NO_LEASE);
	vmsig_writer_close(writer);
}

struct tally {
	unsigned outcomes;
	unsigned unknown; /* the one of which nobody can tell whether it was applied; 0: none is */
	uint64_t last;
};

static void on_outcome(void *arg, const vmsig_write_result *result)
{
	struct tally *tally = arg;

	assert_true(result->sequence > tally->last);
	tally->last = result->sequence;
	tally->outcomes++;
	if (result->outcome == -VMSIG_ERR_UNKNOWN_OUTCOME && !tally->unknown)
		tally->unknown = tally->outcomes;
	else
		assert_int_equal(result->outcome, 0);
}

static void writes_are_pipelined_up_to_the_window(void **state)
{
	enum { N = 500 };
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 0);
	struct tally tally = {0};
	unsigned full = 0;

	for (uint64_t i = 0; i < N;) {
		const uint64_t word = i + 1;
		const vmsig_write_op op = {
			.addr = ADDR + 8 * i, .data = &word, .len = sizeof(word)};
		int r = vmsig_write(lease, &op, 1, 0, on_outcome, &tally);
		struct pollfd pfd = {.fd = vmsig_writer_fd(writer), .events = POLLIN};

		if (r == 0) {
			i++;
			continue;
		}
		assert_int_equal(r, -VMSIG_ERR_BUSY);
		full++;
		assert_int_equal(vmsig_writer_process(writer), 0);
		if (vmsig_writer_deadline(writer) != 0)
			assert_true(poll(&pfd, 1, DAEMON_WAIT_MS) >= 0);
	}
	while (tally.outcomes < N) {
		struct pollfd pfd = {.fd = vmsig_writer_fd(writer), .events = POLLIN};

		assert_int_equal(vmsig_writer_process(writer), 0);
		if (tally.outcomes < N && vmsig_writer_deadline(writer) != 0)
			assert_true(poll(&pfd, 1, DAEMON_WAIT_MS) >= 0);
	}
	assert_true(full > 0);
	assert_int_equal(tally.unknown, 0);
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(word_at(scene, ADDR + 8 * i), i + 1);
	vmsig_writer_close(writer);
}

static void a_driven_lease_is_kept_alive(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 1000);
	vmsig_lease_info before, after;
	vmsig_writer_event event;

	vmsig_lease_get(lease, &before);
	/* Longer than its TTL; what comes is only that we connected. */
	while (vmsig_writer_wait(writer, &event, 1500) == 0)
		assert_int_equal(event.kind, VMSIG_WEV_CONNECTED);
	vmsig_lease_get(lease, &after);
	assert_int_equal(after.phase, VMSIG_LEASE_HELD);
	assert_true(after.deadline > before.deadline);
	assert_int_equal(after.token, before.token);
	assert_int_equal(write_word(lease, ADDR, 1), 0);
	vmsig_writer_close(writer);
}

/* A grant may be under way for long: its time has run since it was asked for. */
static void the_deadline_is_counted_from_the_request(void **state)
{
	const vmsig_lease_request request = {.endpoint = "w1", .ttl_ms = 20000};
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease_info info;
	struct timespec asked;
	vmsig_lease *lease;

	vmsig_lease_free(acquire(writer, 1000));
	assert_int_equal(kill(daemon_pid(scene->daemon), SIGSTOP), 0);
	assert_int_equal(vmsig_lease_acquire(writer, &request, &lease), 0);
	assert_int_equal(vmsig_writer_process(writer), 0);
	clock_gettime(CLOCK_BOOTTIME, &asked);
	usleep(200000);
	assert_int_equal(kill(daemon_pid(scene->daemon), SIGCONT), 0);
	assert_int_equal(await_event(writer, VMSIG_WEV_GRANTED).error, 0);
	vmsig_lease_get(lease, &info);
	vmsig_writer_close(writer);
	assert_true(info.deadline <=
		    asked.tv_sec * 1000000000 + asked.tv_nsec + 20000 * (int64_t)1000000);
}

/* A holder that stood still past its TTL finds that out by itself, before it sends anything. */
static void a_stalled_holder_stops_itself(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 1000);
	vmsig_lease_info info;
	struct timespec now;
	int64_t left;

	vmsig_lease_get(lease, &info);
	clock_gettime(CLOCK_BOOTTIME, &now);
	left = info.deadline - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	assert_true(left > 0 && left <= 1000000000);
	now = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
	while (nanosleep(&now, &now) < 0)
		assert_int_equal(errno, EINTR);
	assert_int_equal(write_word(lease, ADDR, 1), -VMSIG_ERR_LEASE_EXPIRED);
	assert_int_equal(await_event(writer, VMSIG_WEV_LOST).error, -VMSIG_ERR_LEASE_EXPIRED);
	assert_int_equal(word_at(scene, ADDR), 0);
	vmsig_writer_close(writer);
}

static void a_waiting_request_is_granted_in_turn(void **state)
{
	const vmsig_lease_request request = {.endpoint = "w1"};
	struct desk_scene *scene = *state;
	vmsig_writer *alice = writer_open(scene, "alice", &scene->alice);
	vmsig_writer *bob = writer_open(scene, "bob", &scene->bob);
	vmsig_lease *first = acquire(alice, 0), *second;
	const vmsig_lease_request no_wait = {.endpoint = "w1", .no_wait = true};

	assert_int_equal(vmsig_lease_acquire_wait(bob, &no_wait, &second, DAEMON_WAIT_MS),
		-VMSIG_ERR_LEASE_HELD);
	assert_int_equal(vmsig_lease_acquire(bob, &request, &second), 0);
	await_event(bob, VMSIG_WEV_WAITING);
	assert_int_equal(vmsig_lease_release_wait(first, DAEMON_WAIT_MS), 0);
	assert_ptr_equal(await_event(bob, VMSIG_WEV_GRANTED).lease, second);
	assert_int_equal(write_word(second, ADDR, 2), 0);
	/* A request that waits goes with its patience. */
	assert_int_equal(vmsig_lease_acquire_wait(alice, &request, &first, 50), -VMSIG_ERR_TIMEOUT);
	vmsig_writer_close(alice);
	vmsig_writer_close(bob);
}

static void a_notice_and_the_loss_are_told(void **state)
{
	const vmsig_lease_request request = {.endpoint = "w1", .priority = 9};
	struct desk_scene *scene = *state;
	vmsig_writer *alice, *bob;
	vmsig_lease *first, *second;
	vmsig_writer_event event;

	desk_scene_configure(scene, "{preempt_grace: 100ms}", "leases: 16");
	desk_scene_restart(scene, SIGTERM);
	alice = writer_open(scene, "alice", &scene->alice);
	bob = writer_open(scene, "bob", &scene->bob);
	first = acquire(alice, 0);
	assert_int_equal(vmsig_lease_acquire(bob, &request, &second), 0);
	await_event(bob, VMSIG_WEV_WAITING);
	event = await_event(alice, VMSIG_WEV_NOTICE);
	assert_ptr_equal(event.lease, first);
	assert_true(event.revoke_in_ms <= 100);
	event = await_event(alice, VMSIG_WEV_LOST);
	assert_int_equal(event.error, -VMSIG_ERR_LEASE_REVOKED);
	assert_int_equal(write_word(first, ADDR, 1), -VMSIG_ERR_LEASE_REVOKED);
	await_event(bob, VMSIG_WEV_GRANTED);
	vmsig_writer_close(alice);
	vmsig_writer_close(bob);
}

static void a_reset_of_the_guest_ends_the_lease(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 0);

	desk_scene_reset(scene, "w1");
	assert_int_equal(await_event(writer, VMSIG_WEV_LOST).error, -VMSIG_ERR_STALE_EPOCH);
	assert_int_equal(write_word(lease, ADDR, 1), -VMSIG_ERR_STALE_EPOCH);
	vmsig_lease_free(lease);
	lease = acquire(writer, 0);
	assert_int_equal(write_word(lease, ADDR, 1), 0);
	vmsig_writer_close(writer);
}

/* The broker is killed under it: the lease is resumed, and what was under way is settled. */
static void a_killed_broker_costs_nothing(void **state)
{
	enum { N = 40 };
	struct desk_scene *scene = *state;
	vmsig_lease_info before, after;
	struct tally tally = {0};
	vmsig_writer *writer;
	vmsig_lease *lease;

	desk_scene_wait_long(scene);
	writer = writer_open(scene, "alice", &scene->alice);
	lease = acquire(writer, 3600000);
	vmsig_lease_get(lease, &before);
	for (uint64_t i = 0; i < N; i++) {
		const uint64_t word = i + 1;
		const vmsig_write_op op = {
			.addr = ADDR + 8 * i, .data = &word, .len = sizeof(word)};

		assert_int_equal(vmsig_write(lease, &op, 1, 0, on_outcome, &tally), 0);
	}
	/* They are on their way, and the broker may have done some of them. */
	assert_int_equal(vmsig_writer_process(writer), 0);
	desk_scene_restart(scene, SIGKILL);
	await_event(writer, VMSIG_WEV_RESUMED);
	while (tally.outcomes < N) {
		struct pollfd pfd = {.fd = vmsig_writer_fd(writer), .events = POLLIN};

		assert_int_equal(vmsig_writer_process(writer), 0);
		if (tally.outcomes < N && vmsig_writer_deadline(writer) != 0)
			assert_true(poll(&pfd, 1, DAEMON_WAIT_MS) >= 0);
	}
	vmsig_lease_get(lease, &after);
	assert_int_equal(after.token, before.token);
	/* Bytes of one, and no more, may have been on their way when the broker was killed. */
	for (uint64_t i = 0; i < N; i++)
		if (i + 1 != tally.unknown)
			assert_int_equal(word_at(scene, ADDR + 8 * i), i + 1);
	vmsig_writer_close(writer);
}

static void another_process_may_use_the_lease(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *holder = writer_open(scene, "alice", &scene->alice);
	vmsig_writer *child = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(holder, 0), *used;
	vmsig_lease_info info;

	vmsig_lease_get(lease, &info);
	assert_int_equal(vmsig_lease_use(child, info.id, info.token, &used, DAEMON_WAIT_MS), 0);
	assert_int_equal(write_word(used, ADDR, 1), 0);
	assert_int_equal(write_word(lease, ADDR, 2), 0);
	assert_int_equal(write_word(used, ADDR, 3), 0);
	assert_int_equal(word_at(scene, ADDR), 3);
	assert_int_equal(vmsig_lease_use(child, info.id + 1, info.token, &used, DAEMON_WAIT_MS),
		-VMSIG_ERR_NO_LEASE);
	/* The child's end is not the lease's. */
	vmsig_writer_close(child);
	assert_int_equal(write_word(lease, ADDR, 4), 0);
	/* It may give it back, though, if it knows the token. */
	child = writer_open(scene, "alice", &scene->alice);
	assert_int_equal(vmsig_lease_use(child, info.id, info.token + 1, &used, DAEMON_WAIT_MS), 0);
	assert_int_equal(vmsig_lease_release_wait(used, DAEMON_WAIT_MS), -VMSIG_ERR_NO_LEASE);
	assert_int_equal(write_word(lease, ADDR, 5), 0);
	vmsig_lease_free(used);
	assert_int_equal(vmsig_lease_use(child, info.id, info.token, &used, DAEMON_WAIT_MS), 0);
	assert_int_equal(vmsig_lease_release_wait(used, DAEMON_WAIT_MS), 0);
	vmsig_writer_close(child);
	await_event(holder, VMSIG_WEV_LOST);
	vmsig_writer_close(holder);
}

/* As whoever goes on where a guest was migrated to, or in the place of a process that has ended. */
static void another_process_may_take_the_lease_over(void **state)
{
	struct desk_scene *scene = *state;
	vmsig_writer *holder = writer_open(scene, "alice", &scene->alice);
	vmsig_writer *heir = writer_open(scene, "alice", &scene->alice);
	vmsig_writer *stranger = writer_open(scene, "bob", &scene->bob);
	vmsig_lease *lease = acquire(holder, 3600000), *taken;
	vmsig_lease_info info, after;

	vmsig_lease_get(lease, &info);
	assert_int_equal(write_word(lease, ADDR, 1), 0);
	assert_int_equal(vmsig_lease_resume(stranger, info.id, info.token, &taken, DAEMON_WAIT_MS),
		-VMSIG_ERR_NO_LEASE);
	assert_int_equal(vmsig_lease_resume(heir, info.id, info.token + 1, &taken, DAEMON_WAIT_MS),
		-VMSIG_ERR_NO_LEASE);
	assert_int_equal(vmsig_lease_resume(heir, info.id + 1, info.token, &taken, DAEMON_WAIT_MS),
		-VMSIG_ERR_NO_LEASE);
	assert_int_equal(vmsig_lease_resume(heir, info.id, info.token, &taken, DAEMON_WAIT_MS), 0);
	vmsig_lease_get(taken, &after);
	assert_int_equal(after.token, info.token);
	assert_int_equal(after.phase, VMSIG_LEASE_HELD);
	assert_int_equal(write_word(taken, ADDR, 2), 0);
	/* It looks after the lease from now on. */
	desk_scene_restart(scene, SIGKILL);
	await_event(heir, VMSIG_WEV_RESUMED);
	assert_int_equal(write_word(taken, ADDR, 3), 0);
	assert_int_equal(word_at(scene, ADDR), 3);
	assert_int_equal(vmsig_lease_release_wait(taken, DAEMON_WAIT_MS), 0);
	vmsig_writer_close(stranger);
	vmsig_writer_close(heir);
	vmsig_writer_close(holder);
}

static void bulk_data_goes_by_descriptor(void **state)
{
	const size_t len = 600 << 10;
	struct desk_scene *scene = *state;
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 0);
	uint8_t *data = malloc(len), *there = malloc(len);
	vmsig_write_result result;
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_non_null(data);
	assert_non_null(there);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 13 + i / 4096);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(
		vmsig_write_bulk_wait(lease, 0x1000, 0, 0, fd, 0, len, 0, &result, DAEMON_WAIT_MS),
		-VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(vmsig_write_bulk_wait(lease, 0x1000, 0, 0, fd, 100, len - 100, 0, &result,
				 DAEMON_WAIT_MS),
		0);
	assert_int_equal(result.written, len - 100);
	vmsig_write_result_clear(&result);
	desk_scene_read(scene, "w1", 0x1000, there, len - 100);
	assert_memory_equal(there, data + 100, len - 100);
	/* What it has written is what the next one finds. */
	assert_int_equal(vmsig_write_bulk_wait(lease, 0x1000, 0, 0, fd, 0, len - 100,
				 VMSIG_WRITE_WANT_OLD, &result, DAEMON_WAIT_MS),
		0);
	assert_int_equal(result.old_len, len - 100);
	assert_memory_equal(result.old, data + 100, len - 100);
	vmsig_write_result_clear(&result);
	/* Files are no guests that could be stopped. */
	assert_int_equal(vmsig_write_bulk_wait(lease, 0x1000, 0, 0, fd, 0, len, VMSIG_WRITE_QUIESCE,
				 &result, DAEMON_WAIT_MS),
		-VMSIG_ERR_FORBIDDEN);
	vmsig_write_result_clear(&result);
	close(fd);
	free(data);
	free(there);
	vmsig_writer_close(writer);
}

static void the_administrator_lists_revokes_and_reads_the_log(void **state)
{
	struct desk_scene *scene = *state;
	char dir[PATH_MAX], socket[PATH_MAX], error[256] = "";
	const vmsig_options options = {.identity_dir = dir, .socket_path = socket};
	const vmsig_audit_query alice = {.tenant = "alice"}, bob = {.tenant = "bob"};
	vmsig_writer *writer = writer_open(scene, "alice", &scene->alice);
	vmsig_lease *lease = acquire(writer, 0);
	vmsig_lease_entries *entries;
	vmsig_audit_page *page;
	vmsig_admin *admin;

	identity_dir(scene, "root", &scene->admin, dir);
	snprintf(socket, sizeof(socket), "%s/run/admin.sock", daemon_dir(scene->daemon));
	if (vmsig_admin_open(&admin, &options, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(vmsig_admin_leases(admin, &entries, DAEMON_WAIT_MS), 0);
	assert_int_equal(entries->count, 1);
	assert_string_equal(entries->entries[0].tenant, "alice");
	assert_string_equal(entries->entries[0].endpoint, "w1");
	assert_string_equal(vmsig_lease_state_name(entries->entries[0].state), "active");
	assert_int_equal(vmsig_admin_revoke(admin, entries->entries[0].id, DAEMON_WAIT_MS), 0);
	assert_int_equal(vmsig_admin_revoke(admin, entries->entries[0].id, DAEMON_WAIT_MS),
		-VMSIG_ERR_NO_LEASE);
	vmsig_lease_entries_free(entries);
	assert_int_equal(await_event(writer, VMSIG_WEV_LOST).error, -VMSIG_ERR_LEASE_REVOKED);
	assert_int_equal(vmsig_admin_audit(admin, 0, 0, false, &page, DAEMON_WAIT_MS), 0);
	assert_true(page->count >= 4);
	assert_int_equal(page->head, page->rows[page->count - 1].id);
	assert_memory_equal(page->head_hash, page->rows[page->count - 1].hash, 32);
	vmsig_audit_page_free(page);
	assert_int_equal(vmsig_admin_audit(admin, 0, 2, true, &page, DAEMON_WAIT_MS), 0);
	assert_int_equal(page->count, 2);
	vmsig_audit_page_free(page);
	/* Records are looked up by the broker: START has no tenant, and nobody is called bob. */
	assert_int_equal(vmsig_admin_audit_find(admin, &alice, &page, DAEMON_WAIT_MS), 0);
	assert_in_range(page->count, 1, page->head - 1);
	vmsig_audit_page_free(page);
	assert_int_equal(vmsig_admin_audit_find(admin, &bob, &page, DAEMON_WAIT_MS), 0);
	assert_int_equal(page->count, 0);
	assert_int_equal(page->next, 0);
	vmsig_audit_page_free(page);
	vmsig_lease_free(lease);
	vmsig_admin_close(admin);
	vmsig_writer_close(writer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

/* With a word: only the cases whose names it matches, as a shell would. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_write_is_applied_and_its_past_is_told),
		TEST(writes_are_pipelined_up_to_the_window),
		TEST(a_driven_lease_is_kept_alive),
		TEST(the_deadline_is_counted_from_the_request),
		TEST(a_stalled_holder_stops_itself),
		TEST(a_waiting_request_is_granted_in_turn),
		TEST(a_notice_and_the_loss_are_told),
		TEST(a_reset_of_the_guest_ends_the_lease),
		TEST(a_killed_broker_costs_nothing),
		TEST(another_process_may_use_the_lease),
		TEST(another_process_may_take_the_lease_over),
		TEST(bulk_data_goes_by_descriptor),
		TEST(the_administrator_lists_revokes_and_reads_the_log),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
