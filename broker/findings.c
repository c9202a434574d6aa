/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/findings.h"

#include <stdlib.h>
#include <string.h>

#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define STEP 4u /* begin together; each some 300 us */

static const char *const faults[] = {
	[FINDINGS_FINE] = "",
	[FINDINGS_NAME] =
		"another endpoint has its name, and keeps it as long as it is there; rename "
		"one of them",
	[FINDINGS_UUID] = "another QEMU of this source has its UUID, and keeps it as long as it is "
			  "there; give each its own -uuid",
	[FINDINGS_NAMELESS] =
		"it has no name that an endpoint can have (1 to 63 of [A-Za-z0-9._-], "
		"first a letter or a digit), and no UUID; start QEMU with -name or "
		"-uuid, or write 'name: file'",
	[FINDINGS_ROOM] =
		"its name is a new one, and the state knows as many as limits.names; raise "
		"that, or name it as one that was there before",
	[FINDINGS_OTHER] = "it cannot be set up; the log says why",
};

static void complain(const struct findings *findings, struct finding *found, int r)
{
	const struct config_endpoint *endpoint = found->config->endpoints;
	const char *place = endpoint->domain ? endpoint->domain : endpoint->qmp;

	if (found->told == found->fault)
		return;
	found->told = found->fault;
	if (found->fault == FINDINGS_OTHER)
		log_error("cannot set the endpoint up", LOG_STR("endpoint", endpoint->name),
			LOG_STR("error", error_text(r)));
	else if (endpoint->domain && found->fault == FINDINGS_NAME)
		log_warning("a domain is not served, because another endpoint has its name; rename "
			    "one of them, unless it is just moving here",
			LOG_STR("endpoint", endpoint->name), LOG_STR("uuid", place),
			LOG_STR("libvirt", endpoint->libvirt));
	else if (found->fault)
		log_warning("what was discovered is not served",
			LOG_STR("endpoint", endpoint->name), LOG_STR(findings->key, place),
			LOG_STR("uuid", found->uuid), LOG_STR("reason", faults[found->fault]));
}

static void begin(struct findings *findings, struct finding *found, bool is_rival)
{
	int r = 0;

	if (found->nameless)
		found->fault = FINDINGS_NAMELESS;
	else if (is_rival)
		found->fault = FINDINGS_UUID;
	else
		r = endpoints_discover(findings->endpoints, found->config);
	if (r)
		found->fault = r == VMSIG_ERR_BUSY    ? FINDINGS_NAME
			       : r == VMSIG_ERR_QUOTA ? FINDINGS_ROOM
						      : FINDINGS_OTHER;
	else if (!found->nameless && !is_rival)
		found->fault = FINDINGS_FINE;
	found->runs = found->fault == FINDINGS_FINE;
	complain(findings, found, r);
}

static void lose(const struct findings *findings, struct finding *found)
{
	if (found->runs)
		endpoints_lose(findings->endpoints, found->config);
	config_unref(found->config);
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_place(const struct config_endpoint *a, const struct config_endpoint *b)
{
	int r = a->domain ? strcmp(a->domain, b->domain) : strcmp(a->qmp, b->qmp);

	if (!r)
		r = compare_numbers(a->qmp_dev, b->qmp_dev);
	return r ? r : compare_numbers(a->qmp_ino, b->qmp_ino);
}

static int by_age(const void *a, const void *b)
{
	const struct finding *x = *(struct finding *const *)a;
	const struct finding *y = *(struct finding *const *)b;

	return x->since_ns != y->since_ns
		       ? (x->since_ns > y->since_ns) - (x->since_ns < y->since_ns)
		       : by_place(x->config->endpoints, y->config->endpoints);
}

/* Of one UUID, the one that has it comes first. */
static int by_uuid(const void *a, const void *b)
{
	const struct finding *x = *(struct finding *const *)a;
	const struct finding *y = *(struct finding *const *)b;
	int r = strcmp(x->uuid, y->uuid);

	if (!r && x->runs != y->runs)
		r = x->runs ? -1 : 1;
	return r ? r : by_age(a, b);
}

static void order_drop(struct findings *findings)
{
	free(findings->order);
	free(findings->rivals);
	findings->order = NULL;
	findings->rivals = NULL;
}

/* Whether the UUID is another's shows in their order. Without memory the next list is soon enough.
 */
static void order_make(struct findings *findings)
{
	struct finding *found = findings->all;
	struct finding **order = calloc(findings->n + 1, sizeof(struct finding *));
	bool *rivals = calloc(findings->n + 1, sizeof(*rivals));

	findings->order = order;
	findings->rivals = rivals;
	findings->next = 0;
	if (!order || !rivals) {
		order_drop(findings);
		return;
	}
	for (size_t i = 0; i < findings->n; i++)
		order[i] = &found[i];
	qsort(order, findings->n, sizeof(struct finding *), by_uuid);
	for (size_t i = 1; i < findings->n; i++)
		rivals[order[i] - found] =
			order[i]->uuid[0] && strcmp(order[i]->uuid, order[i - 1]->uuid) == 0;
	qsort(order, findings->n, sizeof(struct finding *), by_age);
}

bool findings_go_on(struct findings *findings)
{
	unsigned begun = 0;

	while (findings->order && findings->next < findings->n && begun < STEP) {
		struct finding *found = findings->order[findings->next++];

		if (found->runs)
			continue;
		begin(findings, found, findings->rivals[found - findings->all]);
		begun++;
	}
	if (!findings->order || findings->next < findings->n)
		return findings->order;
	order_drop(findings);
	return false;
}

/* What ended goes first, so that its name is free. */
void findings_take(struct findings *findings, struct finding *list, size_t n)
{
	size_t i = 0, j = 0;

	while (i < findings->n || j < n) {
		int r = i == findings->n ? 1
			: j == n         ? -1
					 : by_place(findings->all[i].config->endpoints,
						   list[j].config->endpoints);

		if (r == 0 && config_endpoint_equal(findings->all[i].config->endpoints,
				      list[j].config->endpoints)) {
			config_unref(list[j].config);
			list[j] = findings->all[i];
		} else if (r <= 0) {
			lose(findings, &findings->all[i]);
		}
		i += r <= 0;
		j += r >= 0;
	}
	free(findings->all);
	order_drop(findings);
	findings->all = list;
	findings->n = n;
	order_make(findings);
}

void findings_deinit(struct findings *findings)
{
	for (size_t i = 0; i < findings->n; i++)
		lose(findings, &findings->all[i]);
	order_drop(findings);
	free(findings->all);
	findings->all = NULL;
	findings->n = 0;
}

static int compare_place(const void *key, const void *member)
{
	const struct finding *finding = member;

	return by_place(key, finding->config->endpoints);
}

const struct finding *findings_at(
	const struct findings *findings, const struct config_endpoint *place)
{
	return findings->n ? bsearch(place, findings->all, findings->n, sizeof(*findings->all),
				     compare_place)
			   : NULL;
}

const char *findings_why(const struct finding *finding)
{
	return faults[finding->fault];
}
