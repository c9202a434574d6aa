/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An endpoint: its epoch and state, the coherence page that says so, what its adapter reports
 * through the seam, and what the shell looks up. Each change is stored, written to the page and
 * told to the endpoint's subscriptions, in the order that R6 asks for.
 */
#include "broker/read/state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/utf8.h"

struct endpoint *endpoint_by_id(struct core *core, uint32_t id)
{
	struct endpoint *endpoint = NULL;

	HASH_FIND(hh, core->endpoints, &id, sizeof(id), endpoint);
	return endpoint;
}

struct endpoint *endpoint_by_name(struct core *core, const char *name)
{
	struct endpoint *endpoint = NULL;

	HASH_FIND(hh_name, core->names, name, strlen(name), endpoint);
	return endpoint;
}

/* ---- telling ---- */

/* The page is written by the loop thread alone; readers take epoch with acquire. */
static void page_write(struct endpoint *endpoint)
{
	vmsig_coherence *page = endpoint->page;

	__atomic_store_n(&page->epoch, endpoint->epoch, __ATOMIC_SEQ_CST);
	__atomic_store_n(&page->state, (uint32_t)endpoint->state, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&page->change, 1, __ATOMIC_SEQ_CST);
	action_add(endpoint->core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_WAKE_COHERENCE);
}

static void tell_all(struct endpoint *endpoint)
{
	struct subscription *subscription;

	DL_FOREACH2 (endpoint->subscriptions, subscription, ep_next)
		subscription_update(subscription);
}

static void set_state(struct endpoint *endpoint, enum vmsig_endpoint_state state)
{
	endpoint->state = state;
	endpoint->news++;
	page_write(endpoint);
}

/* Adapters tell what others have told them: a QEMU why it refuses something. */
static void detail_of(const vmsig_event *ev, char detail[static ENDPOINT_DETAIL_MAX + 1])
{
	size_t len = ev->payload.data ? ev->payload.len : 0;
	char text[ENDPOINT_DETAIL_MAX + UTF8_MAX];

	len = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
	if (len)
		memcpy(text, ev->payload.data, len);
	text[len] = '\0';
	utf8_clean(detail, ENDPOINT_DETAIL_MAX + 1, text);
}

static bool detail_equal(const struct endpoint *endpoint, const vmsig_event *ev)
{
	char detail[ENDPOINT_DETAIL_MAX + 1];

	detail_of(ev, detail);
	return strcmp(endpoint->detail, detail) == 0;
}

/* R6: raise, invalidate, revoke, tell, and last ask for a new bootstrap. */
static void raise_epoch(struct endpoint *endpoint)
{
	struct core *core = endpoint->core;

	endpoint->epoch++;
	core->epochs++;
	endpoint->resumable = false;
	endpoint->stored[0] = endpoint->current[0] = '\0';
	endpoint->detail[0] = endpoint->host[0] = '\0';
	endpoint->system = (vmsig_system){0};
	set_state(endpoint, VMSIG_STATE_INVALID);
	action_add(core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_PERSIST_EPOCH);
	action_add(core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_REVOKE_LEASES);
	endpoint->own.pending &= ~(1u << CORE_ACT_READY | 1u << CORE_ACT_PERSIST_SESSION);
	tell_all(endpoint);
}

static void ask_bootstrap(struct endpoint *endpoint)
{
	set_state(endpoint, VMSIG_STATE_BOOTING);
	action_add(endpoint->core, QUEUE_BOOTSTRAP, &endpoint->bootstrap, CORE_ACT_BOOTSTRAP);
	tell_all(endpoint);
}

static void end_session(struct endpoint *endpoint)
{
	raise_epoch(endpoint);
	ask_bootstrap(endpoint);
}

/* ---- what adapters call ---- */

static int on_register(void *ctx, const vmsig_memctx_reg *reg)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, reg->endpoint);

	if (!endpoint)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (endpoint->registered || !reg->describe || !reg->share_fd || !reg->invalidate)
		return VMSIG_ERR_BAD_REQUEST;
	endpoint->reg = *reg;
	endpoint->registered = true;
	if (!endpoint->resumable)
		raise_epoch(endpoint);
	ask_bootstrap(endpoint);
	return 0;
}

static void on_unregister(void *ctx, uint32_t id)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, id);

	if (!endpoint || !endpoint->registered)
		return;
	endpoint->registered = false;
	action_drop(endpoint->core, QUEUE_BOOTSTRAP, &endpoint->bootstrap);
	memset(&endpoint->reg, 0, sizeof(endpoint->reg));
	memset(&endpoint->memfiles, 0, sizeof(endpoint->memfiles));
	if (endpoint->core->closing) {
		/* The epoch may go on with the next broker, but this page is looked after no more.
		 */
		set_state(endpoint, VMSIG_STATE_UNATTENDED);
		return;
	}
	raise_epoch(endpoint);
	set_state(endpoint, VMSIG_STATE_GONE);
	tell_all(endpoint);
}

/* The adapter may be foreign code: a string ends inside of its room. */
static void system_set(struct endpoint *endpoint, const vmsig_system *system)
{
	endpoint->system = *system;
	endpoint->system.release[sizeof(endpoint->system.release) - 1] = '\0';
}

/* What tells the session that is being served from others may be known by something better now. */
static void store_session(struct endpoint *endpoint)
{
	if (endpoint->state != VMSIG_STATE_READY || !endpoint->current[0] ||
		strcmp(endpoint->stored, endpoint->current) == 0)
		return;
	memcpy(endpoint->stored, endpoint->current, sizeof(endpoint->stored));
	action_add(endpoint->core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_PERSIST_SESSION);
}

static int on_ram_found(void *ctx, uint32_t id, const vmsig_ram_facts *facts)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, id);

	if (!endpoint || !endpoint->registered)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (facts->guard > VMSIG_GUARD_SEALED || facts->files > VMSIG_MEMFILES_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	/* Who holds a context hears that it is worth less now; while it boots nobody has one. */
	if (core_state_is_readable(endpoint->state) &&
		(endpoint->guard != (enum vmsig_guard)facts->guard ||
			endpoint->owner != facts->owner))
		endpoint->news++;
	endpoint->guard = (enum vmsig_guard)facts->guard;
	endpoint->owner = facts->owner;
	endpoint->ram_bytes = facts->bytes;
	endpoint->files = facts->files ? facts->files : 1;
	system_set(endpoint, &facts->system);
	snprintf(endpoint->current, sizeof(endpoint->current), "%.*s", VMSIG_SESSION_MAX - 1,
		facts->session);
	store_session(endpoint);
	/* Who may be served depends on the guard. */
	tell_all(endpoint);
	return 0;
}

/* The bootstrap for `epoch` is done. */
static int on_memctx(struct endpoint *endpoint, const vmsig_event *ev)
{
	const vmsig_memctx *pod = (const vmsig_memctx *)(const void *)ev->inln;

	if (pod->epoch != endpoint->epoch)
		return VMSIG_ERR_STALE_EPOCH;
	if (endpoint->resumable && strcmp(endpoint->stored, endpoint->current) != 0) {
		/* The guest was reset while nobody watched. */
		end_session(endpoint);
		return VMSIG_ERR_STALE_EPOCH;
	}
	endpoint->resumable = false;
	endpoint->context++;
	endpoint->detail[0] = endpoint->host[0] = '\0';
	if (strcmp(endpoint->stored, endpoint->current) != 0) {
		memcpy(endpoint->stored, endpoint->current, sizeof(endpoint->stored));
		action_add(
			endpoint->core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_PERSIST_SESSION);
	}
	set_state(endpoint, VMSIG_STATE_READY);
	action_add(endpoint->core, QUEUE_ENDPOINT, &endpoint->own, CORE_ACT_READY);
	tell_all(endpoint);
	return 0;
}

static int on_invalidated(struct endpoint *endpoint, const vmsig_event *ev)
{
	end_session(endpoint);
	return 0;
}

/* Holders may have a context of the present epoch. */
static bool has_context(const struct endpoint *endpoint)
{
	return core_state_is_readable(endpoint->state) ||
	       endpoint->state == VMSIG_STATE_UNREACHABLE;
}

/* States in which the epoch goes on. */
static bool keeps_context(uint32_t state)
{
	return state == VMSIG_STATE_UNREACHABLE || state == VMSIG_STATE_PANICKED;
}

static bool may_tell(const struct endpoint *endpoint, uint32_t state)
{
	return state == VMSIG_STATE_BOOTING || state == VMSIG_STATE_GONE ||
	       (keeps_context(state) && has_context(endpoint));
}

static int on_state(struct endpoint *endpoint, const vmsig_event *ev)
{
	const vmsig_endpoint_status *status = (const vmsig_endpoint_status *)(const void *)ev->inln;

	if (!may_tell(endpoint, status->state))
		return VMSIG_ERR_BAD_REQUEST;
	if (endpoint->state == VMSIG_STATE_MOVED)
		return 0;
	/* An adapter that tries again and again reports again and again: that is no news. */
	if (endpoint->state == (enum vmsig_endpoint_state)status->state &&
		detail_equal(endpoint, ev))
		return 0;
	if (has_context(endpoint) && !keeps_context(status->state))
		end_session(endpoint);
	detail_of(ev, endpoint->detail);
	set_state(endpoint, (enum vmsig_endpoint_state)status->state);
	tell_all(endpoint);
	return 0;
}

static int on_event(void *ctx, const vmsig_event *ev)
{
	static int (*const handlers[])(struct endpoint *, const vmsig_event *) = {
		[VMSIG_EV_MEMCTX] = on_memctx,
		[VMSIG_EV_MEMCTX_INVALIDATED] = on_invalidated,
		[VMSIG_EV_ENDPOINT_STATE] = on_state,
	};
	struct endpoint *endpoint = endpoint_by_id(ctx, ev->endpoint);

	if (ev->kind >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[ev->kind])
		return VMSIG_ERR_UNSUPPORTED;
	if (!endpoint || !endpoint->registered)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	return handlers[ev->kind](endpoint, ev);
}

static int on_register_memwrite(void *ctx, const struct vmsig_memwrite_reg *reg)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, reg->endpoint);

	if (!endpoint)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (endpoint->writable || !reg->share_writable || !reg->may_write)
		return VMSIG_ERR_BAD_REQUEST;
	endpoint->writer = *reg;
	endpoint->writable = true;
	return 0;
}

static void on_unregister_memwrite(void *ctx, uint32_t id)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, id);

	if (endpoint)
		endpoint->writable = false;
}

static int on_register_memfiles(void *ctx, const struct vmsig_memfiles_reg *reg)
{
	struct endpoint *endpoint = endpoint_by_id(ctx, reg->endpoint);

	if (!endpoint || !endpoint->registered)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (!reg->share || !reg->share_writable)
		return VMSIG_ERR_BAD_REQUEST;
	endpoint->memfiles = *reg;
	return 0;
}

void endpoint_emit_init(struct core *core)
{
	core->emit = (vmsig_emit){
		.core = core,
		.register_memctx = on_register,
		.unregister_memctx = on_unregister,
		.register_memwrite = on_register_memwrite,
		.unregister_memwrite = on_unregister_memwrite,
		.ram_found = on_ram_found,
		.event = on_event,
		.register_memfiles = on_register_memfiles,
	};
}

/* ---- what the shell calls ---- */

static int by_name(const struct endpoint *a, const struct endpoint *b)
{
	return strcmp(a->name, b->name);
}

static struct endpoint *endpoint_alloc(struct core *core, const struct core_endpoint_config *config)
{
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));

	if (!endpoint)
		return NULL;
	endpoint->core = core;
	endpoint->id = config->id;
	endpoint->epoch = config->epoch;
	endpoint->min_guard = config->min_guard;
	endpoint->page = config->page;
	endpoint->share_page = config->share_page;
	endpoint->page_ctx = config->page_ctx;
	endpoint->state = VMSIG_STATE_GONE;
	endpoint->files = 1;
	endpoint->own.endpoint = endpoint->bootstrap.endpoint = endpoint;
	snprintf(endpoint->name, sizeof(endpoint->name), "%s", config->name);
	snprintf(endpoint->adapter, sizeof(endpoint->adapter), "%s", config->adapter);
	if (config->session)
		snprintf(endpoint->stored, sizeof(endpoint->stored), "%s", config->session);
	endpoint->resumable = endpoint->epoch && endpoint->stored[0];
	if (selector_labels_copy(&endpoint->labels, config->labels, config->nlabels)) {
		free(endpoint);
		return NULL;
	}
	endpoint->subject = (struct selector_subject){
		.name = endpoint->name, .labels = endpoint->labels, .nlabels = config->nlabels};
	return endpoint;
}

static void endpoint_release(struct endpoint *endpoint)
{
	charge_refund(&endpoint->place);
	selector_labels_free(endpoint->labels, endpoint->subject.nlabels);
	free(endpoint);
}

static int endpoint_index(struct core *core, struct endpoint *endpoint)
{
	HASH_ADD(hh, core->endpoints, id, sizeof(endpoint->id), endpoint);
	if (!endpoint->hh.tbl)
		return -ENOMEM;
	HASH_ADD_KEYPTR_INORDER(
		hh_name, core->names, endpoint->name, strlen(endpoint->name), endpoint, by_name);
	if (!endpoint->hh_name.tbl) {
		HASH_DELETE(hh, core->endpoints, endpoint);
		return -ENOMEM;
	}
	return 0;
}

int endpoint_new(struct core *core, const struct core_endpoint_config *config)
{
	struct endpoint *endpoint;
	int r;

	if (!config->id || !config->name[0] || strlen(config->name) > ENDPOINT_NAME_MAX ||
		endpoint_by_id(core, config->id) || endpoint_by_name(core, config->name))
		return VMSIG_ERR_BAD_REQUEST;
	endpoint = endpoint_alloc(core, config);
	if (!endpoint)
		return -ENOMEM;
	r = charge_take(&endpoint->place, &core->account, CORE_ENDPOINTS, 1,
		&(struct account_actor){0}, &core->refusal);
	if (!r)
		r = endpoint_index(core, endpoint);
	if (r) {
		endpoint_release(endpoint);
		return r;
	}
	endpoint->born = ++core->births;
	DL_APPEND(core->ages, endpoint);
	page_write(endpoint);
	return 0;
}

void core_endpoint_raise(struct core *core, uint32_t id, uint32_t above)
{
	struct endpoint *endpoint = endpoint_by_id(core, id);

	if (!endpoint)
		return;
	if (endpoint->epoch < above)
		endpoint->epoch = above;
	/* One that is not registered begins an epoch when it is. */
	endpoint->resumable = false;
	if (endpoint->registered)
		end_session(endpoint);
}

void core_endpoint_moved(struct core *core, uint32_t id, const char *host)
{
	struct endpoint *endpoint = endpoint_by_id(core, id);
	bool is_moved = endpoint && endpoint->state == VMSIG_STATE_MOVED;

	if (!endpoint || (!host && !is_moved))
		return;
	if (host && has_context(endpoint))
		end_session(endpoint);
	endpoint->detail[0] = '\0';
	snprintf(endpoint->host, sizeof(endpoint->host), "%s", host ? host : "");
	if (host)
		snprintf(endpoint->detail, sizeof(endpoint->detail),
			"the guest has moved to the host '%s'; connect to the broker there",
			endpoint->host);
	set_state(endpoint, host ? VMSIG_STATE_MOVED : VMSIG_STATE_BOOTING);
	tell_all(endpoint);
}

void core_endpoint_remove(struct core *core, uint32_t id)
{
	struct endpoint *endpoint = endpoint_by_id(core, id);
	struct subscription *subscription, *next;

	if (!endpoint)
		return;
	/* A dropped PERSIST_EPOCH would let its epoch come back. */
	assert(!endpoint->registered && !(endpoint->own.pending & 1u << CORE_ACT_PERSIST_EPOCH));
	DL_FOREACH_SAFE2 (endpoint->subscriptions, subscription, next, ep_next)
		subscription_part(subscription);
	action_drop(core, QUEUE_ENDPOINT, &endpoint->own);
	action_drop(core, QUEUE_BOOTSTRAP, &endpoint->bootstrap);
	HASH_DELETE(hh, core->endpoints, endpoint);
	HASH_DELETE(hh_name, core->names, endpoint);
	DL_DELETE(core->ages, endpoint);
	endpoint_release(endpoint);
}

static uint32_t count_subscribers(const struct endpoint *endpoint, const struct session *session)
{
	const struct audience *audience;

	if (!session)
		return endpoint->nsubscriptions;
	DL_SEARCH_SCALAR(endpoint->audiences, audience, tenant, session->tenant);
	return audience ? audience->count : 0;
}

static void info_fill(const struct endpoint *endpoint, const struct session *session,
	struct core_endpoint_info *info)
{
	*info = (struct core_endpoint_info){
		.id = endpoint->id,
		.name = endpoint->name,
		.adapter = endpoint->adapter,
		.subject = &endpoint->subject,
		.detail = service_detail(endpoint, session),
		.host = endpoint->host,
		.epoch = endpoint->epoch,
		.state = endpoint->state,
		.guard = session ? guard_against(endpoint, session->uid) : endpoint->guard,
		.ram_bytes = endpoint->ram_bytes,
		.system = &endpoint->system,
		.writable = endpoint->writable,
		.subscribers = count_subscribers(endpoint, session),
	};
}

static bool is_visible(const struct endpoint *endpoint, const struct session *session)
{
	return !session || tenant_sees(session->tenant, &endpoint->subject);
}

bool core_endpoint_next(struct core *core, const struct session *session, size_t *cursor,
	struct core_endpoint_info *ret_info)
{
	struct endpoint *endpoint;

	/* The cursor is the id of the endpoint before; ids are never 0. One that the session may
	 * not see ends the list as one that does not exist: what followed it would tell of it. */
	endpoint = *cursor ? endpoint_by_id(core, (uint32_t)*cursor) : core->names;
	if (*cursor && endpoint)
		endpoint = is_visible(endpoint, session) ? endpoint->hh_name.next : NULL;
	while (endpoint && !is_visible(endpoint, session))
		endpoint = endpoint->hh_name.next;
	if (!endpoint)
		return false;
	*cursor = endpoint->id;
	info_fill(endpoint, session, ret_info);
	return true;
}

int core_endpoint_find(struct core *core, const struct session *session, const char *name,
	struct core_endpoint_info *ret_info)
{
	struct endpoint *endpoint = name ? endpoint_by_name(core, name) : NULL;

	if (!endpoint || (session && !tenant_sees(session->tenant, &endpoint->subject)))
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	info_fill(endpoint, session, ret_info);
	return 0;
}

const vmsig_memwrite_reg *core_endpoint_memwrite(struct core *core, uint32_t id)
{
	const struct endpoint *endpoint = endpoint_by_id(core, id);

	return endpoint && endpoint->writable ? &endpoint->writer : NULL;
}

const vmsig_memfiles_reg *core_endpoint_memfiles(struct core *core, uint32_t id)
{
	const struct endpoint *endpoint = endpoint_by_id(core, id);

	return endpoint && endpoint->memfiles.share ? &endpoint->memfiles : NULL;
}

int core_endpoint_describe(struct core *core, uint32_t id, vmsig_memctx *ret_pod,
	const vmsig_memseg **ret_segs, uint32_t *ret_nseg)
{
	const struct endpoint *endpoint = endpoint_by_id(core, id);

	if (!endpoint)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	if (!endpoint->registered || !core_state_is_readable(endpoint->state))
		return VMSIG_ERR_NOT_READY;
	endpoint->reg.describe(endpoint->reg.ctx, ret_pod, ret_segs, ret_nseg);
	ret_pod->epoch = endpoint->epoch;
	return 0;
}
