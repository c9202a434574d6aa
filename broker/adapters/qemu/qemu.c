/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter for QEMU: an endpoint whose RAM, layout and life are told by a QMP socket.
 *
 * Events end the session, or say that it has to be looked at; what ends it voids the flow under
 * way. A connection that is lost ends nothing while QEMU's process lives.
 */
#include "broker/adapters/adapter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>

#include "broker/adapters/qemu/guardian.h"
#include "broker/adapters/qemu/qemu.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "broker/policy/share.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

/* A hot-plug event can come before the flat view has changed: read it at once, and some times more.
 */
#define MAP_READS 3
#define NS_PER_US 1000u
#define PLACE_HANGS "the file system of the QMP socket does not answer"
#define EVENT_AGE_MAX_US 60000000u /* more says that the host's clock of the day was set */

/* ---- seam ---- */

/* An invalidation has no reason of its own, and the search for the next kernel takes its time. */
static void tell_end(struct qemu *q)
{
	char reason[REASON_MAX];

	if (!q->end_reason[0])
		return;
	snprintf(reason, sizeof(reason), "the guest's kernel is looked for anew: %.300s",
		q->end_reason);
	publisher_state(&q->publisher, VMSIG_STATE_BOOTING, reason);
	q->end_reason[0] = '\0';
}

static void seam_invalidate(void *ctx, uint32_t epoch)
{
	struct qemu *q = ctx;

	qemu_session_forget(q);
	publisher_begin(&q->publisher, epoch);
	q->owed = true;
	if (link_ready(&q->link)) {
		tell_end(q);
		qemu_schedule(q, 0);
	} else if (q->down_reason[0]) {
		publisher_state(&q->publisher, VMSIG_STATE_GONE, q->down_reason);
	}
}

/* ---- QMP ---- */

static void connect_later(struct qemu *q, const char *reason)
{
	bool was_ready = q->ready;
	uint64_t backoff_ms = q->backoff_ms;

	qemu_session_forget(q);
	quiesce_link_down(&q->quiesce);
	/* All that it had to say was heard. */
	if (!q->process || !process_is_alive(q->process))
		qemu_voyage_end(q);
	qemu_process_forget(q);
	if (!was_ready)
		q->backoff_ms = backoff_ms;
	q->guest = guest_unref(q->guest);
	snprintf(q->down_reason, sizeof(q->down_reason), "%s", reason);
	if (was_ready) {
		q->owed = false;
		qemu_voyage_over(q);
		(void)!publisher_invalidated(&q->publisher, reason);
	}
	publisher_state(&q->publisher, VMSIG_STATE_GONE, q->down_reason);
	qemu_schedule_retry(q);
}

/* The guest lives in its process, whoever hears of it. */
static void on_link_down(void *arg, const char *reason)
{
	struct qemu *q = arg;
	char why[REASON_MAX] = "";

	if (q->transport && q->spoken)
		q->transport->why(q->spoken, why, sizeof(why));
	if (why[0])
		reason = why;
	/* Whoever moves a guest ends QEMU at once, mostly before it is asked again. */
	if (q->ready && q->voyage == PASSAGE_LEFT)
		reason = QEMU_MIGRATED_AWAY;
	if (q->ready && process_is_alive(q->process)) {
		qemu_session_lose(q, reason);
		qemu_schedule_retry(q);
	} else {
		connect_later(q, reason);
	}
}

static void on_link_silent(void *arg, const char *reason)
{
	struct qemu *q = arg;

	/* What is said of sockets is not meant for it. */
	if (q->transport && q->spoken && !q->transport->pid(q->spoken))
		reason = q->transport->mute;
	if (q->ready) {
		qemu_session_lose(q, reason);
		return;
	}
	qemu_flow_cancel(q);
	quiesce_link_down(&q->quiesce);
	snprintf(q->down_reason, sizeof(q->down_reason), "%s", reason);
	publisher_state(&q->publisher, VMSIG_STATE_GONE, reason);
}

/* Over the same connection nothing was lost, but other answers may be as late. */
static void on_link_voice(void *arg)
{
	struct qemu *q = arg;

	if (q->removed)
		return;
	q->down_reason[0] = 0;
	quiesce_link_ready(&q->quiesce);
	if (!q->ready)
		publisher_state(&q->publisher, VMSIG_STATE_BOOTING, "QEMU answers again");
	qemu_schedule(q, 0);
}

/* Otherwise a migration would only be noticed at the next look. Changes nothing but that
 * MIGRATION events are sent; refused while one runs, which the next inquiry sees. */
static void ask_migration_events(struct qemu *q)
{
	json_t *arguments =
		json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events", "state", 1);
	uint64_t id;

	if (arguments)
		(void)!link_command(&q->link, "migrate-set-capabilities", arguments, &id);
}

/* Whether the session that is out of contact is this QEMU's. */
static void identify(struct qemu *q, pid_t pid)
{
	bool same = process_is(q->process, pid);

	if (same) {
		restore_missed(&q->restore);
		return;
	}
	if (q->ready)
		qemu_session_end(q, "another QEMU answers at the socket");
	restore_distrust(&q->restore);
	qemu_process_found(q, pid);
}

static void on_link_ready(void *arg, pid_t pid)
{
	struct qemu *q = arg;

	if (q->removed)
		return;
	if (q->spoken)
		pid = q->transport->pid(q->spoken);
	q->down_reason[0] = 0;
	q->backoff_ms = q->env.config->retry_ms;
	if (publisher_may_log(&q->publisher))
		log_info("connected to QEMU", LOG_STR("endpoint", q->env.config->name),
			LOG_INT("pid", pid));
	identify(q, pid);
	quiesce_link_ready(&q->quiesce);
	ask_migration_events(q);
	if (q->ready) {
		qemu_flow_start(q, FLOW_WATCH);
		return;
	}
	publisher_state(&q->publisher, VMSIG_STATE_BOOTING, "connected to QEMU");
	if (q->owed)
		qemu_flow_start(q, FLOW_BOOTSTRAP);
}

/* ---- events ---- */

static void event_end(struct qemu *q, const struct qmp_message *message)
{
	qemu_voyage_distrust(q);
	qemu_session_end(q, message->name);
}

/* RAM may have been replaced as a whole. */
static void look_at_once(struct qemu *q)
{
	q->urgent = true;
	/* What a flow under way has asked before may be of the RAM that was replaced. */
	qemu_flow_cancel(q);
	/* A search of RAM costs more than a look, and events cost QEMU nothing. */
	if (!q->ready)
		q->backoff_ms = q->env.config->retry_ms;
	qemu_schedule(q, q->ready ? 0 : q->backoff_ms);
}

/* Of the event, in the loop's clock: when it is read says little about when it was. */
static uint64_t event_time(const struct qmp_message *message)
{
	struct timeval now;
	uint64_t now_us;

	gettimeofday(&now, NULL);
	now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec;
	if (!message->stamp_us || message->stamp_us > now_us ||
		now_us - message->stamp_us > EVENT_AGE_MAX_US)
		return uv_hrtime();
	return uv_hrtime() - (now_us - message->stamp_us) * NS_PER_US;
}

static void event_stop(struct qemu *q, const struct qmp_message *message)
{
	bool ours = quiesce_owns_stop(&q->quiesce);

	restore_stopped(&q->restore, event_time(message), ours);
	if (!ours)
		look_at_once(q);
}

static void event_resume(struct qemu *q, const struct qmp_message *message)
{
	bool ours = quiesce_owns_resume(&q->quiesce);

	restore_resumed(&q->restore, event_time(message), ours);
	if (!ours)
		look_at_once(q);
}

static void event_wakeup(struct qemu *q, const struct qmp_message *message)
{
	restore_distrust(&q->restore);
	look_at_once(q);
}

static void event_migration(struct qemu *q, const struct qmp_message *message)
{
	/* Until the inquiry says that it is over. */
	q->migrating = true;
	qemu_voyage_event(q, json_string_value(json_object_get(message->value, "status")));
	look_at_once(q);
}

static void event_map(struct qemu *q, const struct qmp_message *message)
{
	q->map_reads = MAP_READS;
	if (q->ready && q->flow == FLOW_NONE)
		qemu_schedule(q, 0);
}

static void event_job(struct qemu *q, const struct qmp_message *message)
{
	q->loads_job = true;
	if (q->ready && q->flow == FLOW_NONE)
		qemu_schedule(q, 0);
}

/* What QEMU does then follows in events of its own: STOP, SHUTDOWN, or nothing. */
static void event_panic(struct qemu *q, const struct qmp_message *message)
{
	const char *action = json_string_value(json_object_get(message->value, "action"));

	if (!action || strcmp(action, "run") != 0)
		quiesce_leave_stopped(&q->quiesce);
	qemu_session_panic(q);
}

/* qapi/run-state.json, machine.json, qdev.json, acpi.json, migration.json, job.json */
static const struct {
	const char *name;
	void (*handle)(struct qemu *q, const struct qmp_message *message);
} events[] = {
	{"RESET", event_end},
	{"SHUTDOWN", event_end},
	{"GUEST_PANICKED", event_panic},
	{"GUEST_CRASHLOADED", event_end},
	{"STOP", event_stop},
	{"RESUME", event_resume},
	{"WAKEUP", event_wakeup},
	{"MIGRATION", event_migration},
	{"MEMORY_DEVICE_SIZE_CHANGE", event_map},
	{"DEVICE_DELETED", event_map},
	{"ACPI_DEVICE_OST", event_map},
	{"JOB_STATUS_CHANGE", event_job},
};

static void on_link_message(void *arg, struct qmp_message *message)
{
	struct qemu *q = arg;

	if (message->kind == QMP_REPLY) {
		if (!quiesce_reply(&q->quiesce, message))
			qemu_flow_reply(q, message);
		return;
	}
	for (size_t i = 0; !q->removed && i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(events[i].name, message->name) != 0)
			continue;
		if (!q->ready)
			q->unbroken = false;
		events[i].handle(q, message);
	}
}

static void on_place(struct errand *errand)
{
	struct place_job *job = (struct place_job *)errand;
	struct qemu *q = errand->owner.arg;
	int r, kept, fd = job->fd;

	q->place = NULL;
	if (errand->result) {
		on_link_down(q, job->why);
		return;
	}
	job->fd = -1;
	kept = qemu_session_inherit(q, fd);
	r = kept >= 0 ? link_resume(&q->link, fd, kept) : link_open(&q->link, fd);
	if (r)
		on_link_down(q, strerror(-r));
}

static void on_place_late(struct errand *errand)
{
	struct qemu *q = errand->owner.arg;

	errand_abandon(errand);
	q->place = NULL;
	on_link_down(q, PLACE_HANGS);
}

static void connect_spoken(struct qemu *q)
{
	int fd, r;

	if (q->spoken)
		q->spoken = q->transport->close(q->spoken);
	r = q->transport->open(&q->spoken, &fd, q->env.config);
	if (!r)
		r = link_attach(&q->link, fd);
	if (r)
		on_link_down(q, strerror(-r));
}

static void connect_qemu(struct qemu *q)
{
	const struct config_endpoint *config = q->env.config;
	const struct errand_owner owner = {.done = on_place, .late = on_place_late, .arg = q};

	if (q->place)
		return;
	if (job_line_is_stuck(q->line))
		on_link_down(q, PLACE_HANGS);
	else if (place_start(&q->place, config, &owner, q->line))
		on_link_down(q, strerror(ENOMEM));
}

static void on_timer(uv_timer_t *timer)
{
	struct qemu *q = timer->data;

	if (!q->link.conn && q->transport) {
		connect_spoken(q);
	} else if (!q->link.conn) {
		connect_qemu(q);
	} else if (link_ready(&q->link) && q->flow == FLOW_NONE && !q->queued) {
		if (q->ready)
			qemu_flow_start(q, FLOW_WATCH);
		else if (q->owed)
			qemu_flow_start(q, FLOW_BOOTSTRAP);
	}
}

/* ---- life ---- */

static void on_link_closed(void *arg)
{
	qemu_maybe_stopped(arg);
}

static void on_quiesce_closed(void *arg)
{
	struct qemu *q = arg;

	link_close(&q->link);
	qemu_maybe_stopped(q);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct qemu *q = handle->data;

	q->timer_open = false;
	qemu_maybe_stopped(q);
}

void qemu_stop(struct adapter *adapter, adapter_stopped_fn stopped, void *arg)
{
	struct qemu *q = (struct qemu *)adapter;

	q->removed = true;
	publisher_unregister(&q->publisher);
	qemu_flow_cancel(q);
	/* Not waited for: it may hang. */
	errand_abandon((struct errand *)q->job);
	errand_abandon((struct errand *)q->place);
	q->job = NULL;
	q->place = NULL;
	qemu_process_forget(q);
	q->ready = q->owed = false;
	q->stopped = stopped;
	q->stopped_arg = arg;
	quiesce_close(&q->quiesce);
	uv_close((uv_handle_t *)&q->timer, on_timer_closed);
}

static int qemu_register(struct qemu *q, char *error, size_t error_size)
{
	int r = share_get(q->env.shares, SHARE_QEMU, q->env.config->name, &q->share);

	q->link.share = q->share;
	if (!r)
		r = seam_register(q, seam_invalidate);
	if (r)
		snprintf(error, error_size, "endpoint '%s' cannot be registered: %s",
			q->env.config->name, error_name(r));
	return r;
}

/* For the guardian, who comes by the transport's way as well. */
static int arm_spoken(void *arg)
{
	const struct qemu *q = arg;
	char ward[GUARDIAN_WARD_MAX];
	int r = q->transport->ward(q->spoken, ward, sizeof(ward));

	return r ? r
		 : guardian_arm_ward(
			   q->env.guardian, q->env.config->name, ward, process_fd(q->process));
}

int qemu_start_over(struct adapter **ret_adapter, const struct adapter_env *env,
	const struct adapter_ops *ops, const struct transport *transport, char *error,
	size_t error_size)
{
	const struct config_endpoint *config = env->config;
	struct qemu *q;
	int r;

	q = calloc(1, sizeof(*q));
	if (!q || job_line_new(&q->line, env->jobs)) {
		free(q);
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	q->base.ops = ops;
	q->transport = transport;
	q->env = *env;
	q->backoff_ms = config->retry_ms;
	q->link = (struct link){.loop = env->loop,
		.path = transport ? transport->name : config->qmp,
		.timeout_ms = config->qmp_timeout_ms,
		.arg = q,
		.on_ready = on_link_ready,
		.on_message = on_link_message,
		.on_silent = on_link_silent,
		.on_voice = on_link_voice,
		.on_down = on_link_down,
		.on_closed = on_link_closed};
	q->migrating = true;
	r = qemu_register(q, error, error_size);
	if (r) {
		share_unref(q->share);
		job_line_free(q->line);
		free(q);
		return r;
	}
	quiesce_init(&q->quiesce, &q->link, env->guardian, on_quiesce_closed, q);
	if (transport)
		quiesce_arm_by(&q->quiesce, config->name, arm_spoken, q);
	(void)uv_timer_init(env->loop, &q->timer); /* cannot fail */
	q->timer.data = q;
	q->due = on_timer;
	q->timer_open = true;
	qemu_schedule(q, 0);
	*ret_adapter = &q->base;
	return 0;
}

static int qemu_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	const struct config_endpoint *config = env->config;

	if (strlen(config->qmp) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		snprintf(error, error_size,
			"endpoint '%s': the path of a socket has at most 107 "
			"bytes, %s is longer",
			config->name, config->qmp);
		return VMSIG_ERR_BAD_REQUEST;
	}
	return qemu_start_over(ret_adapter, env, &adapter_qemu, NULL, error, error_size);
}

static void qemu_leave(struct adapter *adapter)
{
	qemu_session_leave((struct qemu *)adapter);
}

const struct adapter_ops adapter_qemu = {
	.name = "qemu", .start = qemu_start, .leave = qemu_leave, .stop = qemu_stop};
