/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoints for administrators, as far as their policy shows them: what each one is and does, new
 * ones beside the configuration, the end of an epoch.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "broker/log.h"
#include "broker/planes/admin_client.h"
#include "broker/planes/steward.h"
#include "broker/read/core.h"
#include "broker/write/desk.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define HOSTING_PAGE 512u     /* endpoints in one answer, well inside of a frame */
#define HOSTING_UNSERVED 256u /* and as much of what is none; more have one reason, mostly */
#define ERROR_MAX 384
#define UUID_LABEL "uuid="
#define NAME_BYTES 64u /* an endpoint's name is shorter */

static char *text(const char *words)
{
	return (char *)(uintptr_t)words;
}

/* ---- leases by endpoint ---- */

/* Counted in one go, however many endpoints there are. */
struct hosting_leases {
	uint32_t endpoint, held, waiting;
	UT_hash_handle hh;
};

static struct hosting_leases *leases_of(struct hosting_leases **counts, uint32_t endpoint)
{
	struct hosting_leases *found = NULL;

	HASH_FIND(hh, *counts, &endpoint, sizeof(endpoint), found);
	return found;
}

static struct hosting_leases *leases_make(struct hosting_leases **counts, uint32_t endpoint)
{
	struct hosting_leases *made = calloc(1, sizeof(*made));

	if (!made)
		return NULL;
	made->endpoint = endpoint;
	HASH_ADD(hh, *counts, endpoint, sizeof(made->endpoint), made);
	if (made->hh.tbl)
		return made;
	free(made);
	return NULL;
}

static struct hosting_leases *leases_count(struct desk *desk)
{
	struct hosting_leases *counts = NULL, *one;
	struct lease_view lease;
	uint64_t cursor = 0;

	while (desk && desk_lease_next(desk, &cursor, &lease)) {
		one = leases_of(&counts, lease.endpoint);
		if (!one)
			one = leases_make(&counts, lease.endpoint);
		if (!one)
			continue;
		if (lease.state == LEASE_WAITING)
			one->waiting++;
		else
			one->held++;
	}
	return counts;
}

static void leases_free(struct hosting_leases *counts)
{
	struct hosting_leases *one, *next;

	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, counts, one, next) {
		HASH_DEL(counts, one);
		free(one);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
}

/* ---- list ---- */

static void info_pack(const struct core_endpoint_info *info, Vmsig__Hosted *packed)
{
	vmsig__hosted__init(packed);
	packed->endpoint = info->id;
	packed->name = text(info->name);
	packed->epoch = info->epoch;
	packed->state = (uint32_t)info->state;
	packed->guard = (uint32_t)info->guard;
	packed->adapter = text(info->adapter);
	packed->detail = text(info->detail);
	packed->ram_bytes = info->ram_bytes;
	packed->writable = info->writable;
	packed->subscribers = info->subscribers;
	packed->labels = (char **)(uintptr_t)info->subject->labels;
	packed->n_labels = info->subject->nlabels;
}

/* One that was discovered has it in a label; of two the configured one is the fleet's. */
static const char *uuid_of(const struct admin_client *client, const Vmsig__Hosted *packed)
{
	const struct services *services = client->services;
	const char *uuid = services->steward->endpoint_uuid(services->ctx, packed->name);

	for (size_t i = 0; !uuid && i < packed->n_labels; i++) {
		if (strncmp(packed->labels[i], UUID_LABEL, strlen(UUID_LABEL)) == 0)
			uuid = packed->labels[i] + strlen(UUID_LABEL);
	}
	return uuid ? uuid : "";
}

static void doings_pack(struct admin_client *client, struct hosting_leases **leases,
	uint32_t endpoint, Vmsig__Hosted *packed)
{
	const struct hosting_leases *counted = leases_of(leases, endpoint);
	const char *origin =
		client->services->steward->endpoint_origin(client->services->ctx, packed->name);
	struct desk_endpoint_stats stats = {0};

	if (client->desk)
		desk_endpoint_stats(client->desk, endpoint, &stats);
	packed->writes = stats.writes;
	packed->written_bytes = stats.bytes;
	packed->refused = stats.refused;
	packed->leases = counted ? counted->held : 0;
	packed->waiters = counted ? counted->waiting : 0;
	packed->origin = text(origin ? origin : "");
	packed->added = strcmp(packed->origin, "added") == 0;
	packed->uuid = text(uuid_of(client, packed));
}

struct unserved_page {
	struct admin_client *client;
	Vmsig__HostedInfos *body;
	Vmsig__Unserved *infos;
};

static void add_unserved(void *arg, const struct steward_unserved *one)
{
	struct unserved_page *page = arg;
	Vmsig__HostedInfos *body = page->body;
	Vmsig__Unserved *packed = &page->infos[body->n_unserved];

	if (body->n_unserved == HOSTING_UNSERVED || !admin_sees(page->client, &one->subject))
		return;
	vmsig__unserved__init(packed);
	packed->name = text(one->subject.name);
	packed->origin = text(one->origin);
	packed->place = text(one->place);
	packed->detail = text(one->why);
	body->unserved[body->n_unserved++] = packed;
}

static int unserved_fill(struct unserved_page *page)
{
	const struct services *services = page->client->services;

	page->infos = calloc(HOSTING_UNSERVED, sizeof(*page->infos));
	page->body->unserved = calloc(HOSTING_UNSERVED, sizeof(*page->body->unserved));
	if (!page->infos || !page->body->unserved)
		return -ENOMEM;
	services->steward->unserved(services->ctx, add_unserved, page);
	return 0;
}

/* Names stay where they are until the loop's next turn. */
static void page_fill(struct admin_client *client, const char *after, Vmsig__HostedInfos *body,
	Vmsig__Hosted *infos)
{
	struct hosting_leases *leases = leases_count(client->desk);
	struct core_endpoint_info info;
	size_t cursor = 0;

	while (body->n_endpoints < HOSTING_PAGE &&
		core_endpoint_next(client->services->read, NULL, &cursor, &info)) {
		Vmsig__Hosted *packed = &infos[body->n_endpoints];

		if (strcmp(info.name, after) <= 0 || !admin_sees(client, info.subject))
			continue;
		info_pack(&info, packed);
		doings_pack(client, &leases, info.id, packed);
		body->endpoints[body->n_endpoints++] = packed;
	}
	body->more = body->n_endpoints == HOSTING_PAGE;
	leases_free(leases);
}

int hosting_on_list(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	Vmsig__HostedInfos body = VMSIG__HOSTED_INFOS__INIT;
	Vmsig__Hosted *infos = calloc(HOSTING_PAGE, sizeof(*infos));
	struct unserved_page unserved = {.client = client, .body = &body};
	int r = -ENOMEM;

	body.endpoints = calloc(HOSTING_PAGE, sizeof(*body.endpoints));
	if (infos && body.endpoints) {
		page_fill(client, request->hosted_list->after, &body, infos);
		r = body.more ? 0 : unserved_fill(&unserved);
	}
	if (!r)
		r = dialect_send(client->base.conn, request->request_id,
			VMSIG__ADMIN_MESSAGE__BODY_HOSTED_INFOS, &body);
	free(unserved.infos);
	free(body.unserved);
	free(infos);
	free(body.endpoints);
	return r;
}

/* ---- changes ---- */

static void note(const struct admin_client *client, const char *what, Vmsig__AuditRecord__Kind kind,
	const char *name, uint32_t epoch)
{
	const struct conn *conn = client->base.conn;

	admin_record(client,
		&(struct desk_deed){.kind = kind, .endpoint = name, .epoch = epoch, .detail = ""});
	log_info(what, LOG_STR("endpoint", name), LOG_STR("tenant", conn_tenant(conn)->tenant.name),
		LOG_INT("uid", conn_uid(conn)));
}

/* One that is asked for, whose name is known when it has been read. */
struct adding {
	const struct admin_client *client;
	char name[NAME_BYTES];
};

static bool may_add(void *who, const struct selector_subject *endpoint)
{
	struct adding *adding = who;

	snprintf(adding->name, sizeof(adding->name), "%s", endpoint->name);
	return admin_sees(adding->client, endpoint);
}

int hosting_on_add(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	struct adding adding = {.client = client};
	char error[ERROR_MAX] = "";
	int r = services->steward->endpoint_add(
		services->ctx, request->endpoint_add->yaml, may_add, &adding, error, sizeof(error));

	if (!r)
		note(client, "an endpoint was added by an administrator",
			VMSIG__AUDIT_RECORD__KIND__ENDPOINT_ADDED, adding.name, 0);
	return dialect_answer(client->base.conn, request->request_id, r, error);
}

/* What its policy does not name does not exist for an administrator either. */
static int find(struct admin_client *client, const char *name, uint32_t *ret_epoch)
{
	struct core_endpoint_info info;
	int r = core_endpoint_find(client->services->read, NULL, name, &info);

	*ret_epoch = r ? 0 : info.epoch;
	return r || !admin_sees(client, info.subject) ? VMSIG_ERR_NO_SUCH_ENDPOINT : 0;
}

/* What to do instead. */
static const char *removal_of(const char *origin)
{
	static const struct {
		const char *origin, *words;
	} ways[] = {
		{"config", "the endpoint is in the configuration; remove it there, and reload"},
		{"provider", "the endpoint is provided; its provider ends it, or disconnect that "
			     "with vmsigctl disconnect"},
		{"qmp", "the endpoint was discovered; narrow the 'qmp' of 'discover' in the "
			"configuration, and reload"},
		{"libvirt", "the endpoint was discovered; narrow the 'domains' of 'discover' in "
			    "the configuration, and reload"},
	};

	for (size_t i = 0; origin && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(ways[i].origin, origin) == 0)
			return ways[i].words;
	}
	return NULL;
}

int hosting_on_remove(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	const char *name = request->endpoint_remove->name;
	uint32_t epoch;
	int r = find(client, name, &epoch);

	if (!r)
		r = services->steward->endpoint_remove(services->ctx, name);
	if (!r)
		note(client, "an endpoint was removed by an administrator",
			VMSIG__AUDIT_RECORD__KIND__ENDPOINT_REMOVED, name, epoch);
	return dialect_answer(client->base.conn, request->request_id, r,
		r == VMSIG_ERR_BAD_REQUEST
			? removal_of(services->steward->endpoint_origin(services->ctx, name))
			: NULL);
}

int hosting_on_invalidate(void *state, void *message)
{
	const Vmsig__AdminRequest *request = message;
	struct admin_client *client = state;
	const struct services *services = client->services;
	const char *name = request->endpoint_invalidate->name;
	uint32_t epoch;
	int r = find(client, name, &epoch);

	if (!r)
		r = services->steward->endpoint_invalidate(services->ctx, name);
	if (!r)
		note(client, "an epoch was ended by an administrator",
			VMSIG__AUDIT_RECORD__KIND__INVALIDATED, name, epoch);
	return dialect_answer(client->base.conn, request->request_id, r, NULL);
}
