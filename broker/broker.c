/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/broker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/adapters/qemu/kept.h"
#include "broker/auditor.h"
#include "broker/boot_clock.h"
#include "broker/core_shell.h"
#include "broker/desk_shell.h"
#include "broker/discovery.h"
#include "broker/provision.h"
#include "broker/endpoints.h"
#include "broker/jobs.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/membership.h"
#include "broker/memwrite/fault.h"
#include "broker/planes/admin.h"
#include "broker/net/closer.h"
#include "broker/planes/ctx.h"
#include "broker/net/listener.h"
#include "broker/net/net.h"
#include "broker/planes/write.h"
#include "broker/reload.h"
#include "broker/runqueue.h"
#include "broker/stewardship.h"
#include "broker/syncer.h"
#include "broker/thread.h"
#include "broker/turn.h"
#include "broker/watchdog.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define JOB_THREADS 2        /* scans of guest memory are bound by memory, not by their number */
#define SHUTDOWN_MS 15000u   /* for clients, adapters and the pool's work to end */
#define KEPT_NS 60000000000u /* for all QEMUs to be found again */
#define COMPLAIN_MS 1000u    /* before that is over: who is waited for is logged */

static void on_turn(uv_prepare_t *prepare)
{
	turn_run(prepare->data);
}

/* ---- coherence pages ---- */

#define VOUCHES 6 /* in the span that each one is good for */

static void on_vouch(uv_timer_t *timer);

static void vouch(struct broker *broker)
{
	uint64_t span_ns = broker->config->vouch_ns;

	endpoints_vouch(broker->endpoints, uv_hrtime() + span_ns);
	uv_timer_start(&broker->vouch, on_vouch, span_ns / VOUCHES / NS_PER_MS, 0);
}

/* What the time of day ends. */
static void expire(struct broker *broker)
{
	int64_t now_s = (int64_t)time(NULL);
	struct tls_dates dates;

	/* Keys end with their connections. */
	if (!broker->net)
		return;
	net_expire(broker->net, now_s);
	if (!expiry_is_due(&broker->expiry, now_s))
		return;
	if (net_dates(broker->net, &dates))
		expiry_look(&broker->expiry, &dates, now_s);
	for (size_t i = 0; i < broker->expiry.nwarnings; i++)
		log_warning("a key ends", LOG_STR("what", broker->expiry.warnings[i]));
}

/* Not of those whose endpoint was removed while no broker ran. What is discovered is not known
 * yet. */
static bool is_kept_for(void *ctx, const char *kind, const char *owner)
{
	const struct config *config = ctx;
	const struct config_endpoint *endpoint = config_endpoint_find(config, owner);
	bool wanted = endpoint && endpoint->adapter == CONFIG_ADAPTER_QEMU;

	for (size_t i = 0; !wanted && i < config->ndiscover; i++)
		wanted = config->discover[i].qmp != NULL;
	return wanted && strcmp(kind, KEPT_KIND) == 0;
}

/* What nobody has asked for by now was of a QEMU that is served no more. */
static void forget_kept(void)
{
	uint64_t now_ns = uv_hrtime();

	if (now_ns > KEPT_NS)
		manager_forget(now_ns - KEPT_NS);
}

static void on_vouch(uv_timer_t *timer)
{
	vouch(timer->data);
	expire(timer->data);
	forget_kept();
}

/* ---- closing ---- */

/* Called by each part that has ended; the last one lets the loop run out. */
static void part_closed(void *ctx)
{
	struct broker *broker = ctx;
	if (!endpoints_are_idle(broker->endpoints) || broker->net || broker->desk_open ||
		broker->fleet || uv_is_closing((uv_handle_t *)&broker->turn))
		return;
	uv_close((uv_handle_t *)&broker->turn, NULL);
	jobs_close(broker->jobs);
	store_stop(broker->store);
	manager_detach();
	uv_close((uv_handle_t *)&broker->hurry, NULL);
	uv_close((uv_handle_t *)&broker->wake, NULL);
	uv_close((uv_handle_t *)&broker->vouch, NULL);
	upkeep_close(broker);
	uv_close((uv_handle_t *)&broker->patience, NULL);
	for (size_t i = 0; i < sizeof(broker->signals) / sizeof(broker->signals[0]); i++)
		uv_close((uv_handle_t *)&broker->signals[i], NULL);
}

static void on_left(struct broker *broker)
{
	/* Sessions and writes are gone; now what they were about. */
	endpoints_leave(broker->endpoints);
	discovery_close(broker->discovery);
	provisions_close(broker->provisions);
	endpoints_close(broker->endpoints);
}

static void on_desk_closed(void *arg)
{
	struct broker *broker = arg;

	broker->desk_open = false;
	/* Nobody writes any more: other hosts may. */
	membership_close(broker, on_left);
}

static void on_net_closed(void *arg)
{
	struct broker *broker = arg;

	broker->net = net_free(broker->net);
	if (broker->desk)
		desk_shell_close(broker->desk_shell, on_desk_closed, broker);
	else
		on_desk_closed(broker);
}

/* The watchdog is about to end it: who is waited for? */
static void on_patience(uv_timer_t *timer)
{
	struct broker *broker = timer->data;

	endpoints_complain(broker->endpoints);
}

static void broker_close(struct broker *broker)
{
	if (broker->closing)
		return;
	broker->closing = true;
	manager_tell("STOPPING=1");
	watchdog_end_within(broker->watchdog, SHUTDOWN_MS);
	uv_timer_start(&broker->patience, on_patience, SHUTDOWN_MS - COMPLAIN_MS, 0);
	core_closing(broker->core);
	net_close(broker->net, on_net_closed, broker);
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *handle, int signum)
{
	struct broker *broker = handle->data;

	if (signum == SIGHUP && !broker->closing) {
		reload_request(broker->reload, NULL);
		return;
	}
	log_info("shutting down", LOG_STR("signal", strsignal(signum)));
	broker_close(broker);
}

/* ---- start ---- */

static uint64_t monotonic_ns(void *ctx)
{
	return uv_hrtime();
}

static uint64_t waited_ns(void *ctx)
{
	const struct broker *broker = ctx;

	return runqueue_waited_ns(broker->waits_fd);
}

static int start_shares(struct broker *broker)
{
	int r = shares_new(&broker->shares, &SHARE_LIMITS_DEFAULT, monotonic_ns, broker);

	if (r)
		return r;
	/* Without it, whoever is at work when the thread loses its CPU pays for that. */
	broker->waits_fd = runqueue_open();
	if (broker->waits_fd >= 0)
		shares_know_waits(broker->shares, waited_ns);
	return 0;
}

static int start_handles(struct broker *broker)
{
	static const int signums[] = {SIGTERM, SIGINT, SIGHUP};
	int r = uv_prepare_init(&broker->loop, &broker->turn);

	broker->turn.data = broker->vouch.data = broker->patience.data = broker;
	if (!r)
		r = manager_attach(&broker->loop);
	if (!r)
		r = uv_idle_init(&broker->loop, &broker->hurry);
	if (!r)
		r = uv_timer_init(&broker->loop, &broker->wake);
	if (!r)
		r = uv_timer_init(&broker->loop, &broker->vouch);
	if (!r)
		r = uv_timer_init(&broker->loop, &broker->patience);
	for (size_t i = 0; !r && i < sizeof(signums) / sizeof(signums[0]); i++) {
		r = uv_signal_init(&broker->loop, &broker->signals[i]);
		broker->signals[i].data = broker;
		if (!r)
			r = uv_signal_start(&broker->signals[i], on_signal, signums[i]);
	}
	if (!r)
		r = uv_prepare_start(&broker->turn, on_turn);
	return r;
}

/* Beside the sockets, in the folder that is made for them. */
static void run_mark(const struct config *config, char *path, size_t size)
{
	snprintf(path, size, "%s.mark", config->ctx.path);
	/* Whether it could be made shows when the socket is. */
	(void)!listener_make_folder(config->ctx.path);
}

/* Two at once are mostly one too many. The service manager's number says nothing. */
static void complain_of_another(const struct config *config, const char *error)
{
	pid_t other = listener_other(config->ctx.path);

	if (other > 1)
		log_error("another vmsigd runs; stop that one, or give this one other sockets "
			  "('listen') and another 'state_dir'",
			LOG_STR("socket", config->ctx.path), LOG_INT("pid", other),
			LOG_STR("error", error));
	else
		log_error("cannot open the state", LOG_STR("error", error));
}

static int start_state(struct broker *broker)
{
	const struct config *config = broker->config;
	const struct core_limits limits = core_shell_limits(config);
	char error[512] = "", run[PATH_MAX];
	const struct store_options options = {.dir = config->state_dir,
		.run = run,
		.loop = &broker->loop,
		.audit_bytes = config->audit.size_max,
		.marks = true};
	int r;

	run_mark(config, run, sizeof(run));
	r = store_open_with(&broker->store, &options, error, sizeof(error));
	if (r == VMSIG_ERR_BUSY)
		complain_of_another(config, error);
	else if (r)
		log_error("cannot open the state", LOG_STR("error", error));
	if (r)
		return r;
	if (store_unusable(broker->store))
		log_error("the state cannot be used: sensors are served, nothing is granted or "
			  "written until it can",
			LOG_STR("error", error));
	if (store_taken_over(broker->store))
		log_info("the audit log of a former version is in the journal now",
			LOG_INT("records", store_taken_over(broker->store)));
	r = core_new(&broker->core, &limits);
	broker->services.read = broker->core;
	return r;
}

/* What fails is logged, `loudly` as an error. Whether it is open. */
static bool open_desk(struct broker *broker, bool loudly)
{
	const struct desk_shell_env env = {
		.shares = broker->shares,
		.jobs = broker->jobs,
		.syncer = broker->syncer,
		.closer = broker->closer,
		.core = broker->core,
		.store = broker->store,
		.fleet = broker->fleet,
		.config = broker->config,
		.events = &write_plane_events,
		.now_ns = boot_clock_ns,
	};
	char error[512] = "";

	if (store_unusable(broker->store) ||
		desk_shell_new(&broker->desk_shell, &env, error, sizeof(error)))
		broker->desk_shell = NULL;
	broker->desk = broker->desk_shell ? broker->desk_shell->desk : NULL;
	broker->services.write = broker->desk;
	broker->desk_open = broker->desk != NULL;
	endpoints_set_desk(broker->endpoints, broker->desk);
	if (!broker->desk && error[0])
		log_at(loudly ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG,
			"cannot open the write plane; it is tried again", LOG_STR("error", error));
	return broker->desk_open;
}

static const char *desk_missing(void *ctx)
{
	const struct broker *broker = ctx;
	const char *why = store_refusal(broker->store);

	/* What it says of paths is for the log. */
	if (store_unusable(broker->store))
		why = "the broker's state cannot be used, so nothing can be recorded; its log says "
		      "why, and it tries again by itself";
	return why ? why
		   : "the broker cannot record what is done; its log says why, and it tries again "
		     "by itself";
}

static void perform_actions(void *ctx)
{
	core_shell_perform(ctx);
}

static struct offer *offer_of(void *ctx, const char *name)
{
	const struct broker *broker = ctx;

	return provisions_offer(broker->provisions, name);
}

static int start_endpoints(struct broker *broker)
{
	const struct endpoints_env env = {
		.loop = &broker->loop,
		.shares = broker->shares,
		.jobs = broker->jobs,
		.guardian = broker->guardian,
		.fleet = broker->fleet,
		.core = broker->core,
		.store = broker->store,
		.perform = perform_actions,
		.offer_of = offer_of,
		.idle = part_closed,
		.ctx = broker,
	};

	int r = endpoints_new(&broker->endpoints, &env);

	if (!r)
		r = discovery_new(&broker->discovery, &(struct discovery_env){.loop = &broker->loop,
							      .jobs = broker->jobs,
							      .shares = broker->shares,
							      .endpoints = broker->endpoints});
	return r ? r
		 : provisions_new(
			   &broker->provisions, &broker->loop, broker->endpoints, broker->closer);
}

static int start_net(struct broker *broker)
{
	static const struct renewal_plane planes[] = {
		{&ctx_plane, offsetof(struct config, ctx)},
		{&write_plane, offsetof(struct config, write)},
		{&admin_plane, offsetof(struct config, admin)},
	};
	const struct net_env env = {.loop = &broker->loop,
		.shares = broker->shares,
		.planes = planes,
		.nplanes = sizeof(planes) / sizeof(planes[0]),
		.user = &broker->services};
	char error[512] = "";
	int r = net_new(&broker->net, &env, broker->config);

	if (!r)
		r = net_guard(broker->net, broker->closer, broker->porter);
	if (!r)
		r = net_listen(broker->net, error, sizeof(error));
	if (r)
		log_error("cannot listen", LOG_STR("error", error[0] ? error : error_text(r)));
	return r;
}

/* On a thread of the closer. */
static void on_stuck(void *ctx, uid_t uid, unsigned count)
{
	log_warning("sockets of clients do not close; their uid may not connect meanwhile",
		LOG_INT("uid", uid), LOG_INT("count", count));
}

static int start_watchdog(struct broker *broker)
{
	return watchdog_new(&broker->watchdog, &broker->loop, broker->shares);
}

static int start_closer(struct broker *broker)
{
	return closer_new(&broker->closer, on_stuck, broker);
}

static int start_jobs(struct broker *broker)
{
	return jobs_new(&broker->jobs, &broker->loop, JOB_THREADS);
}

static int start_upkeep(struct broker *broker)
{
	return upkeep_start(broker, open_desk);
}

static int start_syncer(struct broker *broker)
{
	return syncer_new(&broker->syncer, broker->store);
}

static int start_auditor(struct broker *broker)
{
	int r = auditor_new(&broker->auditor, broker->jobs, broker->store);

	broker->services.audit = broker->auditor;
	return r;
}

/* Without it sensors are served all the same. */
static int start_desk(struct broker *broker)
{
	int r = fault_setup();

	if (!r)
		(void)!open_desk(broker, true);
	return r;
}

static int start_reload(struct broker *broker)
{
	return reload_new(&broker->reload, broker);
}

/* Each stands on those before it. */
static int (*const parts[])(struct broker *broker) = {start_shares, start_watchdog, start_state,
	start_handles, start_closer, start_jobs, start_upkeep, start_syncer, start_auditor,
	membership_start, start_endpoints, start_desk, start_net, start_reload};

/* All parts are there; what was configured begins. */
static void begin(struct broker *broker)
{
	struct config *config = broker->config;

	endpoints_reconcile(broker->endpoints, config);
	discovery_adopt(broker->discovery, config);
	provisions_adopt(broker->provisions, config);
	vouch(broker);
	expire(broker); /* whoever asks from now on is told of the dates */
	/* What the policy took away while no broker ran. */
	if (broker->desk)
		desk_shell_reload(broker->desk_shell, config);
	reload_warn(config);
	manager_sift(is_kept_for, config);
	manager_tell("READY=1");
	log_info("vmsigd is ready", LOG_STR("version", VMSIG_VERSION),
		LOG_STR("ctx", config->ctx.path), LOG_INT("endpoints", config->nendpoints),
		LOG_INT("tenants", config->ntenants));
}

int broker_init(struct broker *broker, struct config *config, struct guardian *guardian,
	struct porter *porter)
{
	int r;

	memset(broker, 0, sizeof(*broker));
	broker->config = config;
	broker->guardian = guardian;
	broker->porter = porter;
	broker->exit_code = 1;
	broker->waits_fd = -1;
	broker->services = (struct services){
		.write_missing = desk_missing, .ctx = broker, .steward = &stewardship};
	broker->started_ns = uv_hrtime();
	r = uv_loop_init(&broker->loop);
	if (r) {
		log_error("cannot make an event loop", LOG_STR("error", error_text(r)));
		return r;
	}
	broker->loop_open = true;
	for (size_t i = 0; !r && i < sizeof(parts) / sizeof(parts[0]); i++)
		r = parts[i](broker);
	if (r)
		return r;
	broker->exit_code = 0;
	begin(broker);
	return 0;
}

int broker_run(struct broker *broker)
{
	thread_be_prompt();
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	return broker->exit_code;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void end_loop(struct broker *broker)
{
	if (broker->watchdog)
		watchdog_end_within(broker->watchdog, SHUTDOWN_MS);
	/* After a start that failed half way there are handles left. */
	if (broker->net)
		net_close(broker->net, NULL, NULL);
	if (broker->desk_open)
		desk_shell_close(broker->desk_shell, NULL, NULL);
	membership_close(broker, NULL);
	manager_detach();
	jobs_close(broker->jobs);
	if (broker->store)
		store_stop(broker->store);
	uv_walk(&broker->loop, close_handle, NULL);
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	reload_free(broker->reload);
	net_free(broker->net);
	desk_shell_free(broker->desk_shell); /* it watches the syncer */
	syncer_free(broker->syncer);
	auditor_free(broker->auditor);
	if (broker->store)
		upkeep_end(broker);
	jobs_free(broker->jobs);
	discovery_free(broker->discovery);
	provisions_free(broker->provisions);
	endpoints_free(broker->endpoints);
	core_free(broker->core);
	store_close(broker->store);
	if (broker->waits_fd >= 0)
		close(broker->waits_fd);
	closer_free(broker->closer);
	watchdog_free(broker->watchdog);
	shares_free(broker->shares);
	uv_loop_close(&broker->loop);
}

void broker_deinit(struct broker *broker)
{
	if (broker->loop_open)
		end_loop(broker);
	config_unref(broker->config);
}
