/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/metrics/metrics.h"

#include "vmsig/vmsig_error.h"

static const struct metrics_kind kinds[METRICS_IDS] = {
#define METRICS_KIND(id, name, type, label, help) {name, METRICS_##type, label, help},
	METRICS_TABLE(METRICS_KIND)
#undef METRICS_KIND
};

const struct metrics_kind *metrics_kind(enum metrics_id id)
{
	return &kinds[id];
}

void metrics_add(
	struct metrics *metrics, enum metrics_id id, const char *value_of_label, uint64_t value)
{
	if (metrics->n < METRICS_SAMPLES_MAX)
		metrics->samples[metrics->n++] = (struct metrics_sample){
			.id = id, .value_of_label = value_of_label, .value = value};
}

void metrics_add_histogram(struct metrics *metrics, enum metrics_id id, const char *value_of_label,
	const struct histogram *histogram)
{
	if (metrics->n < METRICS_SAMPLES_MAX)
		metrics->samples[metrics->n++] = (struct metrics_sample){
			.id = id, .value_of_label = value_of_label, .histogram = histogram};
}

void metrics_errors_note(struct metrics_errors *errors, int error)
{
	unsigned number =
		error < 0 || error >= (int)METRICS_ERRORS ? VMSIG_ERR_INTERNAL : (unsigned)error;

	errors->counts[number]++;
}

void metrics_add_errors(
	struct metrics *metrics, enum metrics_id id, const struct metrics_errors *errors)
{
	for (unsigned i = 0; i < METRICS_ERRORS; i++) {
		if (errors->counts[i])
			metrics_add(metrics, id, vmsig_error_name((int)i), errors->counts[i]);
	}
}
