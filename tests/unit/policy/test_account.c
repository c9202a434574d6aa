/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts and charges: limits, what is given back, what was not, and what a refusal says. */
#include "broker/policy/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmsig/vmsig_error.h"

enum { CONNECTIONS, BYTES };

static const struct account_kind tenant_kind = {.owner = "tenant",
	.slots = {[CONNECTIONS] = {"connections", "quota.connections", "close one"},
		[BYTES] = {"bytes", "limits.send_queues", "read what was sent"}}};

static const struct account_kind broker_kind = {.owner = "broker",
	.is_shared = true,
	.slots = {[CONNECTIONS] = {"connections", "limits.connections", "try again later"}}};

static const struct account_actor actor = {.tenant = "acme", .uid = 1000, .pid = 77};

/* ---- charging ---- */

static void test_charges_up_to_the_limit(void **state)
{
	struct account account;
	struct charge a = {0}, b = {0}, c = {0};

	account_init(&account, &tenant_kind, "acme");
	account_set_limit(&account, CONNECTIONS, 2);
	assert_int_equal(charge_take(&a, &account, CONNECTIONS, 1, &actor, NULL), 0);
	assert_int_equal(charge_take(&b, &account, CONNECTIONS, 1, &actor, NULL), 0);
	assert_int_equal(charge_take(&c, &account, CONNECTIONS, 1, &actor, NULL), VMSIG_ERR_QUOTA);
	assert_int_equal(account_used(&account, CONNECTIONS), 2);
	assert_false(account_is_over(&account, CONNECTIONS));
	charge_refund(&a);
	assert_int_equal(charge_take(&c, &account, CONNECTIONS, 1, &actor, NULL), 0);
	charge_refund(&b);
	charge_refund(&c);
	charge_deinit(&a);
	account_deinit(&account);
}

static void test_refunds_once(void **state)
{
	struct account account;
	struct charge charge, empty = {0};

	account_init(&account, &tenant_kind, "acme");
	charge_init(&charge);
	charge_refund(&charge);
	assert_int_equal(charge_take(&charge, &account, BYTES, 100, &actor, NULL), 0);
	charge_refund(&charge);
	charge_refund(&charge);
	charge_resize(&empty, 5);
	assert_int_equal(account_used(&account, BYTES), 0);
	account_deinit(&account);
}

static void test_forces_resizes_and_moves(void **state)
{
	struct account account;
	struct charge charge = {0}, heir = {0};

	account_init(&account, &tenant_kind, "acme");
	account_set_limit(&account, BYTES, 10);
	charge_force(&charge, &account, BYTES, 15);
	assert_true(account_is_over(&account, BYTES));
	assert_false(account_has_room(&account, BYTES, 0));
	charge_resize(&charge, 4);
	assert_true(account_has_room(&account, BYTES, 6));
	assert_false(account_has_room(&account, BYTES, 7));
	assert_false(account_has_room(&account, BYTES, UINT64_MAX));
	charge_move(&heir, &charge);
	charge_deinit(&charge);
	assert_int_equal(account_used(&account, BYTES), 4);
	charge_refund(&heir);
	account_deinit(&account);
}

static void end_account(struct account *account, struct charge *charge)
{
	account_deinit(account);
}

static void end_charge(struct account *account, struct charge *charge)
{
	charge_deinit(charge);
}

static void charge_twice(struct account *account, struct charge *charge)
{
	charge_force(charge, account, BYTES, 1);
}

/* In a process of its own, which may abort. */
static void expect_abort(void (*does)(struct account *account, struct charge *charge))
{
	const struct rlimit no_core = {0};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct account account;
		struct charge charge = {0};

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		account_init(&account, &tenant_kind, "acme");
		charge_force(&charge, &account, BYTES, 1);
		does(&account, &charge);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_knows_leaks(void **state)
{
	expect_abort(end_account);
	expect_abort(end_charge);
	expect_abort(charge_twice);
}

/* ---- refusals ---- */

static void test_a_refusal_names_everything(void **state)
{
	struct account account;
	struct account_refusal refusal;
	struct charge charge = {0}, other = {0};
	char text[ACCOUNT_TEXT_MAX + 1];

	account_init(&account, &tenant_kind, "acme");
	account_set_limit(&account, CONNECTIONS, 3);
	charge_force(&charge, &account, CONNECTIONS, 2);
	assert_int_equal(
		charge_take(&other, &account, CONNECTIONS, 2, &actor, &refusal), VMSIG_ERR_QUOTA);
	charge_deinit(&other);
	account_refusal_text(&refusal, text, sizeof(text));
	assert_string_equal(text,
		"quota.connections of the tenant acme: 2 of 3 connections are in use, and uid "
		"1000 (pid 77) of acme asks for 2 more; close one");
	charge_refund(&charge);
	account_deinit(&account);
}

static void test_a_refusal_tells_nothing_of_others(void **state)
{
	const struct account_actor stranger = {.uid = 1000};
	struct account account;
	struct account_refusal refusal;
	struct charge charge = {0};
	char text[ACCOUNT_TEXT_MAX + 1];

	account_init(&account, &broker_kind, "");
	account_set_limit(&account, CONNECTIONS, 30);
	charge_force(&charge, &account, CONNECTIONS, 29);
	refusal = account_refuse(&account, CONNECTIONS, 2, &stranger);
	assert_int_equal(refusal.used, 29);
	account_refusal_text(&refusal, text, sizeof(text));
	assert_string_equal(text,
		"limits.connections of the broker: 30 connections are in use, and uid 1000 asks "
		"for 2 more; try again later");
	charge_refund(&charge);
	account_deinit(&account);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charges_up_to_the_limit),
		cmocka_unit_test(test_refunds_once),
		cmocka_unit_test(test_forces_resizes_and_moves),
		cmocka_unit_test(test_knows_leaks),
		cmocka_unit_test(test_a_refusal_names_everything),
		cmocka_unit_test(test_a_refusal_tells_nothing_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
