/* SPDX-License-Identifier: Apache-2.0 */
/* Log-linear buckets: no gap, no overlap, a quarter of an error at most; and the table of metrics.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/metrics/metrics.h"
#include "vmsig/vmsig_error.h"

static unsigned bucket_with(uint64_t ns)
{
	struct histogram histogram = {0};

	histogram_add(&histogram, ns);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (histogram.counts[i])
			return i;
	}
	return HISTOGRAM_BUCKETS;
}

static void each_value_is_in_the_bucket_that_says_so(void **state)
{
	for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
		assert_int_equal(bucket_with(histogram_upper_ns(i)), i);
		assert_int_equal(bucket_with(histogram_upper_ns(i) + 1), i + 1);
	}
	assert_int_equal(bucket_with(0), 0);
	assert_int_equal(bucket_with(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_upper_ns(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
}

static void a_bucket_is_a_quarter_wide_at_most(void **state)
{
	for (unsigned i = 1; i + 1 < HISTOGRAM_BUCKETS; i++) {
		uint64_t low = histogram_upper_ns(i - 1) + 1, high = histogram_upper_ns(i);

		assert_true(high - low < low / 4 + 1);
	}
}

static void quantiles_are_upper_bounds(void **state)
{
	struct histogram histogram = {0};

	assert_int_equal(histogram_quantile_ns(&histogram, 0.5), 0);
	for (uint64_t us = 1; us <= 1000; us++)
		histogram_add(&histogram, us * 1000);
	assert_in_range(histogram_quantile_ns(&histogram, 0.5), 500000, 625000);
	assert_in_range(histogram_quantile_ns(&histogram, 0.99), 990000, 1250000);
	assert_int_equal(histogram.count, 1000);
	assert_int_equal(histogram.sum_ns, 500500000);
}

static void names_are_stable_in_form(void **state)
{
	for (int i = 0; i < METRICS_IDS; i++) {
		const struct metrics_kind *kind = metrics_kind((enum metrics_id)i);
		size_t len = strlen(kind->name);

		assert_memory_equal(kind->name, "vmsig_", 6);
		assert_int_equal(strspn(kind->name, "abcdefghijklmnopqrstuvwxyz_"), len);
		assert_int_equal(
			strcmp(kind->name + len - 6, "_total") == 0, kind->type == METRICS_COUNTER);
		assert_true(kind->help[0]);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(kind->name, metrics_kind((enum metrics_id)j)->name);
	}
}

static void errors_are_counted_by_name(void **state)
{
	struct metrics_errors errors = {0};
	struct metrics metrics = {0};

	metrics_errors_note(&errors, VMSIG_ERR_QUOTA);
	metrics_errors_note(&errors, VMSIG_ERR_QUOTA);
	metrics_errors_note(&errors, -5);
	metrics_errors_note(&errors, 1 << 20);
	metrics_add_errors(&metrics, METRICS_REFUSALS, &errors);
	assert_int_equal(metrics.n, 2);
	assert_string_equal(metrics.samples[0].value_of_label, "QUOTA");
	assert_int_equal(metrics.samples[0].value, 2);
	assert_string_equal(metrics.samples[1].value_of_label, "INTERNAL");
	assert_int_equal(metrics.samples[1].value, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_value_is_in_the_bucket_that_says_so),
		cmocka_unit_test(a_bucket_is_a_quarter_wide_at_most),
		cmocka_unit_test(quantiles_are_upper_bounds),
		cmocka_unit_test(names_are_stable_in_form),
		cmocka_unit_test(errors_are_counted_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
