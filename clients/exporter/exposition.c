/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/exporter/exposition.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "vmsig/vmsig.h"

#define NS_PER_S 1000000000u

/* ---- words ---- */

static bool is_name(const char *name)
{
	if (!isalpha((unsigned char)name[0]) && name[0] != '_')
		return false;
	for (const char *c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && *c != '_')
			return false;
	}
	return true;
}

/* Of a value in quotes, or of a help text, where a quote stands for itself. What is not ASCII might
 * be no UTF-8 either, for which Prometheus would refuse all of the look. */
static void put_escaped(FILE *to, const char *text, bool quoted)
{
	for (const char *c = text; *c; c++) {
		if (*c == '\n')
			fputs("\\n", to);
		else if (*c == '\\' || (*c == '"' && quoted))
			fprintf(to, "\\%c", *c);
		else
			fputc((unsigned char)*c < 0x80 ? *c : '?', to);
	}
}

static void put_label(FILE *to, const char *name, const char *value, bool *opened)
{
	fprintf(to, "%s%s=\"", *opened ? "," : "{", name);
	put_escaped(to, value, true);
	fputc('"', to);
	*opened = true;
}

static void put_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s ", name);
	put_escaped(to, help, false);
	fprintf(to, "\n# TYPE %s %s\n", name, type);
}

/* ---- the broker's metrics ---- */

static bool is_seconds(const char *name)
{
	static const char end[] = "_seconds";
	size_t len = strlen(name);

	return len >= sizeof(end) - 1 && strcmp(name + len - (sizeof(end) - 1), end) == 0;
}

static void put_seconds(FILE *to, uint64_t ns)
{
	fprintf(to, "%" PRIu64 ".%09" PRIu64, ns / NS_PER_S, ns % NS_PER_S);
}

static void put_series(FILE *to, const Vmsig__Metric *metric, const char *end,
	const Vmsig__Sample *sample, const uint64_t *upper_ns)
{
	bool opened = false;

	fprintf(to, "%s%s", metric->name, end);
	for (size_t i = 0; i < sample->n_labels; i++) {
		if (is_name(sample->labels[i]->name))
			put_label(to, sample->labels[i]->name, sample->labels[i]->value, &opened);
	}
	if (upper_ns) {
		fputs(opened ? ",le=\"" : "{le=\"", to);
		if (*upper_ns == UINT64_MAX)
			fputs("+Inf", to);
		else
			put_seconds(to, *upper_ns);
		fputc('"', to);
		opened = true;
	}
	fputs(opened ? "} " : " ", to);
}

static void put_histogram(FILE *to, const Vmsig__Metric *metric, const Vmsig__Sample *sample)
{
	const uint64_t above = UINT64_MAX;
	const Vmsig__Histogram *histogram = sample->histogram;
	uint64_t below = 0;

	if (!histogram)
		return;
	for (size_t i = 0; i < histogram->n_counts && i < histogram->n_upper_ns; i++) {
		below += histogram->counts[i];
		if (histogram->upper_ns[i] == UINT64_MAX)
			continue;
		put_series(to, metric, "_bucket", sample, &histogram->upper_ns[i]);
		fprintf(to, "%" PRIu64 "\n", below);
	}
	put_series(to, metric, "_bucket", sample, &above);
	fprintf(to, "%" PRIu64 "\n", histogram->count);
	put_series(to, metric, "_sum", sample, NULL);
	put_seconds(to, histogram->sum_ns);
	fputc('\n', to);
	put_series(to, metric, "_count", sample, NULL);
	fprintf(to, "%" PRIu64 "\n", histogram->count);
}

static void put_value(FILE *to, const Vmsig__Metric *metric, const Vmsig__Sample *sample)
{
	put_series(to, metric, "", sample, NULL);
	if (is_seconds(metric->name))
		put_seconds(to, sample->value);
	else
		fprintf(to, "%" PRIu64, sample->value);
	fputc('\n', to);
}

void exposition_metric(FILE *to, const Vmsig__Metric *metric)
{
	static const char *const types[] = {[VMSIG__METRIC__TYPE__COUNTER] = "counter",
		[VMSIG__METRIC__TYPE__GAUGE] = "gauge",
		[VMSIG__METRIC__TYPE__HISTOGRAM] = "histogram"};
	size_t type = (size_t)metric->type;

	if (!is_name(metric->name) || type >= sizeof(types) / sizeof(types[0]))
		return;
	put_family(to, metric->name, types[type], metric->help);
	for (size_t i = 0; i < metric->n_samples; i++) {
		if (metric->type == VMSIG__METRIC__TYPE__HISTOGRAM)
			put_histogram(to, metric, metric->samples[i]);
		else
			put_value(to, metric, metric->samples[i]);
	}
}

void exposition_gauge(FILE *to, const char *name, const char *help, double value)
{
	put_family(to, name, "gauge", help);
	fprintf(to, "%s %.9g\n", name, value);
}

/* ---- endpoints ---- */

/* Of one endpoint: a number of 4 or 8 bytes. */
#define MEMBER(name) offsetof(Vmsig__Hosted, name), sizeof(((Vmsig__Hosted *)0)->name)

static const struct {
	const char *name, *type, *help;
	size_t at, size;
} families[] = {
	{"vmsig_endpoint_epoch", "gauge", "The endpoint's epoch", MEMBER(epoch)},
	{"vmsig_endpoint_subscribers", "gauge", "Connections that are told of it",
		MEMBER(subscribers)},
	{"vmsig_endpoint_leases", "gauge", "Leases of it", MEMBER(leases)},
	{"vmsig_endpoint_waiters", "gauge", "Requests for leases of it that wait", MEMBER(waiters)},
	{"vmsig_endpoint_writes_total", "counter", "Write commands that changed bytes",
		MEMBER(writes)},
	{"vmsig_endpoint_written_bytes_total", "counter", "Bytes that they changed",
		MEMBER(written_bytes)},
	{"vmsig_endpoint_refused_total", "counter", "Write commands that were refused",
		MEMBER(refused)},
};

static uint64_t number_of(const Vmsig__Hosted *endpoint, size_t family)
{
	const char *at = (const char *)endpoint + families[family].at;
	uint64_t wide;
	uint32_t narrow;

	if (families[family].size == sizeof(narrow)) {
		memcpy(&narrow, at, sizeof(narrow));
		return narrow;
	}
	memcpy(&wide, at, sizeof(wide));
	return wide;
}

static void put_states(FILE *to, Vmsig__Hosted *const *endpoints, size_t n)
{
	put_family(to, "vmsig_endpoint_state", "gauge", "Always 1; the label is the state");
	for (size_t i = 0; i < n; i++) {
		bool opened = false;

		fputs("vmsig_endpoint_state", to);
		put_label(to, "endpoint", endpoints[i]->name, &opened);
		put_label(to, "adapter", endpoints[i]->adapter, &opened);
		put_label(to, "state", vmsig_state_name(endpoints[i]->state), &opened);
		fputs("} 1\n", to);
	}
}

void exposition_endpoints(FILE *to, Vmsig__Hosted *const *endpoints, size_t n)
{
	put_states(to, endpoints, n);
	for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++) {
		put_family(to, families[f].name, families[f].type, families[f].help);
		for (size_t i = 0; i < n; i++) {
			bool opened = false;

			fputs(families[f].name, to);
			put_label(to, "endpoint", endpoints[i]->name, &opened);
			fprintf(to, "} %" PRIu64 "\n", number_of(endpoints[i], f));
		}
	}
}
