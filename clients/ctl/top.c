/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmsigctl top`: a live view of the broker's endpoints, their epochs, holders, leases, write rates
 * and drops. Rates are between two looks.
 */
#include <curses.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients/ctl/admin.h"
#include "clients/ctl/hosted.h"
#include "clients/ctl/message.h"
#include "clients/lib/ask.h"

#define INTERVAL_MS 1000u
#define INTERVAL_LEAST_MS 50u
#define HEAD_LINES 4 /* above the rows */
#define ROW_MAX 256

/* One look at the broker. */
struct look {
	uint64_t at_ns;
	struct hosted_list list;
	Vmsig__Status *status;
	bool counted; /* what follows is known: the administrator sees everything */
	uint64_t refusals, closed, log_drops;
};

enum order { BY_WRITES, BY_NAME, BY_HOLDERS };

/* An endpoint between two looks. */
struct row {
	const Vmsig__Hosted *endpoint;
	double writes, bytes, refused; /* a second */
};

struct top {
	const struct ctl *ctl;
	vmsig_admin *admin;
	uint32_t interval_ms;
	bool once;
	struct look before, now;
	struct row *rows;
	enum order order;
	size_t first; /* row that is shown */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- looking ---- */

static void look_clear(struct look *look)
{
	ctl_hosted_clear(&look->list);
	if (look->status)
		vmsig__status__free_unpacked(look->status, NULL);
	*look = (struct look){0};
}

static int look_status(struct top *top, struct look *look)
{
	Vmsig__StatusQuery body = VMSIG__STATUS_QUERY__INIT;
	const Vmsig__AdminMessage *answer;
	int code = ctl_admin_ask(top->ctl, top->admin, VMSIG__ADMIN_REQUEST__BODY_STATUS_QUERY,
		&body, VMSIG__ADMIN_MESSAGE__BODY_STATUS, &answer, "cannot ask for the status");
	uint8_t *packed;
	size_t len;

	if (code)
		return code;
	len = protobuf_c_message_get_packed_size(&answer->status->base);
	packed = malloc(len ? len : 1);
	if (packed) {
		protobuf_c_message_pack(&answer->status->base, packed);
		look->status = vmsig__status__unpack(NULL, len, packed);
	}
	free(packed);
	return look->status ? EXIT_OK : ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot show the status");
}

static uint64_t sum_of(const Vmsig__Stats *stats, const char *name)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < stats->n_metrics; i++) {
		const Vmsig__Metric *metric = stats->metrics[i];

		for (size_t j = 0; strcmp(metric->name, name) == 0 && j < metric->n_samples; j++)
			sum += metric->samples[j]->value;
	}
	return sum;
}

/* Whoever sees a part of the endpoints only is not told. */
static void look_drops(struct top *top, struct look *look)
{
	Vmsig__StatsQuery body = VMSIG__STATS_QUERY__INIT;
	const Vmsig__AdminMessage *answer;

	if (ask_admin(top->admin, VMSIG__ADMIN_REQUEST__BODY_STATS_QUERY, &body,
		    VMSIG__ADMIN_MESSAGE__BODY_STATS, &answer, (int)top->ctl->wait_ms))
		return;
	look->counted = true;
	look->refusals = sum_of(answer->stats, "vmsig_refusals_total");
	look->closed = sum_of(answer->stats, "vmsig_connections_closed_total");
	look->log_drops = sum_of(answer->stats, "vmsig_log_dropped_total");
}

static int look_again(struct top *top)
{
	int code;

	look_clear(&top->before);
	top->before = top->now;
	top->now = (struct look){.at_ns = now_ns()};
	code = look_status(top, &top->now);
	if (!code)
		code = ctl_hosted_list(top->ctl, top->admin, &top->now.list);
	if (!code)
		look_drops(top, &top->now);
	return code;
}

/* ---- rows ---- */

static double rate(uint64_t before, uint64_t now, double seconds)
{
	return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

/* Both lists are sorted by name. */
static const Vmsig__Hosted *find_before(
	const struct hosted_list *list, const char *name, size_t *at)
{
	while (*at < list->n && strcmp(list->endpoints[*at]->name, name) < 0)
		(*at)++;
	return *at < list->n && strcmp(list->endpoints[*at]->name, name) == 0 ? list->endpoints[*at]
									      : NULL;
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct row *x = a, *y = b;
	int r = 0;

	switch (*(const enum order *)arg) {
	case BY_WRITES:
		r = (x->writes < y->writes) - (x->writes > y->writes);
		break;
	case BY_HOLDERS:
		r = (x->endpoint->subscribers < y->endpoint->subscribers) -
		    (x->endpoint->subscribers > y->endpoint->subscribers);
		break;
	case BY_NAME:
		break;
	}
	return r ? r : strcmp(x->endpoint->name, y->endpoint->name);
}

static int rows_make(struct top *top)
{
	const struct hosted_list *list = &top->now.list;
	double seconds = (double)(top->now.at_ns - top->before.at_ns) / 1e9;
	struct row *rows = realloc(top->rows, (list->n + 1) * sizeof(*rows));
	size_t at = 0;

	if (!rows)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot show the endpoints");
	top->rows = rows;
	for (size_t i = 0; i < list->n; i++) {
		const Vmsig__Hosted *now = list->endpoints[i];
		const Vmsig__Hosted *before = find_before(&top->before.list, now->name, &at);

		rows[i] = (struct row){.endpoint = now};
		if (!before)
			continue;
		rows[i].writes = rate(before->writes, now->writes, seconds);
		rows[i].bytes = rate(before->written_bytes, now->written_bytes, seconds);
		rows[i].refused = rate(before->refused, now->refused, seconds);
	}
	qsort_r(rows, list->n, sizeof(*rows), compare, &top->order);
	return EXIT_OK;
}

static const char row_head[] = "NAME                 STATE         EPOCH HOLDERS LEASES WAITING  "
			       "WRITES/S     KiB/S REFUSED/S";

static void row_text(const struct row *row, char text[static ROW_MAX])
{
	const Vmsig__Hosted *endpoint = row->endpoint;

	snprintf(text, ROW_MAX, "%-20.63s %-11s %7u %7u %6u %7u %9.1f %9.1f %9.1f", endpoint->name,
		vmsig_state_name(endpoint->state), endpoint->epoch, endpoint->subscribers,
		endpoint->leases, endpoint->waiters, row->writes, row->bytes / 1024.0,
		row->refused);
	text_clean(text);
}

static void head_text(const struct top *top, char one[static ROW_MAX], char two[static ROW_MAX])
{
	const Vmsig__Status *status = top->now.status;

	snprintf(one, ROW_MAX,
		"vmsigd %s, up %" PRIu64 " s: %u endpoint%s, %u ready; %u lease%s, %u waiting; "
		"%u client%s of %u tenant%s",
		status->version, status->uptime_ms / 1000, status->endpoints,
		text_plural(status->endpoints), status->ready, status->leases,
		text_plural(status->leases), status->waiters, status->clients,
		text_plural(status->clients), status->tenants, text_plural(status->tenants));
	if (top->now.counted)
		snprintf(two, ROW_MAX,
			"dropped: %" PRIu64 " requests refused, %" PRIu64 " connections closed, "
			"%" PRIu64 " log records%s%s",
			top->now.refusals, top->now.closed, top->now.log_drops,
			status->n_warnings ? "; warning: " : "",
			status->n_warnings ? status->warnings[0] : "");
	else
		snprintf(two, ROW_MAX, "%s", status->n_warnings ? status->warnings[0] : "");
	text_clean(one);
	text_clean(two);
}

/* ---- once ---- */

static json_t *row_json(const struct row *row)
{
	json_t *json = ctl_hosted_json(row->endpoint);

	json_object_set_new(json, "writes_per_second", json_real(row->writes));
	json_object_set_new(json, "bytes_per_second", json_real(row->bytes));
	json_object_set_new(json, "refused_per_second", json_real(row->refused));
	return json;
}

static int print_json(const struct top *top)
{
	json_t *endpoints = json_array(), *json;

	for (size_t i = 0; i < top->now.list.n; i++)
		json_array_append_new(endpoints, row_json(&top->rows[i]));
	json = json_pack("{s:o, s:o}", "status", ctl_message_json(&top->now.status->base),
		"endpoints", endpoints);
	if (top->now.counted)
		json_object_set_new(json, "drops",
			json_pack("{s:I, s:I, s:I}", "refusals", (json_int_t)top->now.refusals,
				"connections", (json_int_t)top->now.closed, "log",
				(json_int_t)top->now.log_drops));
	return ctl_print_json(json);
}

static int print_text(const struct top *top)
{
	char one[ROW_MAX], two[ROW_MAX];

	head_text(top, one, two);
	printf("%s\n%s\n\n%s\n", one, two, row_head);
	for (size_t i = 0; i < top->now.list.n; i++) {
		row_text(&top->rows[i], one);
		puts(one);
	}
	return ctl_flush();
}

static int run_once(struct top *top)
{
	int code = look_again(top);

	if (!code)
		usleep(top->interval_ms * 1000);
	if (!code)
		code = look_again(top);
	if (!code)
		code = rows_make(top);
	if (code)
		return code;
	return top->ctl->json ? print_json(top) : print_text(top);
}

/* ---- live ---- */

/* By a signal. */
static volatile sig_atomic_t told_to_end;

static void on_signal(int number)
{
	(void)number;
	told_to_end = 1;
}

/* Ctrl-C ends the view as `q` does: curses would say that something went wrong. */
static void end_on_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static size_t page_rows(void)
{
	return LINES > HEAD_LINES + 1 ? (size_t)(LINES - HEAD_LINES) : 1;
}

static void draw(struct top *top)
{
	char one[ROW_MAX], two[ROW_MAX];
	size_t n = top->now.list.n;

	if (top->first + page_rows() > n)
		top->first = n > page_rows() ? n - page_rows() : 0;
	head_text(top, one, two);
	erase();
	mvaddnstr(0, 0, one, COLS);
	mvaddnstr(1, 0, two, COLS);
	attron(A_REVERSE);
	mvaddnstr(HEAD_LINES - 1, 0, row_head, COLS);
	attroff(A_REVERSE);
	for (size_t i = 0; i < page_rows() && top->first + i < n; i++) {
		const struct row *row = &top->rows[top->first + i];
		bool ready = row->endpoint->state == VMSIG_STATE_READY;

		row_text(row, one);
		if (!ready)
			attron(A_BOLD);
		mvaddnstr(HEAD_LINES + (int)i, 0, one, COLS);
		attroff(A_BOLD);
	}
	refresh();
}

/* Whether it is to go on. */
static bool on_key(struct top *top, int key)
{
	switch (key) {
	case 'q':
		return false;
	case 'n':
		top->order = BY_NAME;
		break;
	case 'w':
		top->order = BY_WRITES;
		break;
	case 'h':
		top->order = BY_HOLDERS;
		break;
	case KEY_DOWN:
		top->first++;
		break;
	case KEY_UP:
		top->first -= top->first > 0;
		break;
	case KEY_NPAGE:
		top->first += page_rows();
		break;
	case KEY_PPAGE:
		top->first -= top->first < page_rows() ? top->first : page_rows();
		break;
	default:
		break;
	}
	return true;
}

/* Keys, until it is time to look again. Whether it is to go on. */
static bool wait_keys(struct top *top)
{
	uint64_t until_ns = now_ns() + top->interval_ms * 1000000ull, at_ns;

	while (!told_to_end && (at_ns = now_ns()) < until_ns) {
		int key;

		timeout((int)((until_ns - at_ns) / 1000000u) + 1);
		key = getch();
		if (key == ERR)
			continue;
		if (!on_key(top, key))
			return false;
		if (rows_make(top))
			return false;
		draw(top);
	}
	return !told_to_end;
}

static int run_live(struct top *top)
{
	int code = look_again(top);
	bool goes_on = true;

	if (code)
		return code;
	setlocale(LC_CTYPE, "");
	end_on_signals();
	if (!newterm(NULL, stdout, stdin))
		return ctl_fail(VMSIG_ERR_IO, "the terminal is not known; set TERM, or use --once");
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	while (goes_on && !code) {
		code = rows_make(top);
		if (code)
			break;
		draw(top);
		goes_on = wait_keys(top);
		if (goes_on)
			code = look_again(top);
	}
	endwin();
	if (told_to_end)
		return EXIT_OK;
	/* What was said meanwhile went with the view. */
	if (code)
		code = ctl_fail(VMSIG_ERR_DISCONNECTED, "the view has ended: %s",
			vmsig_admin_last_error(top->admin));
	return code;
}

/* ---- the command ---- */

enum { OPT_ONCE = CTL_OPT_FIRST, OPT_INTERVAL };

static bool handle_top(void *ctx, int code, const char *value)
{
	struct top *top = ctx;

	if (code == OPT_ONCE) {
		top->once = true;
		return true;
	}
	return text_duration(value, &top->interval_ms) && top->interval_ms >= INTERVAL_LEAST_MS;
}

static int run_top(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"once", no_argument, NULL, OPT_ONCE},
		{"interval", required_argument, NULL, OPT_INTERVAL}, {NULL, 0, NULL, 0}};
	struct top top = {.ctl = ctl, .interval_ms = INTERVAL_MS};
	int code = ctl_options(ctl, &ctl_top, argc, argv, own, handle_top, &top);

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(&ctl_top, "it takes no arguments");
	if (!top.once && (ctl->json || !isatty(STDOUT_FILENO)))
		return ctl_usage(&ctl_top, "without a terminal it needs --once");
	code = ctl_admin_connect(ctl, &top.admin);
	if (code)
		return code;
	code = top.once ? run_once(&top) : run_live(&top);
	look_clear(&top.before);
	look_clear(&top.now);
	free(top.rows);
	vmsig_admin_close(top.admin);
	return code;
}

const struct ctl_command ctl_top = {
	.name = "top",
	.arguments = "[--once] [--interval T]",
	.summary =
		"Watch endpoints: epochs, holders, leases, write rates, drops, as an administrator",
	.help = "  --once        print it once, as text or JSON, after one interval\n"
		"  --interval T  between two looks (default 1s)\n"
		"\n"
		"Keys: q ends; w, n, h sort by writes, name, holders; arrows and pages scroll.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl top --identity admin\n"
		"  vmsigctl top --once --json | jq '.endpoints[] | select(.leases > 0)'\n",
	.run = run_top,
};
