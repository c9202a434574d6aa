/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Field 22 of /proc/PID/stat, proc(5): tells a process from a later one with its pid. 0 when it
 * cannot be read. */
static unsigned long long start_time(pid_t pid)
{
	char path[64], text[1024];
	unsigned long long start = 0;
	const char *at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	/* The name, in parentheses, may have anything in it. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		start = strtoull(at, NULL, 10);
	return start;
}

/* Only where the boot itself is random: QEMU does not say how often it has reset the guest. */
static void session_fill(const struct qemu *q, char session[static VMSIG_SESSION_MAX])
{
	unsigned long long start = q->proof.placement ? start_time(q->pid) : 0;

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
