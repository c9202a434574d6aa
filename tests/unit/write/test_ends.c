/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a lease is acknowledged when it is recorded, and a broker that is killed then does
 * not bring the lease back. */
#include "tests/unit/write/lab.h"

#include <sys/mman.h>

#include "vmsig/vmsig_error.h"

static char star[] = "*", root[] = "root";
static char *all[] = {star};
static const struct tenant tenant = {.name = root, .endpoints = all, .nendpoints = 1};
static const struct desk_admin admin = {.tenant = &tenant, .serial = "1"};

/* An administrator who asked. */
struct asker {
	struct desk_wait wait;
	bool later;
	unsigned answers;
	int error;
};

static void on_done(struct desk_wait *wait, int error, const char *detail)
{
	struct asker *asker = (struct asker *)(void *)wait;

	asker->answers++;
	asker->error = error;
	assert_int_equal(error == VMSIG_ERR_IO, detail != NULL);
}

static int ask_revoke(struct lab *lab, struct asker *asker, uint64_t lease)
{
	*asker = (struct asker){.wait = {.done = on_done}};
	return desk_revoke(lab->desk, lab_now(), &admin, lease, &asker->wait, &asker->later);
}

static void assert_no_lease(struct lab *lab)
{
	struct lease_view lease;
	uint64_t cursor = 0;

	assert_false(desk_lease_next(lab->desk, &cursor, &lease));
}

static void a_release_is_answered_when_it_is_recorded(void **state)
{
	struct lab *lab = *state;

	lab_lease(lab);
	assert_int_equal(lab_release(lab), 0);
	assert_int_equal(lab_count(lab, LAB_RELEASED, lab->next_request), 0);
	while (!lab_count(lab, LAB_RELEASED, lab->next_request))
		lab_turn(lab);
	lab_kill(lab);
	assert_no_lease(lab);
}

/* Each of them is memory, and the disk may let them wait for long. */
static void no_more_than_so_many_wait_to_be_answered(void **state)
{
	struct lab *lab = *state;
	uint64_t last = 0;
	unsigned n = 0;

	lab_lease(lab);
	for (; n < 4096 && lab_release(lab) == 0; n++)
		last = lab->next_request;
	assert_int_equal(n, 1024);
	assert_int_equal(lab_release(lab), VMSIG_ERR_QUOTA);
	while (!lab_count(lab, LAB_RELEASED, last))
		lab_turn(lab);
	assert_int_equal(account_used(&lab->op.account, DESK_RELEASES), 0);
}

static void a_revocation_is_answered_when_it_is_recorded(void **state)
{
	struct lab *lab = *state;
	struct asker asker, second;

	lab_lease(lab);
	assert_int_equal(ask_revoke(lab, &asker, lab->lease), 0);
	assert_true(asker.later);
	/* It is over already, and nobody is told so yet. */
	assert_int_equal(ask_revoke(lab, &second, lab->lease), 0);
	assert_true(second.later);
	assert_int_equal(asker.answers + second.answers, 0);
	while (!asker.answers)
		lab_turn(lab);
	assert_int_equal(asker.error, 0);
	assert_int_equal(second.answers, 1);
	assert_int_equal(second.error, VMSIG_ERR_NO_LEASE);
	lab_kill(lab);
	assert_no_lease(lab);
	assert_int_equal(ask_revoke(lab, &asker, lab->lease), VMSIG_ERR_NO_LEASE);
	assert_false(asker.later);
}

static void one_that_cannot_be_recorded_is_said_to_be_so(void **state)
{
	struct lab *lab = *state;
	struct asker asker, gone;

	lab_lease(lab);
	lab_store_works(lab, false);
	assert_int_equal(ask_revoke(lab, &asker, lab->lease), 0);
	while (!asker.answers)
		lab_turn(lab);
	assert_int_equal(asker.error, VMSIG_ERR_IO);
	assert_int_equal(lab_count(lab, LAB_ENDED, lab->lease), 0);
	/* Whoever asks again waits for the next try. */
	assert_int_equal(ask_revoke(lab, &asker, lab->lease), 0);
	assert_int_equal(ask_revoke(lab, &gone, lab->lease), 0);
	desk_wait_cancel(&gone.wait);
	lab_store_works(lab, true);
	lab_pass(1000 * LAB_MS);
	while (!asker.answers)
		lab_turn(lab);
	assert_int_equal(asker.error, VMSIG_ERR_NO_LEASE);
	assert_int_equal(gone.answers, 0);
	assert_int_equal(lab_told(lab, LAB_ENDED, lab->lease).code, VMSIG_ERR_LEASE_REVOKED);
	lab_kill(lab);
	assert_no_lease(lab);
}

static struct lease_view ended;

static int end_noted(struct lease_store *store, const struct lease_view *lease)
{
	ended = *lease;
	return 0;
}

/* A fleet finds the record that it has of a lease by the guest and the token. */
static void one_that_was_owed_still_says_of_which_guest_it_was(void **state)
{
	struct lab *lab = *state;
	const struct lease_store_ops *real = lab->shell->leases->ops;
	struct lease_store_ops noting = *real;

	noting.end = end_noted;
	ended = (struct lease_view){0};
	lab_lease(lab);
	lab_store_works(lab, false);
	assert_int_equal(lab_release(lab), 0);
	while (!lab_count(lab, LAB_RELEASED, lab->next_request))
		lab_turn(lab);
	lab->shell->leases->ops = &noting;
	lab_store_works(lab, true);
	lab_pass(1000 * LAB_MS);
	while (!ended.id)
		lab_turn(lab);
	lab->shell->leases->ops = real;
	assert_int_equal(ended.id, lab->lease);
	assert_int_equal(ended.endpoint, lab->endpoint);
	assert_int_equal(ended.token, lab->token);
}

/* What the fleet was is not there any more, and is not asked. */
static void an_end_that_comes_after_the_fleet_is_noted_here(void **state)
{
	struct lab *lab = *state;
	void *gone = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(gone, MAP_FAILED);
	lab_lease(lab);
	lab->shell->env.fleet = gone;
	desk_shell_part(lab->shell);
	assert_int_equal(lab_acquire(lab, true), VMSIG_ERR_SHUTTING_DOWN);
	desk_endpoint_over(lab->desk, lab_now(), lab->endpoint);
	while (!lab_count(lab, LAB_ENDED, lab->lease))
		lab_turn(lab);
	lab_kill(lab);
	assert_no_lease(lab);
	munmap(gone, 1);
}

/* No stranger hears of it. */
static void who_was_no_holder_waits_for_nothing(void **state)
{
	struct lab *lab = *state;
	uint64_t first;

	lab_lease(lab);
	assert_int_equal(lab_release(lab), 0);
	first = lab->next_request;
	lab->token++;
	assert_int_equal(lab_release(lab), VMSIG_ERR_NO_LEASE);
	lab->token--;
	assert_int_equal(lab_release(lab), 0);
	while (!lab_count(lab, LAB_RELEASED, lab->next_request))
		lab_turn(lab);
	assert_int_equal(lab_told(lab, LAB_RELEASED, first).code, 0);
	assert_int_equal(lab_told(lab, LAB_RELEASED, lab->next_request).code, VMSIG_ERR_NO_LEASE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_release_is_answered_when_it_is_recorded),
		TEST(no_more_than_so_many_wait_to_be_answered),
		TEST(a_revocation_is_answered_when_it_is_recorded),
		TEST(one_that_cannot_be_recorded_is_said_to_be_so),
		TEST(one_that_was_owed_still_says_of_which_guest_it_was),
		TEST(an_end_that_comes_after_the_fleet_is_noted_here),
		TEST(who_was_no_holder_waits_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
