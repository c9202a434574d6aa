/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "broker/log.h"
#include "broker/planes/convoy.h"
#include "broker/planes/dialect.h"
#include "broker/planes/services.h"
#include "proto/wire/feature.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define PULL_RETRY_MS 50 /* after EMFILE: somebody has to close something first */
#define PULLS_PER_TURN 8 /* deliveries, 5 to 20 us each, before it is others' turn */
#define RANDOM_BATCH 32  /* at most 256 bytes come whole from getrandom(2) */
#define LIST_MAX 1024    /* endpoints in one answer, well inside a frame */

struct ctx_client {
	struct plane_client base;
	struct core *core;
	struct session *session;
	struct convoy convoy;
	uint64_t delivery; /* of the MEMCTX that is not acknowledged; 0: none, or it will not be: */
	bool is_quiet;     /* it does not say what it has taken unless it is asked to */
	struct unsaid_node unsaid; /* while one is in flight of which it says nothing */
	uint64_t handed_ns;        /* when that was handed out */
	uint64_t asked_ns; /* when it subscribed to what is ready; 0: the context has gone out */
};

static struct unsaid *unsaid_of(const struct ctx_client *client)
{
	struct services *services = conn_user(client->base.conn);

	return &services->unsaid;
}

/* Whether what it says nothing of is taken. */
static bool take_unsaid(struct ctx_client *client)
{
	if (!client->unsaid.is_listed || !conn_is_read(client->base.conn))
		return false;
	unsaid_remove(unsaid_of(client), &client->unsaid);
	/* It is outstanding. */
	(void)!core_session_taken(client->session);
	return true;
}

static bool on_look(struct unsaid_node *node)
{
	return take_unsaid(
		(struct ctx_client *)((char *)node - offsetof(struct ctx_client, unsaid)));
}

/* ---- answers ---- */

static int send_message(struct ctx_client *client, Vmsig__CtxMessage *message)
{
	return conn_send(client->base.conn, message, NULL, 0);
}

/* ---- requests ---- */

static void system_pack(const vmsig_system *system, Vmsig__System *packed)
{
	vmsig__system__init(packed);
	packed->os = system->os;
	packed->proof = system->proof;
	packed->release = (char *)(uintptr_t)system->release;
}

/* An endpoint of a list, and what its message points to. */
struct list_entry {
	Vmsig__EndpointInfo info;
	Vmsig__System system;
};

static void entry_pack(const struct core_endpoint_info *info, struct list_entry *entry)
{
	Vmsig__EndpointInfo *packed = &entry->info;

	vmsig__endpoint_info__init(packed);
	packed->id = info->id;
	packed->name = (char *)(uintptr_t)info->name;
	packed->epoch = info->epoch;
	packed->state = (uint32_t)info->state;
	packed->guard = (uint32_t)info->guard;
	packed->adapter = (char *)(uintptr_t)info->adapter;
	packed->detail = (char *)(uintptr_t)info->detail;
	packed->host = (char *)(uintptr_t)info->host;
	packed->ram_bytes = info->ram_bytes;
	packed->writable = info->writable;
	packed->subscribers = info->subscribers;
	if (info->system->proof == VMSIG_PROOF_NONE)
		return;
	system_pack(info->system, &entry->system);
	packed->system = &entry->system;
}

/* In pages of LIST_MAX, so that any number of endpoints fits: `more` says that the client
 * should ask again after the last name. */
static int on_list(void *state, void *message_in)
{
	const Vmsig__CtxRequest *request = message_in;
	struct ctx_client *client = state;
	Vmsig__EndpointList body = VMSIG__ENDPOINT_LIST__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	/* Room for most: to clear it all would take longer than the usual answer. */
	struct list_entry *entries = malloc(LIST_MAX * sizeof(*entries));
	Vmsig__EndpointInfo **pointers = malloc(LIST_MAX * sizeof(*pointers));
	struct core_endpoint_info info;
	size_t cursor = request->list->after;
	int r = -ENOMEM;

	if (!entries || !pointers)
		goto out;
	while (body.n_endpoints < LIST_MAX &&
		core_endpoint_next(client->core, client->session, &cursor, &info)) {
		entry_pack(&info, &entries[body.n_endpoints]);
		pointers[body.n_endpoints] = &entries[body.n_endpoints].info;
		body.n_endpoints++;
	}
	body.endpoints = pointers;
	body.more = body.n_endpoints == LIST_MAX;
	message.request_id = request->request_id;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ENDPOINT_LIST;
	message.endpoint_list = &body;
	r = send_message(client, &message);
out:
	free(entries);
	free(pointers);
	return r;
}

/* How long the context takes that can be had at once. */
static void note_asked(struct ctx_client *client, const char *name)
{
	struct core_endpoint_info info;

	if (!client->asked_ns &&
		core_endpoint_find(client->core, client->session, name, &info) == 0 &&
		core_state_is_readable(info.state))
		client->asked_ns = uv_hrtime();
}

static void note_told(struct ctx_client *client)
{
	struct services *services = conn_user(client->base.conn);

	client->handed_ns = uv_hrtime();
	if (client->asked_ns)
		histogram_add(&services->counts.subscribe, client->handed_ns - client->asked_ns);
	client->asked_ns = 0;
}

static int on_subscribe(void *state, void *message)
{
	const Vmsig__CtxRequest *request = message;
	struct ctx_client *client = state;
	int r = session_subscribe(client->session, request->subscribe->endpoint);

	if (r == VMSIG_ERR_BAD_REQUEST)
		return dialect_error(client->base.conn, request->request_id, r,
			"the name is empty or too long, or this connection subscribed to it "
			"already");
	if (r == VMSIG_ERR_QUOTA)
		return dialect_refusal(
			client->base.conn, request->request_id, core_refusal(client->core));
	if (r)
		return dialect_error(client->base.conn, request->request_id, r, NULL);
	note_asked(client, request->subscribe->endpoint);
	return dialect_done(client->base.conn, request->request_id);
}

static int on_unsubscribe(void *state, void *message)
{
	const Vmsig__CtxRequest *request = message;
	struct ctx_client *client = state;
	int r = session_unsubscribe(client->session, request->unsubscribe->endpoint);

	if (r)
		return dialect_error(client->base.conn, request->request_id, r,
			"this connection has no such subscription");
	return dialect_done(client->base.conn, request->request_id);
}

static int on_memctx_taken(void *state, void *message)
{
	const Vmsig__CtxRequest *request = message;
	struct ctx_client *client = state;
	struct services *services = conn_user(client->base.conn);
	uint64_t delivery = client->delivery;

	/* Only somebody who has read the message knows the number. */
	if (!delivery || request->memctx_taken->delivery != delivery)
		return dialect_cut_off(client->base.conn,
			"MemctxTaken names no delivery that is under way; name the "
			"`delivery` of each Memctx once");
	client->delivery = 0;
	histogram_add(&services->counts.context, uv_hrtime() - client->handed_ns);
	return core_session_taken(client->session);
}

static int on_fleet_query(void *state, void *message)
{
	const Vmsig__CtxRequest *request = message;
	struct ctx_client *client = state;

	return convoy_query(&client->convoy, request->request_id, request->fleet_query->whole);
}

static const struct request_rule rules[] = {
	[VMSIG__CTX_REQUEST__BODY_LIST] = {on_list, true},
	[VMSIG__CTX_REQUEST__BODY_SUBSCRIBE] = {on_subscribe, true},
	[VMSIG__CTX_REQUEST__BODY_UNSUBSCRIBE] = {on_unsubscribe, true},
	[VMSIG__CTX_REQUEST__BODY_MEMCTX_TAKEN] = {on_memctx_taken, false},
	[VMSIG__CTX_REQUEST__BODY_FLEET_QUERY] = {on_fleet_query, true},
};

static void greet(void *state, uint64_t features)
{
	struct ctx_client *client = state;

	if (features & FEATURE_RAM_FILES)
		session_take_files(client->session);
	/* It has read all of the handshake, so the kernel says so if it says anything. */
	client->is_quiet = (features & FEATURE_TAKEN_UNSAID) && conn_is_read(client->base.conn);
}

static const struct dialect dialect = {
	.request = &vmsig__ctx_request__descriptor,
	.message = &vmsig__ctx_message__descriptor,
	.rules = rules,
	.nrules = sizeof(rules) / sizeof(rules[0]),
	/* One request with one text in it, and unknown fields of a newer client. */
	.budget = {.parts = 32, .bytes = 8192},
	.features = FEATURE_RAM_FILES | FEATURE_TAKEN_UNSAID,
	.greet = greet,
};

/* ---- deliveries ---- */

static int send_invalidated(struct ctx_client *client, const struct core_delivery *delivery)
{
	Vmsig__MemctxInvalidated body = VMSIG__MEMCTX_INVALIDATED__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	body.endpoint = delivery->endpoint;
	body.name = (char *)(uintptr_t)delivery->name;
	body.epoch = delivery->epoch;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_MEMCTX_INVALIDATED;
	message.memctx_invalidated = &body;
	return send_message(client, &message);
}

static int send_state(struct ctx_client *client, const struct core_delivery *delivery)
{
	Vmsig__EndpointState body = VMSIG__ENDPOINT_STATE__INIT;
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;

	body.endpoint = delivery->endpoint;
	body.name = (char *)(uintptr_t)delivery->name;
	body.epoch = delivery->epoch;
	body.state = (uint32_t)delivery->state;
	body.guard = (uint32_t)delivery->guard;
	body.detail = (char *)(uintptr_t)delivery->detail;
	body.host = (char *)(uintptr_t)delivery->host;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_ENDPOINT_STATE;
	message.endpoint_state = &body;
	return send_message(client, &message);
}

/* Whoever gives descriptors for deliveries has opened them for reading only. */
static int descriptor_pack(Vmsig__Descriptor *packed, int fd, Vmsig__Descriptor__Purpose purpose)
{
	struct chan_fd_claim claim;
	int r = chan_fd_describe_opened(fd, O_RDONLY, &claim);

	if (r)
		return r;
	vmsig__descriptor__init(packed);
	packed->purpose = purpose;
	packed->dev = claim.dev;
	packed->ino = claim.ino;
	packed->size = claim.size;
	packed->access = claim.access;
	return 0;
}

static void memctx_pack(const struct core_delivery *delivery, Vmsig__Memctx *packed)
{
	vmsig__memctx__init(packed);
	packed->endpoint = delivery->endpoint;
	packed->name = (char *)(uintptr_t)delivery->name;
	packed->kcr3 = delivery->pod.kcr3;
	packed->low = delivery->pod.low;
	packed->epoch = delivery->pod.epoch;
	packed->flags = delivery->pod.flags;
	packed->guard = (uint32_t)delivery->guard;
}

static int segments_pack(
	const struct core_delivery *delivery, Vmsig__Memctx *packed, Vmsig__Segment **ret_segments)
{
	Vmsig__Segment *segments;

	if (!delivery->nseg)
		return 0;
	/* One allocation: the pointers, then what they point to. */
	packed->segments = calloc(delivery->nseg, sizeof(*packed->segments) + sizeof(*segments));
	if (!packed->segments)
		return -ENOMEM;
	segments = (Vmsig__Segment *)(void *)(packed->segments + delivery->nseg);
	for (uint32_t i = 0; i < delivery->nseg; i++) {
		vmsig__segment__init(&segments[i]);
		segments[i].gpa = delivery->segs[i].gpa;
		segments[i].len = delivery->segs[i].len;
		segments[i].file_off = delivery->segs[i].file_off;
		packed->segments[i] = &segments[i];
	}
	packed->n_segments = delivery->nseg;
	*ret_segments = segments;
	return 0;
}

/* Each is used once. The kernel is asked for many at once: to ask takes longer than to pack. */
static int delivery_number(uint64_t *ret_number)
{
	static uint64_t numbers[RANDOM_BATCH];
	static size_t left;

	do {
		if (!left && getrandom(numbers, sizeof(numbers), 0) != sizeof(numbers))
			return -errno;
		left = left ? left : RANDOM_BATCH;
		*ret_number = numbers[--left];
		numbers[left] = 0;
	} while (!*ret_number);
	return 0;
}

#define PARCEL_MAX (VMSIG_MEMFILES_MAX + 1) /* the RAM files and the coherence page */
_Static_assert(PARCEL_MAX <= CHAN_FDS_PER_FRAME, "a context's descriptors fit one frame");

/* What travels beside a MEMCTX, and what its message says of it. */
struct parcel {
	size_t n, nfiles;
	int fds[PARCEL_MAX];
	Vmsig__Descriptor descriptors[PARCEL_MAX], *descriptor_pointers[PARCEL_MAX];
	Vmsig__RamFile files[VMSIG_MEMFILES_MAX], *file_pointers[VMSIG_MEMFILES_MAX];
};

static int parcel_add(struct parcel *parcel, int fd, Vmsig__Descriptor__Purpose purpose)
{
	parcel->fds[parcel->n] = fd;
	parcel->descriptor_pointers[parcel->n] = &parcel->descriptors[parcel->n];
	return descriptor_pack(&parcel->descriptors[parcel->n++], fd, purpose);
}

/* A single file needs no more than its descriptor, which every holder knows. */
static void parcel_note_files(struct parcel *parcel, const struct core_delivery *delivery)
{
	for (size_t i = 0; delivery->nfiles > 1 && i < delivery->nfiles; i++) {
		vmsig__ram_file__init(&parcel->files[i]);
		parcel->files[i].size = delivery->ram_sizes[i];
		parcel->file_pointers[i] = &parcel->files[i];
		parcel->nfiles++;
	}
}

static int parcel_pack(
	struct parcel *parcel, const struct core_delivery *delivery, Vmsig__Memctx *packed)
{
	int r = 0;

	parcel->n = parcel->nfiles = 0;
	for (size_t i = 0; !r && i < delivery->nfiles; i++)
		r = parcel_add(parcel, delivery->ram_fds[i], VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM);
	if (!r)
		r = parcel_add(
			parcel, delivery->page_fd, VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE);
	parcel_note_files(parcel, delivery);
	packed->descriptors = parcel->descriptor_pointers;
	packed->n_descriptors = parcel->n;
	packed->files = parcel->file_pointers;
	packed->n_files = parcel->nfiles;
	return r;
}

/* Whoever waits for what this one holds hears of it sooner. */
static bool has_to_be_said(const struct ctx_client *client)
{
	return !client->is_quiet || core_session_expects(client->session) ||
	       core_is_crowded(client->core);
}

/* The descriptors are the connection's on success. */
static int send_memctx(struct ctx_client *client, struct core_delivery *delivery)
{
	Vmsig__CtxMessage message = VMSIG__CTX_MESSAGE__INIT;
	Vmsig__Memctx body = VMSIG__MEMCTX__INIT;
	Vmsig__System system;
	Vmsig__Segment *segments = NULL;
	struct parcel parcel;
	int r;

	memctx_pack(delivery, &body);
	system_pack(&delivery->system, &system);
	body.system = &system;
	r = parcel_pack(&parcel, delivery, &body);
	if (!r)
		r = segments_pack(delivery, &body, &segments);
	if (!r && has_to_be_said(client))
		r = delivery_number(&client->delivery);
	body.delivery = client->delivery;
	message.body_case = VMSIG__CTX_MESSAGE__BODY_MEMCTX;
	message.memctx = &body;
	if (!r)
		r = conn_send(client->base.conn, &message, parcel.fds, parcel.n);
	free(body.segments);
	if (r) {
		client->delivery = 0;
		return r;
	}
	delivery->nfiles = 0;
	delivery->page_fd = -1;
	note_told(client);
	if (client->delivery)
		return 0;
	core_session_unsaid(client->session);
	unsaid_add(unsaid_of(client), &client->unsaid, client->handed_ns,
		core_take_timeout(client->core));
	return 0;
}

static void delivery_close(struct core_delivery *delivery)
{
	while (delivery->nfiles)
		close(delivery->ram_fds[--delivery->nfiles]);
	if (delivery->page_fd >= 0)
		close(delivery->page_fd);
	delivery->page_fd = -1;
}

static bool is_exhaustion(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

static int deliver(struct ctx_client *client, struct core_delivery *delivery)
{
	switch (delivery->kind) {
	case VMSIG_EV_MEMCTX:
		return send_memctx(client, delivery);
	case VMSIG_EV_MEMCTX_INVALIDATED:
		return send_invalidated(client, delivery);
	default:
		return send_state(client, delivery);
	}
}

static int tell(struct conn *conn, struct ctx_client *client)
{
	for (int i = 0; conn_has_room(conn); i++) {
		struct core_delivery delivery = {.kind = VMSIG_EV_NONE};
		int r;

		if (i == PULLS_PER_TURN) {
			conn_wake(conn, 0);
			return 0;
		}
		r = core_session_pull(client->session, uv_hrtime(), &delivery);
		if (!r)
			r = deliver(client, &delivery);
		delivery_close(&delivery);
		if (r == VMSIG_ERR_WOULD_BLOCK) {
			if (core_session_expects(client->session))
				unsaid_want(unsaid_of(client), &client->unsaid);
			return 0;
		}
		if (r == VMSIG_ERR_BUSY) {
			conn_wake(conn, PULL_RETRY_MS);
			return 0;
		}
		if (is_exhaustion(r) && delivery.kind == VMSIG_EV_MEMCTX) {
			core_session_put_back(client->session, delivery.endpoint);
			conn_wake(conn, PULL_RETRY_MS);
			return 0;
		}
		if (r)
			return r;
	}
	/* More is due than fits: goes on when the client has read. */
	conn_wake(conn, 0);
	return 0;
}

static int client_writable(struct conn *conn, void *state)
{
	struct ctx_client *client = state;
	int r;

	/* Before anything is told that it has not read. */
	(void)take_unsaid(client);
	r = convoy_answer(&client->convoy);
	return r ? r : tell(conn, client);
}

/* ---- plane ---- */

static int client_open(struct conn *conn, void **ret_state)
{
	struct ctx_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->base.conn = conn;
	client->core = ((const struct services *)conn_user(conn))->read;
	r = session_new(
		&client->session, client->core, &conn_tenant(conn)->tenant, conn_uid(conn), client);
	if (r == VMSIG_ERR_QUOTA)
		conn_log_refusal(conn, core_refusal(client->core));
	if (r) {
		free(client);
		return r;
	}
	convoy_begin(&client->convoy, conn);
	*ret_state = client;
	return 0;
}

static int client_frame(struct conn *conn, void *state, const uint8_t *data, size_t len)
{
	/* Before there is an answer that it has not read. */
	(void)take_unsaid(state);
	return dialect_frame(conn, state, data, len);
}

static void client_policy(struct conn *conn, void *state)
{
	struct ctx_client *client = state;

	session_set_tenant(client->session, &conn_tenant(conn)->tenant);
}

static void client_close(struct conn *conn, void *state)
{
	struct ctx_client *client = state;

	unsaid_remove(unsaid_of(client), &client->unsaid);
	convoy_end(&client->convoy);
	session_free(client->session);
	free(client);
}

const struct plane_ops ctx_plane = {
	.name = "ctx",
	.dialect = &dialect,
	.door = NET_DOOR_CTX,
	.roles = IDENTITY_SENSOR | IDENTITY_OPERATOR,
	.frame_max = PLANE_SMALL_FRAME,
	.open = client_open,
	.frame = client_frame,
	.writable = client_writable,
	.policy = client_policy,
	.close = client_close,
	.farewell = dialect_farewell,
};

void ctx_plane_notify(void *user)
{
	struct ctx_client *client = user;

	conn_wake(client->base.conn, 0);
}

void ctx_plane_disconnect(void *user, enum vmsig_error error)
{
	struct ctx_client *client = user;

	if (error == VMSIG_ERR_TIMEOUT && take_unsaid(client))
		return;
	conn_close(client->base.conn, error,
		error == VMSIG_ERR_TIMEOUT ? "the client did not take a MEMCTX in time" : NULL);
}

void ctx_plane_look(struct services *services, uint64_t now_ns)
{
	unsaid_look(&services->unsaid, now_ns, core_is_crowded(services->read), on_look);
}

uint64_t ctx_plane_deadline(const struct services *services)
{
	return unsaid_deadline(&services->unsaid, core_is_crowded(services->read));
}
