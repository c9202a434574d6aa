/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the broker does: a few words (status), and all that it counts (stats), by the table of
 * broker/metrics.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/metrics/metrics.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "broker/read/core.h"
#include "broker/write/desk.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

static char *text(const char *words)
{
	return (char *)(uintptr_t)words;
}

/* ---- status ---- */

static void count_endpoints(const struct admin_client *client, Vmsig__Status *body)
{
	struct core_endpoint_info info;
	size_t cursor = 0;

	while (core_endpoint_next(client->services->read, NULL, &cursor, &info)) {
		if (!admin_sees(client, info.subject))
			continue;
		body->endpoints++;
		body->ready += info.state == VMSIG_STATE_READY;
	}
}

static void count_leases(const struct admin_client *client, Vmsig__Status *body)
{
	struct lease_view lease;
	uint64_t cursor = 0;

	while (client->desk && desk_lease_next(client->desk, &cursor, &lease)) {
		const struct selector_subject *subject =
			desk_endpoint_subject(client->desk, lease.endpoint);

		if (!subject || !admin_sees(client, subject))
			continue;
		if (lease.state == LEASE_WAITING)
			body->waiters++;
		else
			body->leases++;
	}
}

struct unserved_count {
	const struct admin_client *client;
	uint32_t n;
};

static void count_one(void *arg, const struct steward_unserved *one)
{
	struct unserved_count *count = arg;

	count->n += admin_sees(count->client, &one->subject);
}

static uint32_t count_unserved(const struct admin_client *client)
{
	const struct services *services = client->services;
	struct unserved_count count = {.client = client};

	services->steward->unserved(services->ctx, count_one, &count);
	return count.n;
}

/* Names of endpoints and tenants occur in them, whoever may see those. */
static void words_pack(
	const struct admin_client *client, const struct steward_status *status, Vmsig__Status *body)
{
	static char failed[] = "the configuration was not taken; the broker's log says why";

	if (admin_sees_all(client)) {
		body->warnings = (char **)(uintptr_t)status->warnings;
		body->n_warnings = status->nwarnings;
		body->reload_error = text(status->reload_error);
	} else if (status->reload_error[0]) {
		body->reload_error = failed;
	}
}

static void state_pack(const struct steward_status *status, Vmsig__Status *body)
{
	body->pid = (uint32_t)getpid();
	body->uptime_ms = status->uptime_ms;
	body->config = text(status->config);
	body->tenants = status->tenants;
	body->reloads = status->reloads;
	body->reload_ms = status->reload_ms;
}

int report_on_status(void *state, void *message)
{
	static char version[] = VMSIG_VERSION;
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	struct conn *conn = client->base.conn;
	Vmsig__Status body = VMSIG__STATUS__INIT;
	struct steward_status status = {0};

	client->services->steward->status(client->services->ctx, &status);
	state_pack(&status, &body);
	words_pack(client, &status, &body);
	body.version = version;
	body.clients = conn_count(conn);
	count_endpoints(client, &body);
	count_leases(client, &body);
	body.unserved = count_unserved(client);
	return dialect_send(conn, request->request_id, VMSIG__ADMIN_MESSAGE__BODY_STATUS, &body);
}

/* ---- stats ---- */

/* A histogram as its message has it. */
struct packed_histogram {
	Vmsig__Histogram body;
	uint64_t upper[HISTOGRAM_BUCKETS], counts[HISTOGRAM_BUCKETS];
};

struct packed_sample {
	Vmsig__Sample body;
	Vmsig__MetricLabel label, *labels;
};

/* One answer, and all that it points to. */
struct stats_answer {
	Vmsig__Stats body;
	struct metrics metrics;
	Vmsig__Metric kinds[METRICS_IDS], *kind_pointers[METRICS_IDS];
	struct packed_sample samples[METRICS_SAMPLES_MAX];
	Vmsig__Sample *sample_pointers[METRICS_SAMPLES_MAX];
	struct packed_histogram *histograms; /* as many as there are */
	size_t nhistograms;
};

static void histogram_pack(const struct histogram *histogram, struct packed_histogram *packed)
{
	vmsig__histogram__init(&packed->body);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		packed->upper[i] = histogram_upper_ns(i);
		packed->counts[i] = histogram->counts[i];
	}
	packed->body.upper_ns = packed->upper;
	packed->body.counts = packed->counts;
	packed->body.n_upper_ns = packed->body.n_counts = HISTOGRAM_BUCKETS;
	packed->body.count = histogram->count;
	packed->body.sum_ns = histogram->sum_ns;
}

static void sample_pack(struct stats_answer *answer, const struct metrics_sample *sample,
	struct packed_sample *packed)
{
	const struct metrics_kind *kind = metrics_kind(sample->id);

	vmsig__sample__init(&packed->body);
	packed->body.value = sample->value;
	if (sample->histogram) {
		struct packed_histogram *histogram = &answer->histograms[answer->nhistograms++];

		histogram_pack(sample->histogram, histogram);
		packed->body.histogram = &histogram->body;
	}
	if (!kind->label[0])
		return;
	vmsig__metric_label__init(&packed->label);
	packed->label.name = text(kind->label);
	packed->label.value = text(sample->value_of_label);
	packed->labels = &packed->label;
	packed->body.labels = &packed->labels;
	packed->body.n_labels = 1;
}

/* A metric without samples is told of too. */
static void kind_pack(struct stats_answer *answer, enum metrics_id id, size_t *nsamples)
{
	const struct metrics_kind *kind = metrics_kind(id);
	Vmsig__Metric *packed = &answer->kinds[id];

	vmsig__metric__init(packed);
	packed->name = text(kind->name);
	packed->type = (Vmsig__Metric__Type)kind->type;
	packed->help = text(kind->help);
	packed->samples = &answer->sample_pointers[*nsamples];
	for (size_t i = 0; i < answer->metrics.n; i++) {
		const struct metrics_sample *sample = &answer->metrics.samples[i];

		if (sample->id != id)
			continue;
		sample_pack(answer, sample, &answer->samples[*nsamples]);
		answer->sample_pointers[*nsamples] = &answer->samples[*nsamples].body;
		(*nsamples)++;
		packed->n_samples++;
	}
	answer->kind_pointers[id] = packed;
}

static int answer_pack(struct stats_answer *answer)
{
	size_t nsamples = 0, nhistograms = 1;

	for (size_t i = 0; i < answer->metrics.n; i++)
		nhistograms += answer->metrics.samples[i].histogram != NULL;
	answer->histograms = calloc(nhistograms, sizeof(*answer->histograms));
	if (!answer->histograms)
		return -ENOMEM;
	vmsig__stats__init(&answer->body);
	for (int id = 0; id < METRICS_IDS; id++)
		kind_pack(answer, (enum metrics_id)id, &nsamples);
	answer->body.metrics = answer->kind_pointers;
	answer->body.n_metrics = METRICS_IDS;
	return 0;
}

int report_on_stats(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	struct conn *conn = client->base.conn;
	struct stats_answer *answer;
	int r;

	if (!admin_sees_all(client))
		return dialect_error(
			conn, request->request_id, VMSIG_ERR_FORBIDDEN, admin_all_needed());
	answer = calloc(1, sizeof(*answer));
	if (!answer)
		return -ENOMEM;
	client->services->steward->stats(client->services->ctx, &answer->metrics);
	r = answer_pack(answer);
	if (!r)
		r = dialect_send(
			conn, request->request_id, VMSIG__ADMIN_MESSAGE__BODY_STATS, &answer->body);
	free(answer->histograms);
	free(answer);
	return r;
}
