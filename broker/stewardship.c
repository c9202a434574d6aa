/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/stewardship.h"

#include <string.h>

#include "broker/boot_clock.h"
#include "broker/desk_shell.h"
#include "broker/discovery.h"
#include "broker/endpoints.h"
#include "broker/fleet_shell.h"
#include "broker/fleet_survey.h"
#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/journal/journal.h"
#include "broker/metrics/metrics.h"
#include "broker/net/net.h"
#include "broker/provision.h"
#include "broker/reload.h"
#include "broker/shell.h"
#include "broker/watchdog.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u

static void reload(void *ctx, struct steward_reload *asked)
{
	struct broker *broker = ctx;

	reload_request(broker->reload, asked);
}

static int endpoint_add(void *ctx, const char *yaml,
	bool (*may)(void *who, const struct selector_subject *endpoint), void *who, char *error,
	size_t error_size)
{
	struct broker *broker = ctx;

	return endpoints_add(broker->endpoints, yaml, may, who, error, error_size);
}

static int endpoint_remove(void *ctx, const char *name)
{
	struct broker *broker = ctx;

	return endpoints_remove(broker->endpoints, name);
}

static const char *endpoint_origin(void *ctx, const char *name)
{
	const struct broker *broker = ctx;

	return endpoints_origin(broker->endpoints, name);
}

static const char *endpoint_uuid(void *ctx, const char *name)
{
	const struct broker *broker = ctx;

	return endpoints_uuid(broker->endpoints, name);
}

static void unserved(void *ctx, steward_unserved_fn each, void *arg)
{
	const struct broker *broker = ctx;

	discovery_unserved(broker->discovery, each, arg);
}

/* As its adapter would say it. */
static int endpoint_invalidate(void *ctx, const char *name)
{
	struct broker *broker = ctx;
	struct core_endpoint_info info;
	vmsig_event ev = {.kind = VMSIG_EV_MEMCTX_INVALIDATED};
	int r = core_endpoint_find(broker->core, NULL, name, &info);

	if (r)
		return r;
	ev.endpoint = info.id;
	return core_emit(broker->core)->event(broker->core, &ev);
}

/* ---- providers ---- */

static void provide(void *ctx, const struct steward_wish *wish, struct steward_provider *who,
	uint64_t request_id)
{
	struct broker *broker = ctx;

	provisions_provide(broker->provisions, wish, who, request_id);
}

static int provide_invalidate(
	void *ctx, const struct steward_provider *who, const struct steward_kernel *kernel)
{
	struct broker *broker = ctx;

	return provisions_invalidate(broker->provisions, who, kernel);
}

static int provide_end(void *ctx, const struct steward_provider *who, const char *name)
{
	struct broker *broker = ctx;

	return provisions_end(broker->provisions, who, name);
}

static uint32_t providers_cut(void *ctx, const char *tenant, const uid_t *uid)
{
	const struct broker *broker = ctx;

	return provisions_cut(broker->provisions, tenant, uid);
}

static void provider_left(void *ctx, const struct steward_provider *who, bool may_come_back)
{
	struct broker *broker = ctx;

	provisions_leave(broker->provisions, who, may_come_back);
}

/* ---- the fleet ---- */

static int fleet(void *ctx, struct steward_fleet *ret_fleet)
{
	const struct broker *broker = ctx;
	struct etcd_status status;

	if (!broker->fleet)
		return VMSIG_ERR_UNSUPPORTED;
	fleet_shell_etcd(broker->fleet, &status);
	*ret_fleet = (struct steward_fleet){.name = broker->membership->fleet.name,
		.host = broker->membership->fleet.host,
		.etcd = status.url,
		.version = status.version,
		.problem = fleet_shell_warning(broker->fleet)};
	return 0;
}

static bool fleet_guest(void *ctx, uint32_t endpoint, struct steward_guest *ret_guest)
{
	const struct broker *broker = ctx;
	uint64_t now_ns = boot_clock_ns();
	struct tenure_view view;
	bool may;

	if (!broker->fleet || !fleet_shell_look(broker->fleet, endpoint, &view))
		return false;
	may = !fleet_shell_may_write(broker->fleet, endpoint, now_ns, NULL);
	*ret_guest = (struct steward_guest){.uuid = view.uuid,
		.state = tenure_state_name(view.state),
		.holder = view.holder,
		.target = view.target,
		.epoch = view.epoch,
		.token = view.token,
		.right_ms = may ? (view.right_until_ns - now_ns) / NS_PER_MS : 0};
	return true;
}

static void survey(void *ctx, struct steward_survey *asked)
{
	const struct broker *broker = ctx;

	if (broker->fleet)
		fleet_survey_ask(fleet_shell_survey(broker->fleet), asked);
	else
		asked->done(asked, false);
}

static const struct atlas *atlas(void *ctx, const struct steward_survey *asked)
{
	const struct broker *broker = ctx;

	return broker->fleet ? fleet_survey_atlas(fleet_shell_survey(broker->fleet), asked) : NULL;
}

/* Those of a fleet that has ended were told so. */
static void forget(void *ctx, struct steward_survey *asked)
{
	const struct broker *broker = ctx;

	if (broker->fleet)
		fleet_survey_forget(fleet_shell_survey(broker->fleet), asked);
}

static int bump(void *ctx, struct steward_bump *ret_bump)
{
	const struct broker *broker = ctx;

	if (!broker->fleet)
		return VMSIG_ERR_UNSUPPORTED;
	fleet_clusters(fleet_shell_fleet(broker->fleet), &ret_bump->old, &ret_bump->new);
	ret_bump->why = fleet_frozen(fleet_shell_fleet(broker->fleet));
	return fleet_shell_bump(broker->fleet);
}

/* ---- status ---- */

static void warn(struct steward_status *status, const char *warning)
{
	if (warning && warning[0] && status->nwarnings < STEWARD_WARNINGS_MAX)
		status->warnings[status->nwarnings++] = warning;
}

static void warn_all(const struct broker *broker, struct steward_status *status)
{
	warn(status, store_unusable(broker->store));
	warn(status, store_refusal(broker->store));
	if (!broker->desk)
		warn(status, "the write plane is not open; it is tried again by itself");
	if (broker->fleet)
		warn(status, fleet_shell_warning(broker->fleet));
	if (broker->config->write.given && !broker->porter)
		warn(status, "bulk data cannot be received; the start of the log says why, or the "
			     "write plane came with a reload: start the broker again");
	for (size_t i = 0; i < broker->expiry.nwarnings; i++)
		warn(status, broker->expiry.warnings[i]);
	if (status->reload_error[0])
		warn(status, status->reload_error);
}

static void status_fill(void *ctx, struct steward_status *ret_status)
{
	struct broker *broker = ctx;
	struct reload_stats reloads = reload_stats(broker->reload);
	uint64_t now_ns = uv_hrtime();

	*ret_status = (struct steward_status){.config = broker->config->file,
		.uptime_ms = (now_ns - broker->started_ns) / NS_PER_MS,
		.tenants = (uint32_t)broker->config->ntenants,
		.reloads = reloads.succeeded + reloads.failed,
		.reload_error = reloads.last_error};
	if (reloads.ended_ns)
		ret_status->reload_ms = (now_ns - reloads.ended_ns) / NS_PER_MS;
	warn_all(broker, ret_status);
}

/* ---- stats ---- */

static void add_loop(const struct broker *broker, struct metrics *metrics)
{
	struct watchdog_counters turns = watchdog_counters(broker->watchdog);

	metrics_add(metrics, METRICS_TURNS, "", turns.turns);
	metrics_add(metrics, METRICS_LONG_TURNS, "", turns.long_turns);
	metrics_add(metrics, METRICS_LONGEST_TURN, "", turns.longest_ns);
	metrics_add(metrics, METRICS_LOG_DROPS, "", log_lost());
}

static void add_store(const struct broker *broker, struct metrics *metrics)
{
	struct journal *journal = store_journal(broker->store);
	struct audit_head head;

	if (!journal)
		return;
	audit_head_of(journal, &head);
	metrics_add(metrics, METRICS_AUDIT_HEAD, "", head.id);
	metrics_add(metrics, METRICS_JOURNAL, "", journal_bytes(journal));
}

static void add_planes(const struct broker *broker, struct metrics *metrics)
{
	const struct services_counts *counts = &broker->services.counts;

	metrics_add_errors(metrics, METRICS_REFUSALS, &counts->refusals);
	metrics_add_histogram(metrics, METRICS_OPERATION, "subscribe", &counts->subscribe);
	metrics_add_histogram(metrics, METRICS_OPERATION, "context", &counts->context);
	metrics_add_histogram(metrics, METRICS_OPERATION, "lease", &counts->lease);
	metrics_add_histogram(metrics, METRICS_OPERATION, "write", &counts->write);
	metrics_add_histogram(metrics, METRICS_OPERATION, "bulk", &counts->bulk);
	metrics_add_histogram(metrics, METRICS_OPERATION, "admin", &counts->admin);
}

/* What an administrator has to do something about, in numbers. */
static void add_health(struct broker *broker, struct metrics *metrics)
{
	bool records =
		broker->desk && !store_unusable(broker->store) && !store_refusal(broker->store);
	struct steward_status status;

	status_fill(broker, &status);
	metrics_add(metrics, METRICS_WARNINGS, "", status.nwarnings);
	metrics_add(metrics, METRICS_RECORDING, "", records);
}

static void stats(void *ctx, struct metrics *metrics)
{
	struct broker *broker = ctx;
	struct reload_stats reloads = reload_stats(broker->reload);

	metrics_add(metrics, METRICS_BUILD, VMSIG_VERSION, 1);
	metrics_add(metrics, METRICS_UPTIME, "", uv_hrtime() - broker->started_ns);
	core_stats(broker->core, metrics);
	if (broker->desk)
		desk_stats(broker->desk, metrics);
	if (broker->fleet)
		fleet_shell_stats(broker->fleet, metrics);
	add_planes(broker, metrics);
	net_stats(broker->net, metrics);
	add_loop(broker, metrics);
	add_store(broker, metrics);
	jobs_stats(broker->jobs, metrics);
	add_health(broker, metrics);
	expiry_metrics(&broker->expiry, metrics);
	metrics_add(metrics, METRICS_RELOADS, "ok", reloads.succeeded);
	metrics_add(metrics, METRICS_RELOADS, "error", reloads.failed);
}

const struct steward_ops stewardship = {
	.reload = reload,
	.endpoint_add = endpoint_add,
	.endpoint_remove = endpoint_remove,
	.endpoint_origin = endpoint_origin,
	.endpoint_uuid = endpoint_uuid,
	.unserved = unserved,
	.endpoint_invalidate = endpoint_invalidate,
	.provide = provide,
	.provide_invalidate = provide_invalidate,
	.provide_end = provide_end,
	.providers_cut = providers_cut,
	.provider_left = provider_left,
	.fleet = fleet,
	.fleet_guest = fleet_guest,
	.fleet_survey = survey,
	.fleet_atlas = atlas,
	.fleet_forget = forget,
	.fleet_bump = bump,
	.status = status_fill,
	.stats = stats,
};
