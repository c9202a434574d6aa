/* SPDX-License-Identifier: Apache-2.0 */
/* What the adapter tells the core, and the log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_memctx.h"

#define LOG_BURST 20u /* lines, of which one comes back each second */
#define MS_PER_S 1000u

/* What QEMU sends decides how much there is to say. */
bool qemu_may_log(struct qemu *q)
{
	uint64_t now = uv_now(q->env.loop) / MS_PER_S;

	q->log_spent -=
		now - q->log_second < q->log_spent ? (unsigned)(now - q->log_second) : q->log_spent;
	q->log_second = now;
	if (q->log_spent >= LOG_BURST) {
		q->log_left_out++;
		return false;
	}
	q->log_spent++;
	if (q->log_left_out)
		log_warning("lines about the endpoint were left out",
			LOG_STR("endpoint", q->env.config->name),
			LOG_INT("count", q->log_left_out));
	q->log_left_out = 0;
	return true;
}

void qemu_tell_state(struct qemu *q, uint32_t state, const char *reason)
{
	static const char *const states[] = {
		[VMSIG_STATE_BOOTING] = "waiting for the guest's kernel",
		[VMSIG_STATE_GONE] = "guest is not there",
		[VMSIG_STATE_UNREACHABLE] = "guest is unreachable"};
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
	if (qemu_may_log(q))
		log_info(states[state], LOG_STR("endpoint", q->env.config->name),
			LOG_STR("reason", reason));
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

/* Only where the boot itself is random: QEMU does not say how often it has reset the guest. And
 * only where no snapshot could be loaded while nobody watches. */
static void session_fill(const struct qemu *q, char session[static VMSIG_SESSION_MAX])
{
	bool tellable = q->proof.placement && !q->restore.restorable;
	unsigned long long start = tellable ? process_start_time(q->pid) : 0;

	session[0] = '\0';
	if (start)
		snprintf(session, VMSIG_SESSION_MAX,
			"qemu:%d:%llx:%" PRIx64 ":%" PRIx64 ":%" PRIx64, q->pid, start,
			q->proof.kcr3, q->proof.digest, q->proof.placement);
}

void qemu_tell_ram(struct qemu *q)
{
	const struct ram *ram = q->guest->ram;
	vmsig_ram_facts facts = {.bytes = physmap_bytes(&q->guest->physmap),
		.guard = ram_guard(ram),
		.owner = ram_owner(ram),
		.system = q->proof.system};

	session_fill(q, facts.session);
	if (q->env.emit->ram_found(q->env.emit->core, q->env.endpoint, &facts))
		log_warning("the core refused RAM", LOG_STR("endpoint", q->env.config->name));
}
