/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter for QEMU: an endpoint whose RAM, layout and life are told by a QMP socket.
 *
 * Three flows, one at a time. BOOTSTRAP asks for everything and scans RAM for a live kernel
 * root; CONFIRM proves that root once more with vCPU state asked for after the scan: QEMU
 * sends events and replies in order, so a reset before that reply has been heard of. Then
 * MEMCTX is emitted. WATCH repeats the proof every reprove_ms and finds what raises no event
 * (kexec, a replaced RAM file). Whatever ends the VM session voids the flow under way.
 */
#include "broker/adapters/adapter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

/* The vCPU part of the proof can fail on a live kernel while vCPUs are in firmware. */
#define STRIKES_MEMORY 2
#define STRIKES_VCPU 3
/* A hot-plug event can come before the flat view has changed: read it twice. */
#define MAP_READS 2

static void flow_start(struct qemu *q, enum flow flow);
static void on_timer(uv_timer_t *timer);

/* ---- seam ---- */

static void schedule(struct qemu *q, uint64_t ms)
{
	if (q->timer_open)
		(void)uv_timer_start(&q->timer, on_timer, ms, 0); /* only fails while closing */
}

static void schedule_retry(struct qemu *q)
{
	uint64_t max = q->env.config->retry_max_ms;

	schedule(q, q->backoff_ms);
	q->backoff_ms = q->backoff_ms < max / 2 ? q->backoff_ms * 2 : max;
}

static void flow_cancel(struct qemu *q)
{
	inquiry_reset(&q->inquiry);
	q->flow = q->queued = FLOW_NONE;
	if (q->job && !q->job_void) {
		q->job_void = true;
		guest_job_cancel(q->job);
	}
}

/* Back to the start, in whatever epoch it will be. */
static void session_forget(struct qemu *q)
{
	flow_cancel(q);
	q->ready = false;
	q->proof = (struct kcr3_proof){0};
	q->strikes_memory = q->strikes_vcpu = 0;
	q->urgent = false;
	q->backoff_ms = q->env.config->retry_ms;
}

static void seam_invalidate(void *ctx, uint32_t epoch)
{
	struct qemu *q = ctx;

	session_forget(q);
	q->epoch = epoch;
	q->owed = true;
	q->told_state = VMSIG_STATE_UNKNOWN;
	if (!link_ready(&q->link) && q->down_reason[0])
		qemu_tell_state(q, VMSIG_STATE_GONE, q->down_reason);
	else if (link_ready(&q->link))
		schedule(q, 0);
}

/* What the core knows of this VM session is void. While no MEMCTX is out the epoch goes on:
 * there is nothing to take back, only the search starts over. */
static void session_end(struct qemu *q, const char *reason)
{
	bool was_ready = q->ready;

	session_forget(q);
	log_info("VM session ended", LOG_STR("endpoint", q->env.config->name),
		LOG_STR("reason", reason), LOG_INT("epoch", q->epoch));
	if (was_ready) {
		q->owed = false;
		qemu_tell_invalidated(q);
	} else if (q->owed) {
		schedule(q, q->env.config->retry_ms);
	}
}

static void publish(struct qemu *q)
{
	vmsig_event ev = {
		.kind = VMSIG_EV_MEMCTX, .source = VMSIG_SRC_MEMCTX, .endpoint = q->env.endpoint};
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;
	int r;

	/* With what tells this session from others, which only the proof knows. */
	qemu_tell_ram(q);
	q->ready = true; /* the core may ask for a descriptor inside of the call */
	q->told_state = VMSIG_STATE_READY;
	qemu_describe(q, &pod, &segs, &nseg);
	memcpy(ev.inln, &pod, sizeof(pod));
	ev.payload = (vmsig_payload){.data = segs, .len = nseg * sizeof(*segs)};
	r = q->env.emit->event(q->env.emit->core, &ev);
	if (r) {
		/* STALE_EPOCH: the core has asked for a newer one and will say so. */
		q->ready = false;
		log_info("context dropped", LOG_STR("endpoint", q->env.config->name),
			LOG_INT("epoch", q->epoch), LOG_STR("error", vmsig_error_name(r)));
		schedule_retry(q);
		return;
	}
	log_info("kernel proven", LOG_STR("endpoint", q->env.config->name),
		LOG_INT("epoch", q->epoch), LOG_HEX("kcr3", q->proof.kcr3),
		LOG_INT("levels", q->proof.levels),
		LOG_STR("os", vmsig_os_name(q->proof.system.os)),
		LOG_STR("proof", vmsig_proof_name(q->proof.system.proof)),
		LOG_STR("release", q->proof.system.release));
	schedule(q, q->env.config->reprove_ms);
}

/* ---- flows ---- */

static void flow_failed(struct qemu *q, const char *why)
{
	/* A map that cannot be served any more is not the one that holders have. */
	bool map_refused = q->inquiry.what & INQUIRY_MAP && !q->job;
	enum flow flow = q->flow;
	char reason[REASON_MAX];

	snprintf(reason, sizeof(reason), "%s", why); /* `why` may be the inquiry's own */
	flow_cancel(q);
	if (flow == FLOW_WATCH && map_refused) {
		session_end(q, reason);
		return;
	}
	if (flow == FLOW_WATCH) {
		log_warning("cannot check the guest", LOG_STR("endpoint", q->env.config->name),
			LOG_STR("reason", reason));
		schedule(q, q->env.config->reprove_ms);
		return;
	}
	qemu_tell_state(q, VMSIG_STATE_BOOTING, reason);
	schedule_retry(q);
}

static void check_failed(struct qemu *q, const struct guest_job *job)
{
	unsigned *strikes = job->memory ? &q->strikes_memory : &q->strikes_vcpu;
	unsigned limit = job->memory ? STRIKES_MEMORY : STRIKES_VCPU;

	if (++*strikes >= limit || (q->urgent && job->memory))
		session_end(q, job->memory ? "the kernel's proof is gone from memory"
					   : "no vCPU runs on the kernel's root any more");
	else
		schedule(q, q->urgent ? q->env.config->retry_ms : q->env.config->reprove_ms);
}

static void watch_done(struct qemu *q, const struct guest_job *job)
{
	static const char *const changes[] = {[RAM_SHRUNK] = "the RAM file shrank",
		[RAM_REPLACED] = "the RAM file was replaced",
		[RAM_MISSING] = "the RAM file's name is gone",
		[RAM_UNMAPPED] = "QEMU does not map its RAM file any more"};

	q->flow = FLOW_NONE;
	if (job->change != RAM_SAME) {
		q->guest = guest_unref(q->guest);
		session_end(q, changes[job->change]);
	} else if (job->result) {
		check_failed(q, job);
	} else {
		q->strikes_memory = q->strikes_vcpu = 0;
		q->urgent = false;
		schedule(q, q->map_reads ? q->env.config->retry_ms : q->env.config->reprove_ms);
	}
}

/* False: another endpoint has this RAM file, and who that is, is not for tenants. */
static bool claim_ram(struct qemu *q)
{
	static const char reason[] =
		"its RAM file is served as another endpoint already, which the broker's log names; "
		"give each guest a RAM file, and each RAM file one endpoint";
	const char *other = guest_claim(q->guest, q->env.claims, q->env.config->name);

	if (!other)
		return true;
	if (strcmp(q->told, reason) != 0)
		log_error("two endpoints have one RAM file; the first keeps it",
			LOG_STR("endpoint", q->env.config->name), LOG_STR("first", other));
	q->guest = guest_unref(q->guest);
	flow_failed(q, reason);
	return false;
}

static void find_done(struct qemu *q, struct guest_job *job)
{
	if (q->guest->ram && job->change == RAM_SAME && !claim_ram(q))
		return;
	if (job->change != RAM_SAME)
		q->guest = guest_unref(q->guest);
	else if (q->guest->ram)
		qemu_tell_ram(q);
	if (job->result) {
		flow_failed(q, job->error[0] ? job->error : strerror(abs(job->result)));
		return;
	}
	q->proof = job->proof;
	flow_start(q, FLOW_CONFIRM);
}

static void confirm_done(struct qemu *q, const struct guest_job *job)
{
	if (job->result || job->change != RAM_SAME) {
		flow_failed(q, "a kernel was found, but no vCPU runs on it");
		return;
	}
	q->flow = FLOW_NONE;
	publish(q);
}

static void maybe_stopped(struct qemu *q);

static void on_job_done(struct guest_job *job)
{
	struct qemu *q = job->arg;
	enum flow queued = q->queued;

	q->job = NULL;
	if (q->job_void) {
		q->job_void = false;
		q->queued = FLOW_NONE;
		if (queued)
			flow_start(q, queued);
	} else if (q->flow == FLOW_BOOTSTRAP) {
		find_done(q, job);
	} else if (q->flow == FLOW_CONFIRM) {
		confirm_done(q, job);
	} else {
		watch_done(q, job);
	}
	guest_job_free(job);
	maybe_stopped(q);
}

static void job_start(struct qemu *q, enum guest_job_kind kind)
{
	int r = guest_job_start(
		&q->job, q->env.loop, kind, q->guest, &q->inquiry.roots, &q->proof, on_job_done, q);

	if (r)
		flow_failed(q, strerror(-r));
}

/* Whether the RAM that is open is what this map describes. */
static bool guest_is(const struct guest *guest, const struct qemu *q)
{
	return guest && guest->ram && guest->pid == q->pid &&
	       memmap_equal(&guest->map, &q->inquiry.map);
}

static void check_split(const struct qemu *q)
{
	const struct memmap *map = &q->guest->map;

	if (q->inquiry.split && q->inquiry.split != map->low)
		log_warning("RAM below 4 GiB ends elsewhere than QEMU's default says; the memory "
			    "map is used",
			LOG_STR("endpoint", q->env.config->name), LOG_HEX("low", map->low),
			LOG_HEX("default", q->inquiry.split));
}

static void bootstrap_answered(struct qemu *q)
{
	if (!guest_is(q->guest, q)) {
		struct guest *guest;
		char why[REASON_MAX];

		if (guest_new(&guest, &q->inquiry.map, q->env.config, q->pid, link_fd(&q->link),
			    why, sizeof(why))) {
			flow_failed(q, why);
			return;
		}
		guest_unref(q->guest);
		q->guest = guest;
		check_split(q);
	}
	job_start(q, GUEST_FIND);
}

static void watch_answered(struct qemu *q)
{
	if ((q->inquiry.what & INQUIRY_MAP) && !memmap_equal(&q->guest->map, &q->inquiry.map)) {
		session_end(q, "the memory map changed");
		return;
	}
	job_start(q, GUEST_CHECK);
}

/* Run states (qapi/run-state.json) in which no guest kernel of this QEMU is to be served. */
static const char *status_refusal(const char *status)
{
	static const char *const refused[][2] = {
		{"inmigrate", "waiting for an incoming migration"},
		{"prelaunch", "QEMU was started with -S and waits for `cont`"},
		{"postmigrate", "the guest was migrated away"},
		{"shutdown", "the guest has shut down"},
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (strcmp(status, refused[i][0]) == 0)
			return refused[i][1];
	}
	return NULL;
}

static void flow_answered(struct qemu *q)
{
	const char *refusal = status_refusal(q->inquiry.status);

	q->migrating = q->inquiry.migrating;
	if (refusal && q->flow == FLOW_WATCH)
		session_end(q, refusal);
	else if (refusal)
		flow_failed(q, refusal);
	else if (q->flow == FLOW_BOOTSTRAP)
		bootstrap_answered(q);
	else if (q->flow == FLOW_WATCH)
		watch_answered(q);
	else
		job_start(q, GUEST_CHECK);
}

static void flow_step(struct qemu *q, int r)
{
	if (r == 0)
		flow_answered(q);
	else if (r != VMSIG_ERR_WOULD_BLOCK)
		flow_failed(q, q->inquiry.error);
}

static void flow_start(struct qemu *q, enum flow flow)
{
	unsigned what = flow == FLOW_BOOTSTRAP ? INQUIRY_MAP : 0;

	if (q->job_void) {
		q->queued = flow;
		return;
	}
	if (flow == FLOW_WATCH && q->map_reads) {
		q->map_reads--;
		what = INQUIRY_MAP;
	}
	q->flow = flow;
	flow_step(q, inquiry_start(&q->inquiry, &q->link, what));
}

/* ---- QMP ---- */

static void connect_later(struct qemu *q, const char *reason)
{
	bool was_ready = q->ready;
	uint64_t backoff_ms = q->backoff_ms;

	session_forget(q);
	quiesce_link_down(&q->quiesce);
	q->migrating = true;
	if (!was_ready)
		q->backoff_ms = backoff_ms;
	q->guest = guest_unref(q->guest);
	snprintf(q->down_reason, sizeof(q->down_reason), "%s", reason);
	if (was_ready) {
		q->owed = false;
		qemu_tell_invalidated(q);
	}
	qemu_tell_state(q, VMSIG_STATE_GONE, q->down_reason);
	schedule_retry(q);
}

static void on_link_down(void *arg, const char *reason)
{
	connect_later(arg, reason);
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

static void on_link_ready(void *arg, pid_t pid)
{
	struct qemu *q = arg;

	if (q->removed)
		return;
	q->pid = pid;
	q->down_reason[0] = 0;
	q->backoff_ms = q->env.config->retry_ms;
	log_info(
		"connected to QEMU", LOG_STR("endpoint", q->env.config->name), LOG_INT("pid", pid));
	quiesce_link_ready(&q->quiesce);
	ask_migration_events(q);
	qemu_tell_state(q, VMSIG_STATE_BOOTING, "connected to QEMU");
	if (q->owed)
		flow_start(q, FLOW_BOOTSTRAP);
}

static void event_end(struct qemu *q, const char *name)
{
	session_end(q, name);
}

static void event_check(struct qemu *q, const char *name)
{
	/* A stop of our own replaces nothing. */
	if (quiesce_is_active(&q->quiesce))
		return;
	q->urgent = true;
	if (!q->ready)
		q->backoff_ms = q->env.config->retry_ms;
	/* What a flow under way has asked before may be of the RAM that was replaced. */
	flow_cancel(q);
	schedule(q, 0);
}

static void event_migration(struct qemu *q, const char *name)
{
	/* Until the inquiry says that it is over. */
	q->migrating = true;
	q->urgent = true;
	flow_cancel(q);
	schedule(q, 0);
}

static void event_map(struct qemu *q, const char *name)
{
	q->map_reads = MAP_READS;
	if (q->ready && q->flow == FLOW_NONE)
		schedule(q, q->env.config->retry_ms);
}

/* qapi/run-state.json, machine.json, qdev.json, acpi.json, migration.json */
static const struct {
	const char *name;
	void (*handle)(struct qemu *q, const char *name);
} events[] = {
	{"RESET", event_end},
	{"SHUTDOWN", event_end},
	{"GUEST_PANICKED", event_end},
	{"GUEST_CRASHLOADED", event_end},
	{"STOP", event_check},
	{"RESUME", event_check},
	{"WAKEUP", event_check},
	{"MIGRATION", event_migration},
	{"MEMORY_DEVICE_SIZE_CHANGE", event_map},
	{"DEVICE_DELETED", event_map},
	{"ACPI_DEVICE_OST", event_map},
};

static void on_link_message(void *arg, struct qmp_message *message)
{
	struct qemu *q = arg;

	if (message->kind == QMP_REPLY) {
		if (quiesce_reply(&q->quiesce, message))
			return;
		if (q->inquiry.active && message->id == q->inquiry.id)
			flow_step(q, inquiry_reply(&q->inquiry, &q->link, message));
		return;
	}
	for (size_t i = 0; !q->removed && i < sizeof(events) / sizeof(events[0]); i++) {
		if (strcmp(events[i].name, message->name) == 0)
			events[i].handle(q, message->name);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct qemu *q = timer->data;
	int r;

	if (!q->link.conn) {
		r = link_open(&q->link);
		if (r)
			connect_later(q, strerror(-r));
	} else if (link_ready(&q->link) && q->flow == FLOW_NONE && !q->queued) {
		if (q->ready)
			flow_start(q, FLOW_WATCH);
		else if (q->owed)
			flow_start(q, FLOW_BOOTSTRAP);
	}
}

/* ---- life ---- */

static void maybe_stopped(struct qemu *q)
{
	adapter_stopped_fn stopped = q->stopped;
	void *arg = q->stopped_arg;

	if (!stopped || q->timer_open || q->link.closing || q->job || quiesce_is_open(&q->quiesce))
		return;
	inquiry_reset(&q->inquiry);
	guest_unref(q->guest);
	free(q);
	stopped(arg);
}

static void on_link_closed(void *arg)
{
	maybe_stopped(arg);
}

static void on_quiesce_closed(void *arg)
{
	struct qemu *q = arg;

	link_close(&q->link);
	maybe_stopped(q);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct qemu *q = handle->data;

	q->timer_open = false;
	maybe_stopped(q);
}

static void qemu_stop(struct adapter *adapter, adapter_stopped_fn stopped, void *arg)
{
	struct qemu *q = (struct qemu *)adapter;

	q->removed = true;
	seam_unregister(q);
	flow_cancel(q);
	q->ready = q->owed = false;
	q->stopped = stopped;
	q->stopped_arg = arg;
	quiesce_close(&q->quiesce);
	uv_close((uv_handle_t *)&q->timer, on_timer_closed);
}

static int qemu_register(struct qemu *q, char *error, size_t error_size)
{
	int r = seam_register(q, seam_invalidate);

	if (r)
		snprintf(error, error_size, "endpoint '%s' cannot be registered: %s",
			q->env.config->name, vmsig_error_name(r));
	return r;
}

static int qemu_start(
	struct adapter **ret_adapter, const struct adapter_env *env, char *error, size_t error_size)
{
	const struct config_endpoint *config = env->config;
	struct qemu *q;
	int r;

	if (strlen(config->qmp) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		snprintf(error, error_size,
			"endpoint '%s': the path of a socket has at most 107 "
			"bytes, %s is longer",
			config->name, config->qmp);
		return VMSIG_ERR_BAD_REQUEST;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	q->base.ops = &adapter_qemu;
	q->env = *env;
	q->backoff_ms = config->retry_ms;
	q->link = (struct link){.loop = env->loop,
		.path = config->qmp,
		.timeout_ms = config->qmp_timeout_ms,
		.arg = q,
		.on_ready = on_link_ready,
		.on_message = on_link_message,
		.on_down = on_link_down,
		.on_closed = on_link_closed};
	q->migrating = true;
	r = qemu_register(q, error, error_size);
	if (r) {
		free(q);
		return r;
	}
	quiesce_init(&q->quiesce, &q->link, env->guardian, on_quiesce_closed, q);
	(void)uv_timer_init(env->loop, &q->timer); /* cannot fail */
	q->timer.data = q;
	q->timer_open = true;
	schedule(q, 0);
	*ret_adapter = &q->base;
	return 0;
}

const struct adapter_ops adapter_qemu = {.name = "qemu", .start = qemu_start, .stop = qemu_stop};
