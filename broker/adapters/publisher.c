/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/publisher.h"

#include <stdio.h>
#include <string.h>

#include "broker/log.h"
#include "broker/ram/ramset.h"
#include "proto/guest/physmap.h"
#include "vmsig/vmsig_error.h"

/* A burst of so many lines, or sessions, and from then on one a second. */
#define BURST 20u
#define NS_PER_MS 1000000u

/* A rate lets a second's worth be saved up: here a second is one of BURST. */
static uint64_t now(const struct publisher *publisher)
{
	return uv_now(publisher->loop) * NS_PER_MS / BURST;
}

bool publisher_may_log(struct publisher *publisher)
{
	if (rate_wait(&publisher->lines, now(publisher), BURST, 1)) {
		publisher->left_out++;
		return false;
	}
	rate_spend(&publisher->lines, 1);
	if (publisher->left_out)
		log_warning("lines about the endpoint were left out",
			LOG_STR("endpoint", publisher->name),
			LOG_INT("count", publisher->left_out));
	publisher->left_out = 0;
	return true;
}

uint64_t publisher_pause(struct publisher *publisher)
{
	uint64_t wait_ns = rate_wait(&publisher->sessions, now(publisher), BURST, 1);

	return wait_ns ? wait_ns * BURST / NS_PER_MS + 1 : 0;
}

void publisher_log_conflict(struct publisher *publisher, const char *first)
{
	if (publisher_may_log(publisher))
		log_error("two endpoints have one RAM file; the first keeps it",
			LOG_STR("endpoint", publisher->name), LOG_STR("first", first));
}

/* ---- registration ---- */

static int register_writer(struct publisher *publisher, const vmsig_memwrite_reg *writer)
{
	vmsig_memwrite_reg reg = *writer;
	int r;

	reg.endpoint = publisher->endpoint;
	reg.source = VMSIG_SRC_MEMWRITE;
	r = publisher->emit->register_memwrite(publisher->emit->core, &reg);
	publisher->writable = r == 0;
	return r;
}

static int register_files(struct publisher *publisher, const vmsig_memfiles_reg *files)
{
	vmsig_memfiles_reg reg = *files;

	reg.endpoint = publisher->endpoint;
	return publisher->emit->register_memfiles(publisher->emit->core, &reg);
}

int publisher_register(struct publisher *publisher, const struct adapter_env *env,
	const vmsig_memctx_reg *reader, const vmsig_memfiles_reg *files,
	const vmsig_memwrite_reg *writer)
{
	vmsig_memctx_reg reg = *reader;
	int r;

	*publisher = (struct publisher){.emit = env->emit,
		.loop = env->loop,
		.endpoint = env->endpoint,
		.name = env->config->name};
	rate_init(&publisher->lines, now(publisher), BURST);
	rate_init(&publisher->sessions, now(publisher), BURST);
	reg.endpoint = env->endpoint;
	reg.source = VMSIG_SRC_MEMCTX;
	r = env->emit->register_memctx(env->emit->core, &reg);
	if (r)
		return r;
	publisher->registered = true;
	r = register_files(publisher, files);
	if (!r && env->config->writable)
		r = register_writer(publisher, writer);
	if (r)
		publisher_unregister(publisher);
	return r;
}

void publisher_unregister(struct publisher *publisher)
{
	const vmsig_emit *emit = publisher->emit;

	if (publisher->writable)
		emit->unregister_memwrite(emit->core, publisher->endpoint);
	if (publisher->registered)
		emit->unregister_memctx(emit->core, publisher->endpoint);
	publisher->registered = publisher->writable = false;
}

/* ---- emitting ---- */

static int emit(struct publisher *publisher, enum vmsig_event_kind kind, const void *inln,
	size_t size, vmsig_payload payload)
{
	vmsig_event ev = {.kind = kind,
		.source = VMSIG_SRC_MEMCTX,
		.endpoint = publisher->endpoint,
		.payload = payload};
	int r;

	if (!publisher->registered)
		return VMSIG_ERR_NO_SUCH_ENDPOINT;
	memcpy(ev.inln, inln, size);
	r = publisher->emit->event(publisher->emit->core, &ev);
	if (r && publisher_may_log(publisher))
		log_at(r == VMSIG_ERR_STALE_EPOCH ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
			"the core took no event", LOG_STR("endpoint", publisher->name),
			LOG_INT("event", kind), LOG_INT("epoch", publisher->epoch),
			LOG_STR("error", vmsig_error_name(r)));
	return r;
}

void publisher_begin(struct publisher *publisher, uint32_t epoch)
{
	publisher->epoch = epoch;
	publisher->state = VMSIG_STATE_UNKNOWN;
}

bool publisher_has_told(const struct publisher *publisher, const char *reason)
{
	return strncmp(publisher->reason, reason, sizeof(publisher->reason) - 1) == 0;
}

void publisher_state(
	struct publisher *publisher, enum vmsig_endpoint_state state, const char *reason)
{
	static const char *const lines[] = {
		[VMSIG_STATE_BOOTING] = "waiting for the guest's kernel",
		[VMSIG_STATE_GONE] = "guest is not there",
		[VMSIG_STATE_UNREACHABLE] = "guest is unreachable",
		[VMSIG_STATE_PANICKED] = "guest has panicked"};
	const vmsig_endpoint_status status = {
		.endpoint = publisher->endpoint, .epoch = publisher->epoch, .state = state};

	if (!publisher->registered ||
		(publisher->state == state && publisher_has_told(publisher, reason)))
		return;
	publisher->state = state;
	snprintf(publisher->reason, sizeof(publisher->reason), "%s", reason);
	if (publisher_may_log(publisher))
		log_info(lines[state], LOG_STR("endpoint", publisher->name),
			LOG_STR("reason", reason));
	/* What it does not take was logged, and the next one is tried all the same. */
	(void)!emit(publisher, VMSIG_EV_ENDPOINT_STATE, &status, sizeof(status),
		(vmsig_payload){.data = reason, .len = strlen(reason)});
}

int publisher_invalidated(struct publisher *publisher, const char *reason)
{
	const vmsig_memctx_inv inv = {.endpoint = publisher->endpoint};

	if (publisher->registered && publisher_may_log(publisher))
		log_info("guest session ended", LOG_STR("endpoint", publisher->name),
			LOG_STR("reason", reason), LOG_INT("epoch", publisher->epoch));
	return emit(publisher, VMSIG_EV_MEMCTX_INVALIDATED, &inv, sizeof(inv), (vmsig_payload){0});
}

void publisher_ram(struct publisher *publisher, const struct ramset *ram, const struct physmap *map,
	const vmsig_system *system, const char *session)
{
	vmsig_ram_facts facts = {.bytes = physmap_bytes(map),
		.guard = ramset_guard(ram),
		.owner = ramset_owner(ram),
		.system = *system,
		.files = (uint32_t)ramset_count(ram)};

	if (!publisher->registered)
		return;
	snprintf(facts.session, sizeof(facts.session), "%s", session);
	if (publisher->emit->ram_found(publisher->emit->core, publisher->endpoint, &facts))
		log_warning("the core refused RAM", LOG_STR("endpoint", publisher->name));
}

uint32_t publisher_flags(const struct ramset *ram, unsigned levels)
{
	return VMSIG_MEMCTX_RDONLY | (levels == 5 ? VMSIG_MEMCTX_LA57 : 0) |
	       (ramset_is_sparse(ram) ? VMSIG_MEMCTX_SPARSE : 0);
}

static void log_context(
	struct publisher *publisher, const vmsig_memctx *pod, const vmsig_system *system)
{
	log_info(system->proof == VMSIG_PROOF_CONFIGURED
			 ? "kernel root taken from the configuration"
			 : "kernel proven",
		LOG_STR("endpoint", publisher->name), LOG_INT("epoch", publisher->epoch),
		LOG_HEX("kcr3", pod->kcr3),
		LOG_INT("levels", pod->flags & VMSIG_MEMCTX_LA57 ? 5 : 4),
		LOG_STR("os", vmsig_os_name(system->os)),
		LOG_STR("proof", vmsig_proof_name(system->proof)),
		LOG_STR("release", system->release));
}

int publisher_context(struct publisher *publisher, const vmsig_memctx *pod,
	const vmsig_memseg *segs, uint32_t nseg, const vmsig_system *system)
{
	vmsig_memctx stamped = *pod;
	int r;

	stamped.epoch = publisher->epoch;
	r = emit(publisher, VMSIG_EV_MEMCTX, &stamped, sizeof(stamped),
		(vmsig_payload){.data = nseg ? segs : NULL, .len = nseg * sizeof(*segs)});
	if (r)
		return r;
	publisher->state = VMSIG_STATE_READY;
	rate_spend(&publisher->sessions, 1);
	if (publisher_may_log(publisher))
		log_context(publisher, pod, system);
	return 0;
}
