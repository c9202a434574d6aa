/* SPDX-License-Identifier: Apache-2.0 */
/* Writes at the real broker: what arrives, what is refused, what is recorded. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"

#define INTENT VMSIG__AUDIT_RECORD__KIND__WRITE_INTENT
#define RESULT VMSIG__AUDIT_RECORD__KIND__WRITE_RESULT
#define ADDR 0x3000u
#define ENDPOINT "adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms"

struct hand {
	struct desk_scene *scene;
	struct write_client client;
	struct write_lease lease;
};

static void hand_open(struct hand *hand, void **state)
{
	hand->scene = *state;
	write_client_open(&hand->client, hand->scene->daemon, "write.sock", &hand->scene->alice);
	hand->lease = write_client_acquire(&hand->client, "w1");
}

static void hand_close(struct hand *hand)
{
	write_client_close(&hand->client);
}

static uint64_t word_at(struct hand *hand, uint64_t addr)
{
	uint64_t word;

	desk_scene_read(hand->scene, "w1", addr, &word, sizeof(word));
	return word;
}

static uint64_t write_word(struct hand *hand, uint64_t sequence, uint64_t addr, uint64_t word)
{
	return write_client_write(
		&hand->client, &hand->lease, sequence, addr, &word, sizeof(word), NULL);
}

static void the_bytes_arrive_and_are_recorded(void **state)
{
	const uint64_t before = 0x1111, after = 0x2222;
	Vmsig__WriteMessage *message;
	Vmsig__AuditRecord *record;
	uint64_t old, id;
	struct hand hand;

	hand_open(&hand, state);
	desk_scene_poke(hand.scene, "w1", ADDR, &before, sizeof(before));
	id = write_client_write(&hand.client, &hand.lease, 1, ADDR, &after, sizeof(after), NULL);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->request_id, id);
	assert_int_equal(message->write_result->outcome, 0);
	assert_int_equal(message->write_result->written, 8);
	assert_int_equal(message->write_result->old.len, 8);
	memcpy(&old, message->write_result->old.data, 8);
	assert_int_equal(old, before);
	write_client_free_message(message);
	assert_int_equal(word_at(&hand, ADDR), after);
	assert_int_equal(desk_scene_audit(hand.scene, INTENT, &record), 1);
	assert_string_equal(record->tenant, "alice");
	assert_int_equal(record->sequence, 1);
	assert_int_equal(record->n_ranges, 1);
	assert_int_equal(record->ranges[0]->start, ADDR);
	assert_int_equal(record->ranges[0]->last, ADDR + 7);
	assert_int_equal(record->new_hash.len, 32);
	/* What was there comes with the store. */
	assert_int_equal(record->old_hash.len, 0);
	vmsig__audit_record__free_unpacked(record, NULL);
	assert_int_equal(desk_scene_audit(hand.scene, RESULT, &record), 1);
	assert_int_equal(record->old_hash.len, 32);
	assert_memory_not_equal(record->old_hash.data, record->new_hash.data, 32);
	/* Only the hashes, unless the policy says so. */
	assert_int_equal(record->old_bytes.len, 0);
	vmsig__audit_record__free_unpacked(record, NULL);
	hand_close(&hand);
}

static void bytes_are_kept_if_the_policy_says_so(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client carol;
	Vmsig__AuditRecord *record;
	struct write_lease lease;

	write_client_open(&carol, scene->daemon, "write.sock", &scene->carol);
	write_client_ask(&carol, "w2", 0x10000, 0x10fff, 0, 0, false);
	lease = write_client_granted(&carol);
	desk_scene_poke(scene, "w2", 0x10010, "before", 6);
	write_client_write(&carol, &lease, 1, 0x10010, "after!", 6, NULL);
	assert_int_equal(write_client_outcome(&carol), 0);
	assert_int_equal(desk_scene_audit(scene, INTENT, &record), 1);
	assert_memory_equal(record->old_bytes.data, "before", 6);
	assert_memory_equal(record->new_bytes.data, "after!", 6);
	vmsig__audit_record__free_unpacked(record, NULL);
	write_client_close(&carol);
}

static void outside_of_the_lease_nothing_is_written(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;
	uint64_t word = 7;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_ask(&alice, "w1", 0x3000, 0x3fff, 0, 0, false);
	lease = write_client_granted(&alice);
	write_client_write(&alice, &lease, 1, 0x2ff9, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), VMSIG_ERR_OUT_OF_RANGE);
	write_client_write(&alice, &lease, 2, 0x3ff9, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), VMSIG_ERR_OUT_OF_RANGE);
	desk_scene_read(scene, "w1", 0x3ff9, &word, sizeof(word));
	assert_int_equal(word, 0);
	write_client_close(&alice);
}

static void compare_and_swap(void **state)
{
	const uint64_t wrong = 1, before = 10, after = 11;
	Vmsig__WriteMessage *message;
	struct hand hand;

	hand_open(&hand, state);
	desk_scene_poke(hand.scene, "w1", ADDR, &before, sizeof(before));
	write_client_write(&hand.client, &hand.lease, 1, ADDR, &after, sizeof(after), &wrong);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->write_result->outcome, VMSIG_ERR_COMPARE_FAILED);
	assert_int_equal(message->write_result->written, 0);
	/* What is there instead, for the next attempt. */
	assert_int_equal(message->write_result->old.len, 8);
	assert_memory_equal(message->write_result->old.data, &before, 8);
	write_client_free_message(message);
	assert_int_equal(word_at(&hand, ADDR), before);
	write_client_write(&hand.client, &hand.lease, 2, ADDR, &after, sizeof(after), &before);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	assert_int_equal(word_at(&hand, ADDR), after);
	hand_close(&hand);
}

/* A number with the same body has the first one's outcome, with another body it is an error;
 * over connections and restarts. */
static void a_number_is_used_once(void **state)
{
	Vmsig__WriteMessage *message;
	struct hand hand;
	uint64_t id, five = 5;

	desk_scene_wait_long(*state);
	hand_open(&hand, state);
	write_word(&hand, 1, ADDR, 5);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	desk_scene_poke(hand.scene, "w1", ADDR, "\0\0\0\0\0\0\0", 8);
	write_word(&hand, 1, ADDR, 5);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->write_result->outcome, 0);
	assert_int_equal(message->write_result->written, 8);
	assert_true(message->write_result->replayed);
	write_client_free_message(message);
	assert_int_equal(word_at(&hand, ADDR), 0);
	id = write_client_write(&hand.client, &hand.lease, 1, ADDR + 8, &five, 8, NULL);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_REPLAY_MISMATCH);
	hand_close(&hand);
	/* Whoever reads the log finds the result of what was answered, and so does a restart. */
	assert_int_equal(desk_scene_audit(hand.scene, RESULT, NULL), 1);
	desk_scene_restart(hand.scene, SIGKILL);
	write_client_open(&hand.client, hand.scene->daemon, "write.sock", &hand.scene->alice);
	write_word(&hand, 1, ADDR, 5);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_true(message->write_result->replayed);
	write_client_free_message(message);
	assert_int_equal(word_at(&hand, ADDR), 0);
	/* Another writer has numbers of its own. */
	hand.client.writer = 2;
	write_word(&hand, 1, ADDR, 6);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	assert_int_equal(word_at(&hand, ADDR), 6);
	hand_close(&hand);
}

static void an_outcome_can_be_asked_for_after_the_lease(void **state)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;
	Vmsig__WriteMessage *message;
	struct hand hand;
	uint64_t id;

	hand_open(&hand, state);
	write_word(&hand, 1, ADDR, 5);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	release.lease = hand.lease.id;
	release.token = hand.lease.token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &release;
	write_client_send(&hand.client, &request, NULL, 0);
	write_client_free_message(write_client_receive(&hand.client));
	write_client_free_message(write_client_receive(&hand.client));
	write_word(&hand, 1, ADDR, 5);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_true(message->write_result->replayed);
	write_client_free_message(message);
	write_word(&hand, 2, ADDR, 6);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_ERROR);
	assert_int_equal(message->error->code, VMSIG_ERR_NO_LEASE);
	write_client_free_message(message);
	/* Only whoever knows the token. */
	hand.lease.token++;
	id = write_client_write(&hand.client, &hand.lease, 1, ADDR, "12345678", 8, NULL);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_NO_LEASE);
	assert_int_equal(word_at(&hand, ADDR), 5);
	hand_close(&hand);
}

/* As many as fit, without waiting for answers, out of order too. */
static void writes_are_pipelined(void **state)
{
	enum { N = 60 };
	struct hand hand;

	hand_open(&hand, state);
	for (uint64_t i = 0; i < N; i++)
		write_word(&hand, i ^ 1 ? (i ^ 1) : N, ADDR + 8 * i, i + 1);
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(write_client_outcome(&hand.client), 0);
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(word_at(&hand, ADDR + 8 * i), i + 1);
	hand_close(&hand);
}

static uint64_t send_release(struct hand *hand)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;

	release.lease = hand->lease.id;
	release.token = hand->lease.token;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE;
	request.lease_release = &release;
	return write_client_send(&hand->client, &request, NULL, 0);
}

/* Takes `n` messages; the outcome of each write of requests `first` to `first + n - 1`, or the
 * error that it was refused with, is at its place in ret_codes. */
static void take_codes(struct hand *hand, int n, uint64_t first, int *ret_codes)
{
	for (int i = 0; i < n; i++) {
		Vmsig__WriteMessage *message = write_client_receive(&hand->client);
		uint64_t at;

		assert_non_null(message);
		at = message->request_id - first;
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT)
			ret_codes[at] = (int)message->write_result->outcome;
		else if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR && at < 4)
			ret_codes[at] = (int)message->error->code;
		write_client_free_message(message);
	}
}

/* Sent in one go: the writes come before the release, and are not lost to it. */
static void a_release_waits_for_the_writes_before_it(void **state)
{
	int codes[4] = {-1, -1, -1, -1};
	struct hand hand;
	uint64_t first;

	hand_open(&hand, state);
	kill(daemon_pid(hand.scene->daemon), SIGSTOP);
	first = write_word(&hand, 1, ADDR, 1);
	write_word(&hand, 2, ADDR, 2);
	send_release(&hand);
	write_word(&hand, 3, ADDR, 3);
	kill(daemon_pid(hand.scene->daemon), SIGCONT);
	/* With the release's answer, and the end of the lease. */
	take_codes(&hand, 5, first, codes);
	assert_int_equal(codes[0], 0);
	assert_int_equal(codes[1], 0);
	assert_int_equal(codes[3], VMSIG_ERR_NO_LEASE);
	assert_int_equal(word_at(&hand, ADDR), 2);
	assert_int_equal(desk_scene_audit(hand.scene, RESULT, NULL), 2);
	hand_close(&hand);
}

static void what_makes_no_sense_is_refused(void **state)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__CmdMemwrite body = VMSIG__CMD_MEMWRITE__INIT;
	struct hand hand;
	uint64_t id;

	hand_open(&hand, state);
	request.body_case = VMSIG__WRITE_REQUEST__BODY_MEMWRITE;
	request.memwrite = &body;
	body.lease = hand.lease.id;
	body.token = hand.lease.token;
	body.endpoint = hand.lease.endpoint;
	body.epoch = hand.lease.epoch;
	body.sequence = 1;
	id = write_client_send(&hand.client, &request, NULL, 0);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_BAD_REQUEST);
	/* No number. */
	id = write_client_write(&hand.client, &hand.lease, 0, ADDR, "1", 1, NULL);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_BAD_REQUEST);
	/* Another endpoint than the lease's. */
	hand.lease.endpoint++;
	id = write_client_write(&hand.client, &hand.lease, 1, ADDR, "1", 1, NULL);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_NO_LEASE);
	hand.lease.endpoint = 4711;
	id = write_client_write(&hand.client, &hand.lease, 1, ADDR, "1", 1, NULL);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_NO_SUCH_ENDPOINT);
	hand_close(&hand);
}

/* ---- bulk ---- */

static int memfd_of(const void *data, size_t len, int seals)
{
	int fd = memfd_create("bulk", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static uint64_t send_bulk(struct hand *hand, uint64_t sequence, uint64_t addr, int fd, uint64_t len)
{
	return write_client_bulk(&hand->client, &hand->lease, sequence, addr, fd, len);
}

static void bulk_data_comes_in_a_memfd(void **state)
{
	const size_t len = 700 << 10;
	Vmsig__WriteMessage *message;
	Vmsig__AuditRecord *record;
	uint8_t *data = malloc(len), *there = malloc(len);
	struct hand hand;
	int fd;

	assert_non_null(data);
	assert_non_null(there);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 4096);
	hand_open(&hand, state);
	fd = memfd_of(data, len, SEALS);
	send_bulk(&hand, 1, 0x1001, fd, len);
	/* Its lease's next one does not overtake it. */
	write_word(&hand, 2, 0x2000, 0);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_int_equal(message->write_result->outcome, 0);
	assert_int_equal(message->write_result->written, len);
	write_client_free_message(message);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	memset(data + 0xfff, 0, 8);
	desk_scene_read(hand.scene, "w1", 0x1001, there, len);
	assert_memory_equal(there, data, len);
	/* Once. */
	send_bulk(&hand, 1, 0x1001, fd, len);
	message = write_client_expect(&hand.client, VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT);
	assert_true(message->write_result->replayed);
	write_client_free_message(message);
	close(fd);
	assert_int_equal(desk_scene_audit(hand.scene, RESULT, &record), 2);
	vmsig__audit_record__free_unpacked(record, NULL);
	free(data);
	free(there);
	hand_close(&hand);
}

/* A lane that is busy for several turns holds the release back, and with it what the same
 * client asks for behind it. */
static void a_release_waits_for_bulk_data_before_it(void **state)
{
	const size_t len = 700 << 10;
	int codes[4] = {-1, -1, -1, -1}, fd;
	uint8_t *data = calloc(1, len);
	struct write_lease next;
	struct hand hand;
	uint64_t first;

	assert_non_null(data);
	hand_open(&hand, state);
	fd = memfd_of(data, len, SEALS);
	kill(daemon_pid(hand.scene->daemon), SIGSTOP);
	first = send_bulk(&hand, 1, 0x1001, fd, len);
	write_word(&hand, 2, ADDR, 2);
	send_release(&hand);
	/* The second one is a part of the first. */
	send_release(&hand);
	write_client_ask(&hand.client, "w1", 0, 0, 0, 0, true);
	kill(daemon_pid(hand.scene->daemon), SIGCONT);
	/* Two outcomes, two answers, LeaseWaiting, the end of the lease, in some order... */
	take_codes(&hand, 6, first, codes);
	assert_int_equal(codes[0], 0);
	assert_int_equal(codes[1], 0);
	assert_int_equal(codes[2], -1);
	assert_int_equal(codes[3], -1);
	assert_int_equal(word_at(&hand, ADDR), 2);
	/* ... and the grant after all of them. */
	next = write_client_granted(&hand.client);
	assert_true(next.token > hand.lease.token);
	close(fd);
	free(data);
	hand_close(&hand);
}

static void bulk_data_must_be_sealed(void **state)
{
	struct hand hand;
	uint64_t id;
	int fd;

	hand_open(&hand, state);
	fd = memfd_of("data", 4, F_SEAL_SHRINK | F_SEAL_GROW);
	id = send_bulk(&hand, 1, ADDR, fd, 4);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_BAD_REQUEST);
	close(fd);
	fd = memfd_of("data", 4, SEALS);
	id = send_bulk(&hand, 1, ADDR, fd, 5);
	write_client_expect_error(&hand.client, id, VMSIG_ERR_BAD_REQUEST);
	send_bulk(&hand, 1, DESK_RAM - 2, fd, 4);
	assert_int_equal(write_client_outcome(&hand.client), VMSIG_ERR_OUT_OF_RANGE);
	send_bulk(&hand, 2, ADDR, fd, 4);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	close(fd);
	hand_close(&hand);
}

/* ---- what goes wrong ---- */

/* The guest's file shrinks under the mapping: the broker lives and says what it knows. */
static void a_file_that_shrinks_is_survived(void **state)
{
	struct hand hand;
	char path[PATH_MAX];
	Vmsig__WriteMessage *message;

	hand_open(&hand, state);
	write_word(&hand, 1, 0x80000, 1);
	assert_int_equal(write_client_outcome(&hand.client), 0);
	snprintf(path, sizeof(path), "%s/w1.ram", daemon_dir(hand.scene->daemon));
	assert_int_equal(truncate(path, 0x4000), 0);
	write_word(&hand, 2, 0x80000, 2);
	/* The session ends with it, at its next look or before. */
	for (bool answered = false; !answered;) {
		message = write_client_receive(&hand.client);
		assert_non_null(message);
		answered = message->request_id != 0;
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT)
			assert_int_equal(message->write_result->outcome, VMSIG_ERR_OUT_OF_RANGE);
		write_client_free_message(message);
	}
	assert_true(daemon_alive(hand.scene->daemon));
	hand_close(&hand);
}

/* More in line than its quota: refused, and the connection goes on. */
static void a_rate_is_kept(void **state)
{
	struct desk_scene *scene = *state;
	unsigned refused = 0;
	struct hand hand;

	desk_scene_configure(scene, "{}", "writes_per_second: 20");
	desk_scene_restart(scene, SIGTERM);
	hand_open(&hand, state);
	for (uint64_t i = 1; i <= 40; i++)
		write_word(&hand, i, ADDR, i);
	for (uint64_t i = 1; i <= 40; i++) {
		Vmsig__WriteMessage *message = write_client_receive(&hand.client);

		assert_non_null(message);
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR) {
			assert_int_equal(message->error->code, VMSIG_ERR_QUOTA);
			refused++;
		}
		write_client_free_message(message);
	}
	assert_in_range(refused, 1, 21);
	hand_close(&hand);
}

/* Two rules: what one allows is not spent by, and does not fill up, the other. */
static void each_rule_has_a_rate_of_its_own(void **state)
{
	struct desk_scene *scene = *state;
	unsigned strict = 0, lax = 0;
	struct write_lease w2;
	struct hand hand;

	daemon_configure(scene->daemon,
		"endpoints:\n"
		"  - {name: w1, path: w1.ram, writable: yes, " ENDPOINT "}\n"
		"  - {name: w2, path: w2.ram, writable: yes, " ENDPOINT "}\n"
		"  - {name: r1, path: r1.ram, " ENDPOINT "}\n"
		"tenants:\n"
		"  - {name: alice, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     write: [{endpoints: [w1], writes_per_second: 1},\n"
		"             {endpoints: ['*'], writes_per_second: 100000}]}\n",
		getuid());
	desk_scene_restart(scene, SIGTERM);
	hand_open(&hand, state);
	w2 = write_client_acquire(&hand.client, "w2");
	for (uint64_t i = 1; i <= 40; i++) {
		uint64_t id =
			write_client_write(&hand.client, &hand.lease, i, ADDR, &i, sizeof(i), NULL);

		write_client_write(&hand.client, &w2, i, ADDR, &i, sizeof(i), NULL);
		for (int n = 0; n < 2; n++) {
			Vmsig__WriteMessage *message = write_client_receive(&hand.client);
			bool written;

			assert_non_null(message);
			written = message->body_case == VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT;
			if (message->request_id == id)
				strict += written;
			else
				lax += written;
			write_client_free_message(message);
		}
	}
	assert_int_equal(lax, 40);
	/* One a second; this takes less than twenty. */
	assert_in_range(strict, 0, 20);
	hand_close(&hand);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_bytes_arrive_and_are_recorded),
		TEST(bytes_are_kept_if_the_policy_says_so),
		TEST(outside_of_the_lease_nothing_is_written),
		TEST(compare_and_swap),
		TEST(a_number_is_used_once),
		TEST(an_outcome_can_be_asked_for_after_the_lease),
		TEST(writes_are_pipelined),
		TEST(a_release_waits_for_the_writes_before_it),
		TEST(what_makes_no_sense_is_refused),
		TEST(bulk_data_comes_in_a_memfd),
		TEST(a_release_waits_for_bulk_data_before_it),
		TEST(bulk_data_must_be_sealed),
		TEST(a_file_that_shrinks_is_survived),
		TEST(a_rate_is_kept),
		TEST(each_rule_has_a_rate_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
