/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as Prometheus reads them: seconds, buckets that count all below, and words that cannot
 * become lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/exporter/exposition.h"

#define WORD(text) ((char *)(uintptr_t)(text))

static void assert_metric(const Vmsig__Metric *metric, const char *wanted)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	assert_non_null(to);
	exposition_metric(to, metric);
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text, wanted);
	free(text);
}

/* A metric with one sample that has one label. */
struct one {
	Vmsig__Metric metric;
	Vmsig__Sample sample, *samples;
	Vmsig__MetricLabel label, *labels;
};

static struct one *one_init(struct one *one, const char *name, Vmsig__Metric__Type type)
{
	vmsig__metric__init(&one->metric);
	vmsig__sample__init(&one->sample);
	vmsig__metric_label__init(&one->label);
	one->metric.name = WORD(name);
	one->metric.type = type;
	one->metric.help = WORD("Help");
	one->label.name = WORD("who");
	one->label.value = WORD("x");
	one->samples = &one->sample;
	one->labels = &one->label;
	one->metric.samples = &one->samples;
	one->metric.n_samples = 1;
	one->sample.labels = &one->labels;
	one->sample.n_labels = 1;
	return one;
}

static void a_value_has_its_family(void **state)
{
	struct one one;

	one_init(&one, "vmsig_things_total", VMSIG__METRIC__TYPE__COUNTER);
	one.sample.value = UINT64_MAX;
	assert_metric(&one.metric, "# HELP vmsig_things_total Help\n"
				   "# TYPE vmsig_things_total counter\n"
				   "vmsig_things_total{who=\"x\"} 18446744073709551615\n");
	one.sample.n_labels = 0;
	one.metric.type = VMSIG__METRIC__TYPE__GAUGE;
	one.metric.name = WORD("vmsig_long_seconds");
	one.sample.value = 1500000001;
	assert_metric(&one.metric, "# HELP vmsig_long_seconds Help\n"
				   "# TYPE vmsig_long_seconds gauge\n"
				   "vmsig_long_seconds 1.500000001\n");
}

static void no_word_becomes_a_line(void **state)
{
	struct one one;

	one_init(&one, "vmsig_things", VMSIG__METRIC__TYPE__GAUGE);
	one.metric.help = WORD("a\nvmsig_up 1 \\ \"b\"");
	one.label.value = WORD("a\"} 1\nvmsig_up 1\\\xff");
	assert_metric(&one.metric, "# HELP vmsig_things a\\nvmsig_up 1 \\\\ \"b\"\n"
				   "# TYPE vmsig_things gauge\n"
				   "vmsig_things{who=\"a\\\"} 1\\nvmsig_up 1\\\\?\"} 0\n");
	one.metric.help = WORD("Help");
	one.label.name = WORD("who=\"x\"} 1\n");
	assert_metric(&one.metric, "# HELP vmsig_things Help\n# TYPE vmsig_things gauge\n"
				   "vmsig_things 0\n");
}

static void what_is_no_metric_is_left_out(void **state)
{
	static const char *const names[] = {"", "9lives", "a b", "a\nb", "a{x=\"1\"}", "\xc3\xa4"};
	struct one one;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_metric(&one_init(&one, names[i], VMSIG__METRIC__TYPE__GAUGE)->metric, "");
	assert_metric(&one_init(&one, "vmsig_new", (Vmsig__Metric__Type)77)->metric, "");
}

static void buckets_count_all_below(void **state)
{
	uint64_t upper[] = {1000, 2000000000, UINT64_MAX}, counts[] = {1, 2, 4};
	Vmsig__Histogram histogram = VMSIG__HISTOGRAM__INIT;
	struct one one;

	one_init(&one, "vmsig_took_seconds", VMSIG__METRIC__TYPE__HISTOGRAM);
	histogram.upper_ns = upper;
	histogram.counts = counts;
	histogram.n_upper_ns = histogram.n_counts = 3;
	histogram.count = 7;
	histogram.sum_ns = 90000000000;
	one.sample.histogram = &histogram;
	assert_metric(&one.metric, "# HELP vmsig_took_seconds Help\n"
				   "# TYPE vmsig_took_seconds histogram\n"
				   "vmsig_took_seconds_bucket{who=\"x\",le=\"0.000001000\"} 1\n"
				   "vmsig_took_seconds_bucket{who=\"x\",le=\"2.000000000\"} 3\n"
				   "vmsig_took_seconds_bucket{who=\"x\",le=\"+Inf\"} 7\n"
				   "vmsig_took_seconds_sum{who=\"x\"} 90.000000000\n"
				   "vmsig_took_seconds_count{who=\"x\"} 7\n");
	/* A broker's that does not keep its promise. */
	histogram.n_counts = 1;
	one.sample.n_labels = 0;
	assert_metric(&one.metric, "# HELP vmsig_took_seconds Help\n"
				   "# TYPE vmsig_took_seconds histogram\n"
				   "vmsig_took_seconds_bucket{le=\"0.000001000\"} 1\n"
				   "vmsig_took_seconds_bucket{le=\"+Inf\"} 7\n"
				   "vmsig_took_seconds_sum 90.000000000\n"
				   "vmsig_took_seconds_count 7\n");
	one.sample.histogram = NULL;
	assert_metric(&one.metric, "# HELP vmsig_took_seconds Help\n"
				   "# TYPE vmsig_took_seconds histogram\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_has_its_family),
		cmocka_unit_test(no_word_becomes_a_line),
		cmocka_unit_test(what_is_no_metric_is_left_out),
		cmocka_unit_test(buckets_count_all_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
