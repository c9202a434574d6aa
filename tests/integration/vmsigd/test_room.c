/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operator that is refused, or writes, as often as it can: what it leaves on the disk is
 * bounded, whatever it does, and others have room. Counts decide when it ends, not time.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"

#define WINDOW 32 /* requests without an answer; the quota is 64 */
#define ADDR 0x3000u

/* alice's tenant may have so many bytes of records a second. */
static void configure(struct desk_scene *scene, const char *rate)
{
	static const char endpoint[] = "adapter: file, low: 1MiB, kcr3: 0x2000, poll: 20ms";

	daemon_configure(scene->daemon,
		"audit: {size: 1MiB}\n"
		"endpoints:\n"
		"  - {name: w1, path: w1.ram, writable: yes, %s}\n"
		"  - {name: w2, path: w2.ram, writable: yes, %s}\n"
		"  - {name: r1, path: r1.ram, %s}\n"
		"tenants:\n"
		"  - {name: alice, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     quota: {audit: %s}, write: [{endpoints: ['*'], ttl_max: 1h}]}\n"
		"  - {name: bob, role: operator, uids: [%u], endpoints: ['*'],\n"
		"     write: [{endpoints: ['*'], ttl_max: 1h}]}\n"
		"  - {name: root, role: admin, uids: [%u], endpoints: ['*']}\n",
		endpoint, endpoint, endpoint, getuid(), rate, getuid(), getuid());
	desk_scene_reload(scene);
}

static off_t size_of(struct desk_scene *scene, const char *file)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/state/%s", daemon_dir(scene->daemon), file);
	return stat(path, &st) < 0 ? 0 : st.st_size;
}

/* Of the segments, with what is allocated and not written yet. */
static uint64_t journal_bytes(struct desk_scene *scene)
{
	char path[PATH_MAX], file[PATH_MAX + 300];
	struct dirent *entry;
	uint64_t bytes = 0;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/state/journal", daemon_dir(scene->daemon));
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (stat(file, &st) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(dir);
	return bytes;
}

/* The next error or outcome; events beside it are skipped. */
static int answer(struct write_client *client)
{
	for (;;) {
		Vmsig__WriteMessage *message = write_client_receive(client);
		bool event;
		int code = 0;

		assert_non_null(message);
		event = !message->request_id;
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_ERROR)
			code = (int)message->error->code;
		else if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT)
			code = (int)message->write_result->outcome;
		write_client_free_message(message);
		if (!event)
			return code;
	}
}

static void ask_for_much(struct write_client *client, const char *endpoint)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseAcquire acquire = VMSIG__LEASE_ACQUIRE__INIT;
	Vmsig__Range ranges[200], *pointers[200];

	for (size_t i = 0; i < 200; i++) {
		vmsig__range__init(&ranges[i]);
		ranges[i].start = i * 0x1000;
		ranges[i].last = i * 0x1000 + 7;
		pointers[i] = &ranges[i];
	}
	acquire.endpoint = (char *)(uintptr_t)endpoint;
	acquire.ranges = pointers;
	acquire.n_ranges = 200;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_ACQUIRE;
	request.lease_acquire = &acquire;
	write_client_send(client, &request, NULL, 0);
}

static void renew_nothing(struct write_client *client)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRenew renew = VMSIG__LEASE_RENEW__INIT;

	renew.lease = 4711;
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW;
	request.lease_renew = &renew;
	write_client_send(client, &request, NULL, 0);
}

/* Endpoints that exist, that do not (another name each time), leases and writes without one. */
static void refused_request(struct write_client *client, unsigned i)
{
	const struct write_lease none = {.id = 4711, .endpoint = 1 + i % 3};
	uint64_t word = i;
	char name[32];

	switch (i % 5) {
	case 0:
		ask_for_much(client, "r1");
		break;
	case 1:
		snprintf(name, sizeof(name), "nothing%u", i);
		ask_for_much(client, name);
		break;
	case 2:
		renew_nothing(client);
		break;
	case 3:
		ask_for_much(client, "w1");
		break;
	default:
		write_client_write(client, &none, i + 1, ADDR, &word, sizeof(word), NULL);
	}
}

static void refusals_are_counted(void **state)
{
	static const Vmsig__AuditRecord__Kind kinds[] = {VMSIG__AUDIT_RECORD__KIND__REFUSED,
		VMSIG__AUDIT_RECORD__KIND__RENEW_FAILED, VMSIG__AUDIT_RECORD__KIND__WRITE_REFUSED};
	const unsigned total = 20000;
	struct desk_scene *scene = *state;
	struct write_client alice;
	uint64_t counted = 0;
	unsigned records = 0;

	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	for (unsigned i = 0; i < total + WINDOW; i++) {
		if (i >= WINDOW)
			assert_int_not_equal(answer(&alice), 0);
		if (i < total)
			refused_request(&alice, i);
	}
	write_client_close(&alice);
	/* Its end records what is still only counted. */
	desk_scene_restart(scene, SIGTERM);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		Vmsig__AuditRecord *newest = NULL;

		records += desk_scene_audit(scene, kinds[i], &newest);
		assert_non_null(newest);
		counted += newest->repeats;
		vmsig__audit_record__free_unpacked(newest, NULL);
	}
	/* A few, and one in ten seconds, of each of some ten kinds: not one in a thousand. */
	assert_in_range(records, 3, 200);
	assert_true(counted > 0);
	/* Two segments, of which one is allocated ahead of its time. */
	assert_true(journal_bytes(scene) <= 33 << 20);
}

/* A disk that others use as well may be slower than this: then writes are refused meanwhile. */
static void await_disk(int error)
{
	if (error == VMSIG_ERR_IO)
		usleep(10000);
	else
		assert_int_equal(error, 0);
}

static void log_and_state_keep_their_size(void **state)
{
	const unsigned total = 60000;
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;

	configure(scene, "1GiB");
	/* How large segments are is settled at the start. */
	desk_scene_restart(scene, SIGTERM);
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	write_client_ask(&alice, "w1", 0, 0, 3600000, 0, false);
	lease = write_client_granted(&alice);
	for (uint64_t i = 0; i < total + WINDOW; i++) {
		if (i >= WINDOW)
			await_disk(answer(&alice));
		if (i < total)
			write_client_write(&alice, &lease, i + 1, ADDR, &i, sizeof(i), NULL);
		if (i % 1000)
			continue;
		/* Some segments of 4 MiB stay, more while it is as fast as this, and 1,024 answers
		 * of a writer. */
		assert_true(journal_bytes(scene) < 64 << 20);
		assert_true(size_of(scene, "vmsig.db") < 4 << 20);
	}
	/* And others go on. */
	write_client_ask(&bob, "w2", 0, 0, 0, 0, true);
	write_client_granted(&bob);
	write_client_close(&bob);
	write_client_close(&alice);
	/* The chain holds from the oldest that is left. */
	assert_true(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__PRUNED, NULL) > 0);
}

/* Until it owes; nobody else is refused for it. */
static void who_records_too_much_is_refused(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;
	uint64_t word = 1, sequence = 1;
	int code = 0;

	configure(scene, "1KiB");
	write_client_open(&alice, scene->daemon, "write.sock", &scene->alice);
	write_client_open(&bob, scene->daemon, "write.sock", &scene->bob);
	write_client_ask(&alice, "w1", 0, 0, 3600000, 0, false);
	lease = write_client_granted(&alice);
	while (!code && sequence < 10000) {
		write_client_write(&alice, &lease, sequence++, ADDR, &word, sizeof(word), NULL);
		code = answer(&alice);
	}
	assert_int_equal(code, VMSIG_ERR_QUOTA);
	write_client_ask(&bob, "w2", 0, 0, 0, 0, true);
	lease = write_client_granted(&bob);
	write_client_write(&bob, &lease, 1, ADDR, &word, sizeof(word), NULL);
	assert_int_equal(answer(&bob), 0);
	write_client_close(&bob);
	write_client_close(&alice);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)
	const struct CMUnitTest tests[] = {
		TEST(refusals_are_counted),
		TEST(log_and_state_keep_their_size),
		TEST(who_records_too_much_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
