/* SPDX-License-Identifier: Apache-2.0 */
/* What a tenant pays for at the door: each has its own, and opens so many in a second. */
#include "broker/net/patron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "vmsig/vmsig_error.h"

#define SECOND 1000000000ull

static char acme[] = "acme", other[] = "other";
static struct grant_tenant tenants[] = {
	{.tenant = {.name = acme, .quota = {.connections = 2}}, .connects = 3},
	{.tenant = {.name = other, .quota = {.connections = 5}}, .connects = 1}};
static const struct config config = {.tenants = tenants, .ntenants = 2, .tx_all = 4000};
static const struct account_actor actor = {.tenant = acme, .uid = 7};

static void each_tenant_has_its_own(void **state)
{
	struct patrons patrons;
	struct patron *a, *b;
	struct charge charge = {0};

	assert_int_equal(patrons_init(&patrons, &config, 0), 0);
	a = patron_of(&patrons, &config, &tenants[0]);
	b = patron_of(&patrons, &config, &tenants[1]);
	assert_ptr_not_equal(a, b);
	assert_true(account_has_room(&a->account, PATRON_CONNECTIONS, 2));
	assert_false(account_has_room(&a->account, PATRON_CONNECTIONS, 3));
	/* Of all send queues a tenant has a quarter. */
	charge_force(&charge, &a->account, PATRON_UNREAD, 1000);
	assert_false(account_is_over(&a->account, PATRON_UNREAD));
	charge_resize(&charge, 1001);
	assert_true(account_is_over(&a->account, PATRON_UNREAD));
	assert_int_equal(account_used(&b->account, PATRON_UNREAD), 0);
	charge_refund(&charge);
	patrons_deinit(&patrons);
}

static void connects_have_a_rate(void **state)
{
	char text[ACCOUNT_TEXT_MAX + 1];
	struct account_refusal refusal;
	struct patrons patrons;
	struct patron *patron;

	assert_int_equal(patrons_init(&patrons, &config, 0), 0);
	patron = patron_of(&patrons, &config, &tenants[0]);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(patron_connect(patron, &tenants[0], &actor, 0, &refusal), 0);
	assert_int_equal(patron_connect(patron, &tenants[0], &actor, 0, &refusal), VMSIG_ERR_QUOTA);
	account_refusal_text(&refusal, text, sizeof(text));
	assert_non_null(strstr(text, "quota.connects_per_second of the tenant acme: 3 of 3"));
	assert_int_equal(patron_connect(patron, &tenants[0], &actor, SECOND, &refusal), 0);
	/* What was not used does not gather. */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
			patron_connect(patron, &tenants[0], &actor, 60 * SECOND, &refusal), 0);
	assert_int_equal(patron_connect(patron, &tenants[0], &actor, 60 * SECOND, &refusal),
		VMSIG_ERR_QUOTA);
	patrons_deinit(&patrons);
}

static void acts_without_end_are_paid_for(void **state)
{
	struct patrons patrons;
	struct patron *a, *b;

	assert_int_equal(patrons_init(&patrons, &config, 0), 0);
	a = patron_of(&patrons, &config, &tenants[0]);
	b = patron_of(&patrons, &config, &tenants[1]);
	for (enum patron_act act = 0; act < PATRON_ACTS; act++) {
		for (unsigned i = 0; i < patron_allowance(act); i++)
			assert_int_equal(patron_act(a, act, 0), 0);
		for (unsigned i = 0; i < 10; i++)
			assert_true(patron_act(a, act, 0) > 0);
		/* Nobody else's are. */
		assert_int_equal(patron_act(b, act, 0), 0);
		/* Who stops is as good as before. */
		for (unsigned i = 0; i < patron_allowance(act); i++)
			assert_int_equal(patron_act(a, act, SECOND), 0);
	}
	patrons_deinit(&patrons);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_tenant_has_its_own),
		cmocka_unit_test(connects_have_a_rate),
		cmocka_unit_test(acts_without_end_are_paid_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
