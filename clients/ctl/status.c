/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl status`, `stats` and `reload`: the broker as a whole. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/admin.h"
#include "clients/ctl/hosted.h"
#include "clients/ctl/message.h"

#define LINE_MAX_BYTES 512

/* Nothing that a terminal obeys comes from the broker's words about others. */
static void print_clean(const char *label, const char *words)
{
	char text[LINE_MAX_BYTES];

	snprintf(text, sizeof(text), "%s", words);
	text_clean(text);
	printf("%-11s%s\n", label, text);
}

/* Asks without any argument; the answer is printed by `print`, or as JSON. */
struct question {
	const struct ctl_command *command;
	Vmsig__AdminRequest__BodyCase body_case;
	void *body;
	Vmsig__AdminMessage__BodyCase wanted;
	const char *what;
	int (*print)(const Vmsig__AdminMessage *answer);
	/* What is asked besides: printed, or with `json` added to that; NULL: nothing. */
	int (*add)(const struct ctl *ctl, vmsig_admin *admin, json_t *json);
};

static const ProtobufCMessage *body_of(const Vmsig__AdminMessage *answer)
{
	/* Whichever it is: the union's members are pointers. */
	return (const ProtobufCMessage *)answer->status;
}

static int tell(const struct ctl *ctl, const struct question *question, vmsig_admin *admin,
	const Vmsig__AdminMessage *answer)
{
	json_t *json = ctl->json ? ctl_message_json(body_of(answer)) : NULL;
	int code = ctl->json ? EXIT_OK : question->print(answer);

	if (!code && question->add)
		code = question->add(ctl, admin, json);
	if (code || !json) {
		json_decref(json);
		return code;
	}
	return ctl_print_json(json);
}

static int ask(const struct ctl *ctl, const struct question *question)
{
	const Vmsig__AdminMessage *answer;
	vmsig_admin *admin;
	int code = ctl_admin_connect(ctl, &admin);

	if (code)
		return code;
	code = ctl_admin_ask(ctl, admin, question->body_case, question->body, question->wanted,
		&answer, question->what);
	if (!code)
		code = tell(ctl, question, admin, answer);
	vmsig_admin_close(admin);
	return code;
}

static int run(struct ctl *ctl, int argc, char **argv, const struct question *question)
{
	int code = ctl_options(ctl, question->command, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(question->command, "it takes no arguments");
	return ask(ctl, question);
}

/* ---- status ---- */

static void print_age(uint64_t ms, char *buf, size_t size)
{
	uint64_t seconds = ms / 1000;

	if (seconds < 120)
		snprintf(buf, size, "%" PRIu64 " s", seconds);
	else if (seconds < 7200)
		snprintf(buf, size, "%" PRIu64 " min", seconds / 60);
	else if (seconds < 2 * 86400)
		snprintf(buf, size, "%" PRIu64 " h", seconds / 3600);
	else
		snprintf(buf, size, "%" PRIu64 " d", seconds / 86400);
}

static void print_reloads(const Vmsig__Status *status)
{
	char age[32];

	if (!status->reloads)
		return;
	print_age(status->reload_ms, age, sizeof(age));
	printf("%-11s%" PRIu64 ", the last one %s ago%s\n", "reloads", status->reloads, age,
		status->reload_error[0] ? ": it failed" : "");
}

static int print_status(const Vmsig__AdminMessage *answer)
{
	const Vmsig__Status *status = answer->status;
	char age[32];

	print_age(status->uptime_ms, age, sizeof(age));
	print_clean("version", status->version);
	printf("%-11s%u, up %s\n", "pid", status->pid, age);
	print_clean("config", status->config);
	printf("%-11s%u, %u of them ready\n", "endpoints", status->endpoints, status->ready);
	if (status->unserved)
		printf("%-11s%u; see `vmsigctl endpoint ls` for why\n", "unserved",
			status->unserved);
	printf("%-11s%u, %u waiting\n", "leases", status->leases, status->waiters);
	printf("%-11s%u\n", "clients", status->clients);
	printf("%-11s%u\n", "tenants", status->tenants);
	print_reloads(status);
	for (size_t i = 0; i < status->n_warnings; i++)
		print_clean("warning", status->warnings[i]);
	return ctl_flush();
}

/* Guests that were migrated to other hosts, and to which. */
static int add_moved(const struct ctl *ctl, vmsig_admin *admin, json_t *json)
{
	struct hosted_list list = {0};
	json_t *array = json ? json_array() : NULL;
	char line[LINE_MAX_BYTES];
	int code = ctl_hosted_list(ctl, admin, &list);

	for (size_t i = 0; !code && i < list.n; i++) {
		const Vmsig__Hosted *endpoint = list.endpoints[i];

		if (endpoint->state != VMSIG_STATE_MOVED)
			continue;
		snprintf(line, sizeof(line), "%s: %s", endpoint->name, endpoint->detail);
		if (json)
			json_array_append_new(
				array, json_pack("{s:s, s:s}", "endpoint", endpoint->name, "detail",
					       endpoint->detail));
		else
			print_clean("moved", line);
	}
	ctl_hosted_clear(&list);
	if (json)
		json_object_set_new(json, "moved", array);
	return code ? code : ctl_flush();
}

static int run_status(struct ctl *ctl, int argc, char **argv)
{
	static Vmsig__StatusQuery body = VMSIG__STATUS_QUERY__INIT;
	static const struct question question = {.command = &ctl_status,
		.body_case = VMSIG__ADMIN_REQUEST__BODY_STATUS_QUERY,
		.body = &body,
		.wanted = VMSIG__ADMIN_MESSAGE__BODY_STATUS,
		.what = "cannot ask for the status",
		.print = print_status,
		.add = add_moved};

	return run(ctl, argc, argv, &question);
}

const struct ctl_command ctl_status = {
	.name = "status",
	.arguments = "",
	.summary = "Show how the broker does, and what it warns of, as an administrator",
	.help = "Counts are of the endpoints that the administrator may see. In a fleet, moved "
		"are\n"
		"guests that were migrated from here, and where to.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl status --identity admin\n"
		"  vmsigctl status --json | jq '.warnings[]'\n",
	.run = run_status,
};

/* ---- stats ---- */

static void sample_name(
	const Vmsig__Metric *metric, const Vmsig__Sample *sample, char *buf, size_t size)
{
	int len = snprintf(buf, size, "%s", metric->name);

	for (size_t i = 0; i < sample->n_labels && len > 0 && (size_t)len < size; i++)
		len += snprintf(buf + len, size - (size_t)len, "%s%s=\"%s\"%s", i ? "," : "{",
			sample->labels[i]->name, sample->labels[i]->value,
			i + 1 == sample->n_labels ? "}" : "");
}

/* The upper bound of the bucket that the part `q` of all is in. */
static uint64_t quantile_us(const Vmsig__Histogram *histogram, double q)
{
	uint64_t seen = 0, wanted = (uint64_t)(q * (double)histogram->count);

	for (size_t i = 0; i < histogram->n_counts && i < histogram->n_upper_ns; i++) {
		seen += histogram->counts[i];
		if (seen > wanted || seen == histogram->count)
			return histogram->upper_ns[i] / 1000;
	}
	return 0;
}

static bool ends_with(const char *name, const char *end)
{
	size_t len = strlen(name), part = strlen(end);

	return len >= part && strcmp(name + len - part, end) == 0;
}

static void sample_print(const Vmsig__Metric *metric, const Vmsig__Sample *sample)
{
	const Vmsig__Histogram *histogram = sample->histogram;
	char name[LINE_MAX_BYTES];

	sample_name(metric, sample, name, sizeof(name));
	text_clean(name);
	if (histogram && !histogram->count)
		printf("%-60s none\n", name);
	else if (histogram)
		printf("%-60s %" PRIu64 ", p50 %" PRIu64 " us, p99 %" PRIu64 " us\n", name,
			histogram->count, quantile_us(histogram, 0.5),
			quantile_us(histogram, 0.99));
	else if (ends_with(metric->name, "_seconds"))
		printf("%-60s %.6f\n", name, (double)sample->value / 1e9);
	else
		printf("%-60s %" PRIu64 "\n", name, sample->value);
}

static int print_stats(const Vmsig__AdminMessage *answer)
{
	for (size_t i = 0; i < answer->stats->n_metrics; i++) {
		const Vmsig__Metric *metric = answer->stats->metrics[i];

		for (size_t j = 0; j < metric->n_samples; j++)
			sample_print(metric, metric->samples[j]);
	}
	return ctl_flush();
}

static int run_stats(struct ctl *ctl, int argc, char **argv)
{
	static Vmsig__StatsQuery body = VMSIG__STATS_QUERY__INIT;
	static const struct question question = {.command = &ctl_stats,
		.body_case = VMSIG__ADMIN_REQUEST__BODY_STATS_QUERY,
		.body = &body,
		.wanted = VMSIG__ADMIN_MESSAGE__BODY_STATS,
		.what = "cannot ask for statistics",
		.print = print_stats};

	return run(ctl, argc, argv, &question);
}

const struct ctl_command ctl_stats = {
	.name = "stats",
	.arguments = "",
	.summary = "Show all that the broker counts, as an administrator of everything",
	.help = "Names are those of the Prometheus exporter. In JSON, values of what ends with\n"
		"_seconds are nanoseconds, and histograms have all of their buckets.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl stats --identity admin | grep refusals\n",
	.run = run_stats,
};

/* ---- reload ---- */

static int print_reloaded(const Vmsig__AdminMessage *answer)
{
	static const char *const marks[] = {"+", "-", "~"};
	const Vmsig__Reloaded *reloaded = answer->reloaded;
	char text[LINE_MAX_BYTES];

	for (size_t i = 0; i < reloaded->n_changes; i++) {
		const Vmsig__Change *change = reloaded->changes[i];

		snprintf(text, sizeof(text), "%s %s %s%s%s", marks[(unsigned)change->kind % 3],
			change->section, change->name, change->detail[0] ? ": " : "",
			change->detail);
		text_clean(text);
		puts(text);
	}
	for (size_t i = 0; i < reloaded->n_counts; i++) {
		const Vmsig__ChangeCount *count = reloaded->counts[i];

		if (count->added || count->removed || count->changed)
			printf("%s: %u added, %u removed, %u changed\n", count->section,
				count->added, count->removed, count->changed);
	}
	if (!reloaded->n_changes)
		puts("reloaded; the configuration is the same (keys and revocations were read)");
	return ctl_flush();
}

static int run_reload(struct ctl *ctl, int argc, char **argv)
{
	static Vmsig__Reload body = VMSIG__RELOAD__INIT;
	static const struct question question = {.command = &ctl_reload,
		.body_case = VMSIG__ADMIN_REQUEST__BODY_RELOAD,
		.body = &body,
		.wanted = VMSIG__ADMIN_MESSAGE__BODY_RELOADED,
		.what = "the old configuration stays",
		.print = print_reloaded};

	return run(ctl, argc, argv, &question);
}

const struct ctl_command ctl_reload = {
	.name = "reload",
	.arguments = "",
	.summary =
		"Have the broker read its configuration again, as an administrator of everything",
	.help = "All of it holds from then on, or nothing of it: policy, limits, sockets, keys "
		"and\n"
		"revocations. What changed is listed (+ added, - removed, ~ changed); an error\n"
		"names the file and the line.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl policy check vmsigd.yaml && vmsigctl reload --identity admin\n",
	.run = run_reload,
};
