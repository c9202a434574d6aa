/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys are warned of, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "broker/expiry.h"
#include "broker/metrics/metrics.h"

#define NOW_S 1800000000ll
#define DAY_S 86400ll

static const struct tls_dates never = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};

static void what_is_far_away_is_no_warning(void **state)
{
	struct tls_dates dates = never;
	struct expiry expiry = {0};

	expiry_look(&expiry, &dates, NOW_S);
	assert_int_equal(expiry.nwarnings, 0);
	dates.certificate = NOW_S + (EXPIRY_WARN_DAYS + 1) * DAY_S;
	expiry_look(&expiry, &dates, NOW_S);
	assert_int_equal(expiry.nwarnings, 0);
}

static void each_kind_says_when_and_what_to_do(void **state)
{
	const struct tls_dates dates = {NOW_S - DAY_S, NOW_S + DAY_S, NOW_S + 2 * DAY_S};
	struct expiry expiry = {0};

	expiry_look(&expiry, &dates, NOW_S);
	assert_int_equal(expiry.nwarnings, 3);
	assert_non_null(
		strstr(expiry.warnings[0], "certificate has ended on 2027-01-14T08:00:00Z"));
	assert_non_null(strstr(expiry.warnings[0], "pki renew"));
	assert_non_null(strstr(expiry.warnings[1], "revocation list ends on 2027-01-17T08:00:00Z"));
	assert_non_null(strstr(expiry.warnings[1], "renew --crl"));
	assert_non_null(strstr(expiry.warnings[2], "authority"));
	expiry_look(&expiry, &never, NOW_S);
	assert_int_equal(expiry.nwarnings, 0);
}

static void the_log_is_told_once_a_day(void **state)
{
	struct expiry expiry = {0};

	assert_true(expiry_is_due(&expiry, NOW_S));
	assert_false(expiry_is_due(&expiry, NOW_S + 1));
	assert_false(expiry_is_due(&expiry, NOW_S + DAY_S - 1));
	assert_true(expiry_is_due(&expiry, NOW_S + DAY_S));
	/* The clock was set back. */
	assert_true(expiry_is_due(&expiry, NOW_S));
}

static void the_dates_are_numbers(void **state)
{
	const struct tls_dates dates = {NOW_S, INT64_MAX, NOW_S + DAY_S, NOW_S - DAY_S};
	struct metrics metrics = {.n = 0};
	struct expiry expiry = {0};

	expiry_look(&expiry, &dates, NOW_S);
	expiry_metrics(&expiry, &metrics);
	assert_int_equal(metrics.n, 3);
	assert_string_equal(metrics.samples[0].value_of_label, "certificate");
	assert_int_equal(metrics.samples[0].value, NOW_S * 1000000000ull);
	assert_string_equal(metrics.samples[1].value_of_label, "revocations");
	assert_int_equal(metrics.samples[2].id, METRICS_REVOCATIONS);
	assert_int_equal(metrics.samples[2].value, (NOW_S - DAY_S) * 1000000000ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_far_away_is_no_warning),
		cmocka_unit_test(each_kind_says_when_and_what_to_do),
		cmocka_unit_test(the_log_is_told_once_a_day),
		cmocka_unit_test(the_dates_are_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
