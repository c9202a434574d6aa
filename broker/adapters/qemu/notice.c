/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_memctx.h"

void qemu_tell_state(struct qemu *q, uint32_t state, const char *reason)
{
	vmsig_event ev = {.kind = VMSIG_EV_ENDPOINT_STATE,
		.source = VMSIG_SRC_MEMCTX,
		.endpoint = q->env.endpoint,
		.payload = {.data = reason, .len = strlen(reason)}};
	const vmsig_endpoint_status status = {
		.endpoint = q->env.endpoint, .epoch = q->epoch, .state = state};

	if (q->removed || (q->told_state == state && strcmp(q->told, reason) == 0))
		return;
	q->told_state = state;
	snprintf(q->told, sizeof(q->told), "%s", reason);
	log_info(
		state == VMSIG_STATE_GONE ? "guest is not there" : "waiting for the guest's kernel",
		LOG_STR("endpoint", q->env.config->name), LOG_STR("reason", reason));
	memcpy(ev.inln, &status, sizeof(status));
	if (q->env.emit->event(q->env.emit->core, &ev))
		log_warning("the core refused a state", LOG_STR("endpoint", q->env.config->name));
}

void qemu_tell_invalidated(struct qemu *q)
{
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX_INVALIDATED,
		.source = VMSIG_SRC_MEMCTX,
		.endpoint = q->env.endpoint};
	const vmsig_memctx_inv inv = {.endpoint = q->env.endpoint};

	memcpy(ev.inln, &inv, sizeof(inv));
	if (q->env.emit->event(q->env.emit->core, &ev))
		log_warning("the core refused an invalidation",
			LOG_STR("endpoint", q->env.config->name));
}

void qemu_tell_ram(struct qemu *q)
{
	const struct ram *ram = q->guest->ram;
	const vmsig_ram_facts facts = {.bytes = physmap_bytes(&q->guest->physmap),
		.guard = ram_guard(ram),
		.owner = ram_owner(ram)};

	if (q->env.emit->ram_found(q->env.emit->core, q->env.endpoint, &facts))
		log_warning("the core refused RAM", LOG_STR("endpoint", q->env.config->name));
}
