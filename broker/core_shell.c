/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/core_shell.h"

#include <sys/resource.h>

#include "broker/boot_clock.h"
#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/fleet_shell.h"
#include "broker/log.h"
#include "broker/planes/ctx.h"
#include "broker/shell.h"

static void do_persist_epoch(struct broker *broker, const struct core_action *action)
{
	int r = store_persist_epoch(broker->store, action->endpoint, action->epoch);

	log_info("epoch", LOG_STR("endpoint", action->name), LOG_INT("epoch", action->epoch));
	if (r)
		log_error("the epoch could not be stored; after a restart epochs skip ahead",
			LOG_STR("endpoint", action->name), LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(broker->store)));
}

static void do_persist_session(struct broker *broker, const struct core_action *action)
{
	int r = store_persist_session(
		broker->store, action->endpoint, action->epoch, action->fingerprint);

	if (broker->fleet)
		fleet_shell_session(broker->fleet, action->endpoint, action->fingerprint);
	if (r)
		log_error("the session could not be stored; a restart will end its epoch",
			LOG_STR("endpoint", action->name),
			LOG_STR("store", store_error(broker->store)));
}

static void do_wake_coherence(struct broker *broker, const struct core_action *action)
{
	endpoints_wake(broker->endpoints, action->endpoint);
}

static void do_revoke_leases(struct broker *broker, const struct core_action *action)
{
	/* Of a guest that goes on elsewhere leases go there. */
	bool keeps = broker->fleet && fleet_shell_over(broker->fleet, action->endpoint);

	if (broker->desk && keeps)
		desk_endpoint_leave(broker->desk, boot_clock_ns(), action->endpoint);
	else if (broker->desk)
		desk_endpoint_over(broker->desk, boot_clock_ns(), action->endpoint);
}

static void do_ready(struct broker *broker, const struct core_action *action)
{
	vmsig_coherence *page = endpoints_page(broker->endpoints, action->endpoint);
	bool ours = !broker->fleet || fleet_shell_ready(broker->fleet, action->endpoint,
					      action->epoch, action->fingerprint);

	if (page && broker->desk && ours)
		desk_endpoint_ready(
			broker->desk, boot_clock_ns(), action->endpoint, action->epoch, page);
	log_info("endpoint ready", LOG_STR("endpoint", action->name),
		LOG_INT("epoch", action->epoch));
}

static void do_notify(struct broker *broker, const struct core_action *action)
{
	ctx_plane_notify(session_user(action->session));
}

static void do_disconnect(struct broker *broker, const struct core_action *action)
{
	ctx_plane_disconnect(session_user(action->session), action->error);
}

static void do_bootstrap(struct broker *broker, const struct core_action *action)
{
	action->reg.invalidate(action->reg.ctx, action->epoch);
}

static void (*const performers[])(struct broker *, const struct core_action *) = {
	[CORE_ACT_PERSIST_EPOCH] = do_persist_epoch,
	[CORE_ACT_PERSIST_SESSION] = do_persist_session,
	[CORE_ACT_WAKE_COHERENCE] = do_wake_coherence,
	[CORE_ACT_REVOKE_LEASES] = do_revoke_leases,
	[CORE_ACT_READY] = do_ready,
	[CORE_ACT_NOTIFY] = do_notify,
	[CORE_ACT_DISCONNECT] = do_disconnect,
	[CORE_ACT_BOOTSTRAP] = do_bootstrap,
};

void core_shell_perform(struct broker *broker)
{
	struct core_action action;

	while (core_next_action(broker->core, &action))
		performers[action.kind](broker, &action);
}

/* Two descriptors for each context in flight are in the kernel's queues, where they count against
 * RLIMIT_NOFILE of a sender that is not root, or in this process, while a socket is full: a quarter
 * of what there are is for them. */
struct core_limits core_shell_limits(const struct config *config)
{
	struct core_limits limits = config->core;
	struct rlimit descriptors;

	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 &&
		descriptors.rlim_cur / 8 < limits.inflight)
		limits.inflight = (uint32_t)(descriptors.rlim_cur / 8);
	return limits;
}
