/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/exporter/scrape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/exporter/exposition.h"
#include "clients/lib/ask.h"

#define NS_PER_MS 1000000
#define MS_PER_S 1000

void scrape_end(struct scrape *scrape)
{
	scrape->admin = vmsig_admin_close(scrape->admin);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

/* Of this look's time; at least a moment, so that no question is asked without end. */
static uint32_t left_ms(const struct scrape *scrape)
{
	int64_t left = scrape->until_ms - now_ms();

	return left > 0 ? (uint32_t)left : 1;
}

static int ask(struct scrape *scrape, Vmsig__AdminRequest__BodyCase body_case, void *body,
	Vmsig__AdminMessage__BodyCase wanted, const Vmsig__AdminMessage **ret_answer)
{
	int r = ask_admin(scrape->admin, body_case, body, wanted, ret_answer, (int)left_ms(scrape));

	if (r)
		snprintf(scrape->failure, sizeof(scrape->failure), "%s",
			vmsig_admin_last_error(scrape->admin));
	return r;
}

static int put_stats(struct scrape *scrape, FILE *to)
{
	Vmsig__StatsQuery body = VMSIG__STATS_QUERY__INIT;
	const Vmsig__AdminMessage *answer;
	int r = ask(scrape, VMSIG__ADMIN_REQUEST__BODY_STATS_QUERY, &body,
		VMSIG__ADMIN_MESSAGE__BODY_STATS, &answer);

	for (size_t i = 0; !r && i < answer->stats->n_metrics; i++)
		exposition_metric(to, answer->stats->metrics[i]);
	return r;
}

/* ---- endpoints, page by page ---- */

struct pages {
	Vmsig__Hosted **endpoints; /* each is owned */
	size_t n;
};

static void pages_free(struct pages *pages)
{
	for (size_t i = 0; i < pages->n; i++)
		vmsig__hosted__free_unpacked(pages->endpoints[i], NULL);
	free(pages->endpoints);
}

/* The answer is the connection's until the next question: packed and unpacked once more. */
static Vmsig__Hosted *copy(const Vmsig__Hosted *endpoint)
{
	size_t len = vmsig__hosted__get_packed_size(endpoint);
	uint8_t *packed = malloc(len ? len : 1);
	Vmsig__Hosted *result = NULL;

	if (packed) {
		vmsig__hosted__pack(endpoint, packed);
		result = vmsig__hosted__unpack(NULL, len, packed);
	}
	free(packed);
	return result;
}

static int pages_add(struct pages *pages, const Vmsig__HostedInfos *page)
{
	Vmsig__Hosted **grown = reallocarray(
		pages->endpoints, pages->n + page->n_endpoints + 1, sizeof(*pages->endpoints));

	if (!grown)
		return -VMSIG_ERR_NO_MEMORY;
	pages->endpoints = grown;
	for (size_t i = 0; i < page->n_endpoints; i++) {
		grown[pages->n] = copy(page->endpoints[i]);
		if (!grown[pages->n])
			return -VMSIG_ERR_NO_MEMORY;
		pages->n++;
	}
	return 0;
}

static int put_endpoints(struct scrape *scrape, FILE *to)
{
	Vmsig__HostedList body = VMSIG__HOSTED_LIST__INIT;
	const Vmsig__AdminMessage *answer;
	struct pages pages = {0};
	bool more = true;
	int r = 0;

	while (!r && more && pages.n < SCRAPE_ENDPOINTS_MAX) {
		if (pages.n)
			body.after = pages.endpoints[pages.n - 1]->name;
		r = ask(scrape, VMSIG__ADMIN_REQUEST__BODY_HOSTED_LIST, &body,
			VMSIG__ADMIN_MESSAGE__BODY_HOSTED_INFOS, &answer);
		if (r)
			break;
		/* A page without endpoints would be asked for again and again. */
		more = answer->hosted_infos->more && answer->hosted_infos->n_endpoints;
		r = pages_add(&pages, answer->hosted_infos);
	}
	if (!r)
		exposition_endpoints(to, pages.endpoints, pages.n);
	pages_free(&pages);
	return r;
}

/* ---- a look ---- */

/* One attempt: a broker that is away is told, not waited for. */
static int connect_to(struct scrape *scrape)
{
	vmsig_options options = scrape->options;

	if (scrape->admin)
		return 0;
	options.flags |= VMSIG_OPT_NO_RECONNECT;
	options.connect_timeout_ms = left_ms(scrape);
	options.request_timeout_ms = left_ms(scrape);
	return vmsig_admin_open(&scrape->admin, &options, scrape->failure, sizeof(scrape->failure));
}

static int put_all(struct scrape *scrape, FILE *to)
{
	int r = connect_to(scrape);

	if (!r)
		r = put_stats(scrape, to);
	if (!r)
		r = put_endpoints(scrape, to);
	return r;
}

/* What a look that failed had come to is not told: half a family is worse than none. */
char *scrape_take(struct scrape *scrape, size_t *ret_len)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, ret_len);
	bool kept = scrape->admin != NULL;
	int64_t began_ms = now_ms();
	int r;

	if (!to)
		return NULL;
	scrape->until_ms = began_ms + SCRAPE_MS;
	scrape->failure[0] = '\0';
	r = put_all(scrape, to);
	if (r && kept) {
		/* The broker may have been started anew since the last look. */
		scrape_end(scrape);
		rewind(to);
		r = put_all(scrape, to);
	}
	if (r) {
		scrape_end(scrape);
		rewind(to);
	}
	exposition_gauge(to, "vmsig_up", "Whether the broker answered", r == 0);
	exposition_gauge(to, "vmsig_scrape_duration_seconds", "How long it was asked for this",
		(double)(now_ms() - began_ms) / MS_PER_S);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}
