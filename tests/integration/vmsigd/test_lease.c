/* SPDX-License-Identifier: Apache-2.0 */
/* Leases at the real broker: granted, refused, waited for, lost. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/vmsigd/desk_scene.h"

#define GRANT VMSIG__AUDIT_RECORD__KIND__GRANT
#define END VMSIG__AUDIT_RECORD__KIND__END

static void open_alice(struct desk_scene *scene, struct write_client *client)
{
	write_client_open(client, scene->daemon, "write.sock", &scene->alice);
}

static void open_bob(struct desk_scene *scene, struct write_client *client)
{
	write_client_open(client, scene->daemon, "write.sock", &scene->bob);
}

static uint64_t send_token(struct write_client *client, Vmsig__WriteRequest__BodyCase body_case,
	const struct write_lease *lease)
{
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseRelease release = VMSIG__LEASE_RELEASE__INIT;
	Vmsig__LeaseRenew renew = VMSIG__LEASE_RENEW__INIT;
	Vmsig__LeaseResume resume = VMSIG__LEASE_RESUME__INIT;

	release.lease = renew.lease = resume.lease = lease->id;
	release.token = renew.token = resume.token = lease->token;
	request.body_case = body_case;
	if (body_case == VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE)
		request.lease_release = &release;
	else if (body_case == VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW)
		request.lease_renew = &renew;
	else
		request.lease_resume = &resume;
	return write_client_send(client, &request, NULL, 0);
}

#define RELEASE VMSIG__WRITE_REQUEST__BODY_LEASE_RELEASE
#define RENEW VMSIG__WRITE_REQUEST__BODY_LEASE_RENEW
#define RESUME VMSIG__WRITE_REQUEST__BODY_LEASE_RESUME

/* Done for the release, and the event of the end, in either order. */
static void release(struct write_client *client, const struct write_lease *lease)
{
	send_token(client, RELEASE, lease);
	for (int i = 0; i < 2; i++) {
		Vmsig__WriteMessage *message = write_client_receive(client);

		assert_non_null(message);
		if (message->body_case == VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED)
			assert_int_equal(message->lease_ended->reason, 0);
		else
			assert_int_equal(message->body_case, VMSIG__WRITE_MESSAGE__BODY_DONE);
		write_client_free_message(message);
	}
}

static void expect_ended(struct write_client *client, const struct write_lease *lease, int reason)
{
	Vmsig__WriteMessage *message =
		write_client_expect(client, VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED);

	assert_int_equal(message->lease_ended->lease, lease->id);
	assert_string_equal(
		vmsig_error_name((int)message->lease_ended->reason), vmsig_error_name(reason));
	write_client_free_message(message);
}

static void a_lease_is_granted_renewed_and_released(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease, next;
	Vmsig__WriteMessage *message;
	Vmsig__AuditRecord *record;

	open_alice(scene, &alice);
	lease = write_client_acquire(&alice, "w1");
	assert_true(lease.token);
	assert_true(lease.epoch);
	send_token(&alice, RENEW, &lease);
	message = write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_RENEWED);
	/* The default, of which next to nothing has passed. */
	assert_in_range(message->lease_renewed->remaining_ms, 1, 5000);
	write_client_free_message(message);
	release(&alice, &lease);
	next = write_client_acquire(&alice, "w1");
	assert_true(next.id > lease.id);
	assert_true(next.token > lease.token);
	release(&alice, &next);
	write_client_close(&alice);
	assert_int_equal(desk_scene_audit(scene, GRANT, &record), 2);
	assert_string_equal(record->tenant, "alice");
	assert_string_equal(record->endpoint, "w1");
	assert_int_equal(record->uid, getuid());
	assert_int_equal(record->pid, getpid());
	assert_int_equal(record->token, next.token);
	assert_true(record->serial[0]);
	vmsig__audit_record__free_unpacked(record, NULL);
	assert_int_equal(desk_scene_audit(scene, END, NULL), 2);
}

static void refusals_say_why(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, carol;
	uint64_t id;

	open_alice(scene, &alice);
	write_client_open(&carol, scene->daemon, "write.sock", &scene->carol);
	id = write_client_ask(&alice, "nowhere", 0, 0, 0, 0, false);
	write_client_expect_error(&alice, id, VMSIG_ERR_NO_SUCH_ENDPOINT);
	id = write_client_ask(&alice, "r1", 0, 0, 0, 0, false);
	write_client_expect_error(&alice, id, VMSIG_ERR_NO_WRITE_PATH);
	id = write_client_ask(&alice, "w1", 0, 0, 0, 1, false);
	write_client_expect_error(&alice, id, VMSIG_ERR_FORBIDDEN);
	id = write_client_ask(&alice, "w1", 2, 1, 0, 0, false);
	write_client_expect_error(&alice, id, VMSIG_ERR_BAD_REQUEST);
	/* What she may not see does not exist, and beyond her range she may not go. */
	id = write_client_ask(&carol, "w1", 0, 0, 0, 0, false);
	write_client_expect_error(&carol, id, VMSIG_ERR_NO_SUCH_ENDPOINT);
	id = write_client_ask(&carol, "w2", 0, 0, 0, 0, false);
	write_client_expect_error(&carol, id, VMSIG_ERR_FORBIDDEN);
	id = write_client_ask(&carol, "w2", 0xffff, 0x10fff, 0, 0, false);
	write_client_expect_error(&carol, id, VMSIG_ERR_FORBIDDEN);
	write_client_ask(&carol, "w2", 0x10000, 0x1ffff, 0, 0, false);
	write_client_granted(&carol);
	write_client_close(&alice);
	write_client_close(&carol);
	assert_int_equal(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__REFUSED, NULL), 7);
}

static void conflicts_wait_in_order(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob, other;
	struct write_lease first, second, third;
	Vmsig__WriteMessage *message;
	uint64_t id;

	open_alice(scene, &alice);
	open_bob(scene, &bob);
	open_bob(scene, &other);
	write_client_ask(&alice, "w1", 0x1000, 0x1fff, 0, 0, false);
	first = write_client_granted(&alice);
	/* Beside it there is room. */
	write_client_ask(&bob, "w1", 0x2000, 0x2fff, 0, 0, true);
	second = write_client_granted(&bob);
	release(&bob, &second);
	id = write_client_ask(&bob, "w1", 0x1fff, 0x1fff, 0, 0, true);
	write_client_expect_error(&bob, id, VMSIG_ERR_LEASE_HELD);
	id = write_client_ask(&bob, "w1", 0x1fff, 0x2fff, 0, 0, false);
	message = write_client_expect(&bob, VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING);
	assert_int_equal(message->request_id, id);
	write_client_free_message(message);
	/* Behind the one that waits, although nobody holds it. */
	id = write_client_ask(&other, "w1", 0x2000, 0x2fff, 0, 0, false);
	write_client_free_message(
		write_client_expect(&other, VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING));
	release(&alice, &first);
	second = write_client_granted(&bob);
	assert_true(second.token > first.token);
	release(&bob, &second);
	third = write_client_granted(&other);
	assert_true(third.token > second.token);
	write_client_close(&alice);
	write_client_close(&bob);
	write_client_close(&other);
}

static void a_lease_that_is_not_renewed_expires(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease, next;
	uint64_t word = 1, id;

	open_alice(scene, &alice);
	open_bob(scene, &bob);
	write_client_ask(&alice, "w1", 0, 0, 1000, 0, false);
	lease = write_client_granted(&alice);
	write_client_ask(&bob, "w1", 0, 0, 0, 0, false);
	next = write_client_granted(&bob);
	assert_true(next.token > lease.token);
	expect_ended(&alice, &lease, VMSIG_ERR_LEASE_EXPIRED);
	id = write_client_write(&alice, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	write_client_expect_error(&alice, id, VMSIG_ERR_NO_LEASE);
	write_client_close(&alice);
	write_client_close(&bob);
}

/* The holder is asked to go, and after the grace it is gone, while it is stopped. */
static void a_higher_priority_preempts(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease, next;
	Vmsig__WriteMessage *message;
	uint64_t word = 1, id;

	desk_scene_configure(scene, "{preempt_grace: 300ms}", "ttl_max: 30s");
	desk_scene_restart(scene, SIGTERM);
	open_alice(scene, &alice);
	open_bob(scene, &bob);
	write_client_ask(&alice, "w1", 0, 0, 30000, 0, false);
	lease = write_client_granted(&alice);
	write_client_ask(&bob, "w1", 0, 0, 0, 9, false);
	message = write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_NOTICE);
	assert_int_equal(message->lease_notice->lease, lease.id);
	assert_in_range(message->lease_notice->revoke_in_ms, 0, 300);
	write_client_free_message(message);
	/* It may still finish what it does. */
	write_client_write(&alice, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), 0);
	next = write_client_granted(&bob);
	id = write_client_write(&alice, &lease, 2, 0x3000, &word, sizeof(word), NULL);
	expect_ended(&alice, &lease, VMSIG_ERR_LEASE_REVOKED);
	write_client_expect_error(&alice, id, VMSIG_ERR_NO_LEASE);
	write_client_write(&bob, &next, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&bob), 0);
	write_client_close(&alice);
	write_client_close(&bob);
	assert_int_equal(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__NOTICE, NULL), 1);
}

static void a_lost_connection_can_be_resumed(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease;
	uint64_t word = 5, id;

	open_alice(scene, &alice);
	lease = write_client_acquire(&alice, "w1");
	write_client_close(&alice);
	/* Nobody else can, whatever they know. */
	open_bob(scene, &bob);
	id = send_token(&bob, RESUME, &lease);
	write_client_expect_error(&bob, id, VMSIG_ERR_NO_LEASE);
	open_alice(scene, &alice);
	send_token(&alice, RESUME, &lease);
	write_client_free_message(
		write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO));
	write_client_write(&alice, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), 0);
	write_client_close(&alice);
	write_client_close(&bob);
}

static void a_holder_that_stays_away_is_not_waited_for(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease, next;

	desk_scene_configure(scene, "{resume_grace: 100ms}", "ttl_max: 1h");
	desk_scene_restart(scene, SIGTERM);
	open_alice(scene, &alice);
	open_bob(scene, &bob);
	write_client_ask(&alice, "w1", 0, 0, 3600000, 0, false);
	lease = write_client_granted(&alice);
	write_client_ask(&bob, "w1", 0, 0, 0, 0, false);
	write_client_free_message(
		write_client_expect(&bob, VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING));
	write_client_close(&alice);
	next = write_client_granted(&bob);
	assert_true(next.token > lease.token);
	write_client_close(&bob);
}

/* Killed or stopped: the lease and its token outlive the broker, and so does the epoch. */
static void a_lease_survives_the_broker(void **state, int signal)
{
	struct desk_scene *scene = *state;
	struct write_client alice, bob;
	struct write_lease lease, next;
	uint64_t word = 5, id;

	desk_scene_configure(scene, "{resume_grace: 1h}", "ttl_max: 1h");
	desk_scene_restart(scene, SIGTERM);
	open_alice(scene, &alice);
	write_client_ask(&alice, "w1", 0, 0, 3600000, 0, false);
	lease = write_client_granted(&alice);
	desk_scene_restart(scene, signal);
	write_client_close(&alice);
	open_bob(scene, &bob);
	id = write_client_ask(&bob, "w1", 0, 0, 0, 0, true);
	write_client_expect_error(&bob, id, VMSIG_ERR_LEASE_HELD);
	open_alice(scene, &alice);
	send_token(&alice, RESUME, &lease);
	write_client_free_message(
		write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO));
	write_client_write(&alice, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	assert_int_equal(write_client_outcome(&alice), 0);
	release(&alice, &lease);
	next = write_client_acquire(&bob, "w1");
	assert_true(next.id > lease.id);
	assert_true(next.token > lease.token);
	write_client_close(&alice);
	write_client_close(&bob);
	assert_int_equal(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__RESTORED, NULL), 1);
}

static void a_lease_survives_a_restart(void **state)
{
	a_lease_survives_the_broker(state, SIGTERM);
}

static void a_lease_survives_a_kill(void **state)
{
	a_lease_survives_the_broker(state, SIGKILL);
}

static void a_reset_ends_leases(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease, next;
	uint64_t word = 1, id;

	open_alice(scene, &alice);
	lease = write_client_acquire(&alice, "w1");
	desk_scene_reset(scene, "w1");
	expect_ended(&alice, &lease, VMSIG_ERR_STALE_EPOCH);
	next = write_client_acquire(&alice, "w1");
	assert_true(next.epoch > lease.epoch);
	/* The right lease with the old epoch. */
	lease = next;
	lease.epoch--;
	id = write_client_write(&alice, &lease, 1, 0x3000, &word, sizeof(word), NULL);
	write_client_expect_error(&alice, id, VMSIG_ERR_STALE_EPOCH);
	write_client_close(&alice);
}

static void a_policy_that_takes_it_away_revokes(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client alice;
	struct write_lease lease;

	open_alice(scene, &alice);
	lease = write_client_acquire(&alice, "w1");
	desk_scene_configure(scene, "{}", "ranges: [{gpa: 0, len: 4KiB}]");
	desk_scene_reload(scene);
	expect_ended(&alice, &lease, VMSIG_ERR_LEASE_REVOKED);
	write_client_close(&alice);
}

static void an_administrator_sees_and_revokes(void **state)
{
	struct desk_scene *scene = *state;
	Vmsig__AdminRequest request = VMSIG__ADMIN_REQUEST__INIT;
	Vmsig__LeaseList list = VMSIG__LEASE_LIST__INIT;
	Vmsig__LeaseRevoke revoke = VMSIG__LEASE_REVOKE__INIT;
	struct write_client alice, admin;
	Vmsig__AdminMessage *message;
	struct write_lease lease;

	open_alice(scene, &alice);
	write_client_open(&admin, scene->daemon, "admin.sock", &scene->admin);
	lease = write_client_acquire(&alice, "w1");
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_LEASE_LIST;
	request.lease_list = &list;
	write_client_send_admin(&admin, &request);
	message = write_client_receive_admin(&admin);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_LEASE_INFOS);
	assert_int_equal(message->lease_infos->n_leases, 1);
	assert_string_equal(message->lease_infos->leases[0]->tenant, "alice");
	assert_string_equal(message->lease_infos->leases[0]->name, "w1");
	/* The token is the holder's alone. */
	assert_int_equal(message->lease_infos->leases[0]->token, 0);
	vmsig__admin_message__free_unpacked(message, NULL);
	request.body_case = VMSIG__ADMIN_REQUEST__BODY_LEASE_REVOKE;
	request.lease_revoke = &revoke;
	revoke.lease = lease.id;
	write_client_send_admin(&admin, &request);
	message = write_client_receive_admin(&admin);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_DONE);
	vmsig__admin_message__free_unpacked(message, NULL);
	expect_ended(&alice, &lease, VMSIG_ERR_LEASE_REVOKED);
	write_client_send_admin(&admin, &request);
	message = write_client_receive_admin(&admin);
	assert_int_equal(message->body_case, VMSIG__ADMIN_MESSAGE__BODY_ERROR);
	assert_int_equal(message->error->code, VMSIG_ERR_NO_LEASE);
	vmsig__admin_message__free_unpacked(message, NULL);
	write_client_close(&alice);
	write_client_close(&admin);
	assert_int_equal(desk_scene_audit(scene, VMSIG__AUDIT_RECORD__KIND__REVOKED, NULL), 1);
}

static void others_leases_are_shown_without_names(void **state)
{
	struct desk_scene *scene = *state;
	Vmsig__WriteRequest request = VMSIG__WRITE_REQUEST__INIT;
	Vmsig__LeaseList list = VMSIG__LEASE_LIST__INIT;
	struct write_client alice, carol;
	Vmsig__WriteMessage *message;

	open_alice(scene, &alice);
	write_client_open(&carol, scene->daemon, "write.sock", &scene->carol);
	write_client_acquire(&alice, "w1");
	write_client_acquire(&alice, "w2");
	request.body_case = VMSIG__WRITE_REQUEST__BODY_LEASE_LIST;
	request.lease_list = &list;
	write_client_send(&carol, &request, NULL, 0);
	message = write_client_expect(&carol, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFOS);
	assert_int_equal(message->lease_infos->n_leases, 1);
	assert_string_equal(message->lease_infos->leases[0]->name, "w2");
	assert_string_equal(message->lease_infos->leases[0]->tenant, "");
	assert_int_equal(message->lease_infos->leases[0]->token, 0);
	assert_false(message->lease_infos->leases[0]->mine);
	write_client_free_message(message);
	request.request_id = 0;
	write_client_send(&alice, &request, NULL, 0);
	message = write_client_expect(&alice, VMSIG__WRITE_MESSAGE__BODY_LEASE_INFOS);
	assert_int_equal(message->lease_infos->n_leases, 2);
	assert_true(message->lease_infos->leases[0]->mine);
	assert_true(message->lease_infos->leases[0]->token);
	write_client_free_message(message);
	write_client_close(&alice);
	write_client_close(&carol);
}

/* Their records are in a transaction that is open; new endpoints and epochs are stored all the
 * same. */
static void a_reload_adds_endpoints_beside_refused_requests(void **state)
{
	struct desk_scene *scene = *state;
	struct write_client carol;
	unsigned ready = daemon_log_count(scene->daemon, "endpoint ready");

	write_client_open(&carol, scene->daemon, "write.sock", &scene->carol);
	for (unsigned round = 0; round < 5; round++) {
		char name[8];

		snprintf(name, sizeof(name), "n%u", round);
		daemon_ram(scene->daemon, name, DESK_RAM);
		daemon_configure(scene->daemon,
			"endpoints:\n"
			"  - {name: %s, path: %s.ram, adapter: file, low: 1MiB, kcr3: 0x2000,\n"
			"     poll: 20ms}\n"
			"tenants:\n"
			"  - {name: carol, role: operator, uids: [%u], endpoints: [w2],\n"
			"     write: [{endpoints: ['*']}]}\n",
			name, name, getuid());
		for (int i = 0; i < 30; i++)
			write_client_ask(&carol, "w1", 0, 0, 0, 0, true);
		kill(daemon_pid(scene->daemon), SIGHUP);
		for (int i = 0; i < 30; i++)
			write_client_ask(&carol, "w1", 0, 0, 0, 0, true);
		for (int i = 0; i < 60; i++)
			write_client_free_message(write_client_receive(&carol));
		daemon_await_log(scene->daemon, "endpoint ready", ready + round + 1);
	}
	assert_int_equal(daemon_log_count(scene->daemon, "cannot set the endpoint up"), 0);
	write_client_close(&carol);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_scene_setup, desk_scene_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_lease_is_granted_renewed_and_released),
		TEST(refusals_say_why),
		TEST(conflicts_wait_in_order),
		TEST(a_lease_that_is_not_renewed_expires),
		TEST(a_higher_priority_preempts),
		TEST(a_lost_connection_can_be_resumed),
		TEST(a_holder_that_stays_away_is_not_waited_for),
		TEST(a_lease_survives_a_restart),
		TEST(a_lease_survives_a_kill),
		TEST(a_reset_ends_leases),
		TEST(a_policy_that_takes_it_away_revokes),
		TEST(an_administrator_sees_and_revokes),
		TEST(others_leases_are_shown_without_names),
		TEST(a_reload_adds_endpoints_beside_refused_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
