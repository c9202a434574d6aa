/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the adapter finds out, one flow at a time. BOOTSTRAP asks for everything and scans RAM
 * for a live kernel root; CONFIRM proves that root once more with vCPU state asked for after the
 * scan: QEMU sends events and replies in order, so a reset before that reply has been heard of.
 * Then MEMCTX is emitted. WATCH repeats the proof every reprove_ms and finds what raises no event
 * (kexec, a replaced RAM file, a snapshot that was loaded).
 *
 * A kernel lives for as long as its memory proves it. Where vCPUs are at a moment says nothing:
 * in firmware, in system management mode, in a guest of the guest. That none is on the kernel's
 * root for a while is only a reason to look for another kernel, the RIVAL flow, and a session
 * ends when one is proven.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define HANGS "the file system of guest RAM does not answer"
#define STRIKES_MEMORY 2
/* Looks without a vCPU on the kernel's root, after which another kernel is searched for. */
#define STRIKES_VCPU 3
/* A search reads all of RAM, and a guest of the guest can spin for as long as it likes. */
#define RIVAL_MAX_MS 30000

static void schedule_watch(struct qemu *q)
{
	bool soon = q->map_reads || restore_in_doubt(&q->restore);

	qemu_schedule(q, soon ? q->env.config->retry_ms : q->env.config->reprove_ms);
}

static void flow_failed(struct qemu *q, const char *why)
{
	enum flow flow = q->flow;
	char reason[REASON_MAX];

	snprintf(reason, sizeof(reason), "%s", why); /* `why` may be the inquiry's own */
	qemu_flow_cancel(q);
	if (q->ready) {
		if (flow != FLOW_RIVAL && publisher_may_log(&q->publisher))
			log_warning("cannot check the guest",
				LOG_STR("endpoint", q->env.config->name),
				LOG_STR("reason", reason));
		schedule_watch(q);
		return;
	}
	publisher_state(&q->publisher, VMSIG_STATE_BOOTING, reason);
	qemu_schedule_retry(q);
}

/* ---- jobs ---- */

static void on_job_done(struct errand *errand);

/* What holders have mapped hangs as well: it is void. */
static void on_job_late(struct errand *errand)
{
	struct qemu *q = errand->owner.arg;

	errand_abandon(errand);
	q->job = NULL;
	q->job_void = false;
	q->guest = guest_unref(q->guest);
	if (!q->removed && (q->ready || q->owed))
		qemu_session_end(q, HANGS);
	qemu_maybe_stopped(q);
}

/* Takes the contents of `roots`. */
static void job_begin(struct qemu *q, enum guest_job_kind kind, struct vcpu_roots *roots)
{
	const struct errand_owner owner = {.done = on_job_done, .late = on_job_late, .arg = q};
	int r;

	if (job_line_is_stuck(q->line)) {
		vcpu_deinit(roots);
		flow_failed(q, HANGS);
		return;
	}
	r = guest_job_start(&q->job, kind, q->guest, roots, &q->proof, &owner, q->line);
	if (r)
		flow_failed(q, strerror(-r));
}

static const char *job_error(const struct guest_job *job)
{
	if (job->error[0])
		return job->error;
	return job->errand.result < 0 ? strerror(-job->errand.result)
				      : vmsig_error_text(job->errand.result);
}

/* The first search comes at once: a kexec is told no later than it can be. */
static bool is_rival_due(struct qemu *q)
{
	uint64_t now = uv_now(q->env.loop);

	if (q->strikes_vcpu < STRIKES_VCPU || now < q->rival_ms)
		return false;
	q->rival_wait_ms =
		q->rival_wait_ms ? q->rival_wait_ms * 2 : q->env.config->reprove_ms * STRIKES_VCPU;
	if (q->rival_wait_ms > RIVAL_MAX_MS)
		q->rival_wait_ms = RIVAL_MAX_MS;
	q->rival_ms = now + q->rival_wait_ms;
	return true;
}

static void memory_failed(struct qemu *q)
{
	if (++q->strikes_memory >= STRIKES_MEMORY || q->urgent || q->lost)
		qemu_session_end(q, "the kernel's proof is gone from memory");
	else
		qemu_schedule(q, q->env.config->reprove_ms);
}

static void memory_holds(struct qemu *q, struct guest_job *job)
{
	q->strikes_memory = 0;
	q->urgent = false;
	if (q->lost) {
		qemu_session_publish(q);
		return;
	}
	if (!job->errand.result) {
		q->strikes_vcpu = 0;
		q->rival_ms = q->rival_wait_ms = 0;
	} else {
		q->strikes_vcpu++;
	}
	if (job->errand.result && job->roots.ncr3 && is_rival_due(q)) {
		q->flow = FLOW_RIVAL;
		job_begin(q, GUEST_FIND, &job->roots);
		return;
	}
	schedule_watch(q);
}

static void watch_done(struct qemu *q, struct guest_job *job)
{
	/* A RAM file whose name is gone is still what QEMU maps. */
	static const char *const changes[] = {[RAM_SHRUNK] = "the RAM file shrank",
		[RAM_REPLACED] = "the RAM file was replaced",
		[RAM_UNMAPPED] = "QEMU does not map its RAM file any more"};
	size_t change = job->change;

	q->flow = FLOW_NONE;
	if (change < sizeof(changes) / sizeof(changes[0]) && changes[change]) {
		q->guest = guest_unref(q->guest);
		qemu_session_end(q, changes[change]);
	} else if (job->memory) {
		memory_failed(q);
	} else {
		memory_holds(q, job);
	}
}

static void rival_done(struct qemu *q, const struct guest_job *job)
{
	q->flow = FLOW_NONE;
	if (job->errand.result == 0 && job->proof.kcr3 != q->proof.kcr3)
		qemu_session_end(q, "vCPUs run another kernel");
	else
		schedule_watch(q);
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
	if (!publisher_has_told(&q->publisher, reason))
		publisher_log_conflict(&q->publisher, other);
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
		qemu_session_tell_ram(q);
	if (job->errand.result) {
		flow_failed(q, job_error(job));
		return;
	}
	q->proof = job->proof;
	qemu_flow_start(q, FLOW_CONFIRM);
}

static void confirm_done(struct qemu *q, const struct guest_job *job)
{
	bool kept = job->change == RAM_SAME || job->change == RAM_MISSING;

	if (job->errand.result || !kept) {
		flow_failed(q, "a kernel was found, but a moment later no vCPU was on its root");
		return;
	}
	q->flow = FLOW_NONE;
	qemu_session_publish(q);
}

static void on_job_done(struct errand *errand)
{
	struct guest_job *job = (struct guest_job *)errand;
	struct qemu *q = errand->owner.arg;
	enum flow queued = q->queued;

	q->job = NULL;
	if (q->job_void) {
		q->job_void = false;
		q->queued = FLOW_NONE;
		if (queued)
			qemu_flow_start(q, queued);
	} else if (q->flow == FLOW_BOOTSTRAP) {
		find_done(q, job);
	} else if (q->flow == FLOW_CONFIRM) {
		confirm_done(q, job);
	} else if (q->flow == FLOW_RIVAL) {
		rival_done(q, job);
	} else {
		watch_done(q, job);
	}
	qemu_maybe_stopped(q);
}

/* ---- answers ---- */

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

		int socket = q->transport ? -1 : link_fd(&q->link);

		if (guest_new(&guest, &q->inquiry.map, q->env.config, q->pid, socket, why,
			    sizeof(why))) {
			flow_failed(q, why);
			return;
		}
		guest_unref(q->guest);
		q->guest = guest;
		/* Its number may have become another's since the transport has named it. */
		if (q->transport && !process_is(q->process, q->pid)) {
			q->guest = guest_unref(guest);
			flow_failed(q, "QEMU has ended, or cannot be watched");
			return;
		}
		check_split(q);
	}
	job_begin(q, GUEST_FIND, &q->inquiry.roots);
}

static void confirm_answered(struct qemu *q)
{
	restore_begin(&q->restore, &q->inquiry.look);
	job_begin(q, GUEST_CHECK, &q->inquiry.roots);
}

static void watch_answered(struct qemu *q)
{
	const char *why = "";
	enum restore_verdict verdict;

	if ((q->inquiry.what & INQUIRY_MAP) && !memmap_equal(&q->guest->map, &q->inquiry.map)) {
		qemu_session_end(q, "the memory map changed");
		return;
	}
	verdict = restore_judge(&q->restore, &q->inquiry.look, &why);
	if (verdict == RESTORE_REPLACED) {
		qemu_session_end(q, why);
	} else if (verdict == RESTORE_AGAIN) {
		qemu_flow_cancel(q);
		schedule_watch(q);
	} else {
		job_begin(q, GUEST_CHECK, &q->inquiry.roots);
	}
}

/* Run states (qapi/run-state.json) in which no guest kernel of this QEMU is to be served. */
static const char *status_refusal(const char *status)
{
	static const char *const refused[][2] = {
		{"inmigrate", "waiting for an incoming migration"},
		{"prelaunch", "QEMU was started with -S and waits for `cont`"},
		{"postmigrate", QEMU_MIGRATED_AWAY},
		{"shutdown", "the guest has shut down"},
		{"restore-vm", "QEMU loads a snapshot of the guest"},
		{"colo", "QEMU stands by for a guest that runs elsewhere (COLO)"},
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (strcmp(status, refused[i][0]) == 0)
			return refused[i][1];
	}
	return NULL;
}

/* Each state of such a job counts once: it stays in the list until its maker dismisses it. */
static bool is_loading(struct qemu *q)
{
	if (!q->inquiry.load_job[0] || strcmp(q->inquiry.load_job, q->load_job) == 0)
		return false;
	memcpy(q->load_job, q->inquiry.load_job, sizeof(q->load_job));
	return true;
}

static void flow_answered(struct qemu *q)
{
	const char *refusal = status_refusal(q->inquiry.status);

	q->migrating = q->inquiry.migrating;
	qemu_voyage_look(q);
	/* Also when its event was missed. */
	if (strcmp(q->inquiry.status, "guest-panicked") == 0)
		qemu_session_panic(q);
	if (refusal && q->ready)
		qemu_session_end(q, refusal);
	else if (q->ready && is_loading(q))
		qemu_session_end(q, "QEMU loads a snapshot of the guest");
	else if (refusal)
		flow_failed(q, refusal);
	else if (q->flow == FLOW_BOOTSTRAP)
		bootstrap_answered(q);
	else if (q->flow == FLOW_CONFIRM)
		confirm_answered(q);
	else
		watch_answered(q);
}

/* A map that cannot be served any more is not the one that holders have; one that could not be
 * asked for says nothing. */
static bool is_map_refused(const struct qemu *q, int r)
{
	return (q->inquiry.what & INQUIRY_MAP) &&
	       (r == VMSIG_ERR_UNSUPPORTED || r == VMSIG_ERR_BAD_REQUEST);
}

static void flow_step(struct qemu *q, int r)
{
	char reason[REASON_MAX];

	if (r == VMSIG_ERR_WOULD_BLOCK)
		return;
	if (r == 0) {
		flow_answered(q);
	} else if (q->ready && is_map_refused(q, r)) {
		snprintf(reason, sizeof(reason), "%s", q->inquiry.error);
		qemu_session_end(q, reason);
	} else if (q->transport && q->inquiry.map.unshared) {
		flow_failed(q, q->transport->ram_advice);
	} else {
		flow_failed(q, q->inquiry.error);
	}
}

void qemu_flow_reply(struct qemu *q, const struct qmp_message *message)
{
	if (q->inquiry.active && message->id == q->inquiry.id)
		flow_step(q, inquiry_reply(&q->inquiry, &q->link, message));
}

static unsigned watch_asks(struct qemu *q)
{
	unsigned what = 0;

	if (q->map_reads) {
		q->map_reads--;
		what |= INQUIRY_MAP;
	}
	if (q->lost)
		what |= INQUIRY_MAP;
	if (restore_in_doubt(&q->restore))
		what |= INQUIRY_SNAPSHOTS;
	if (q->restore.restorable)
		what |= INQUIRY_CLOCK;
	if (q->loads_job)
		what |= INQUIRY_JOBS;
	q->loads_job = false;
	return what;
}

/* A guest that is reset again and again, or whose QEMU says so. */
static bool pauses(struct qemu *q)
{
	uint64_t pause_ms = publisher_pause(&q->publisher);

	if (!pause_ms)
		return false;
	publisher_state(&q->publisher, VMSIG_STATE_BOOTING,
		"the guest was reset very often; its kernel is looked for once a second");
	qemu_schedule(q, pause_ms);
	return true;
}

void qemu_flow_start(struct qemu *q, enum flow flow)
{
	unsigned what = 0;

	if (q->job_void) {
		q->queued = flow;
		return;
	}
	if (flow == FLOW_BOOTSTRAP && pauses(q))
		return;
	if (flow == FLOW_BOOTSTRAP)
		what = INQUIRY_MAP;
	else if (flow == FLOW_CONFIRM)
		what = INQUIRY_SNAPSHOTS;
	else
		what = watch_asks(q);
	q->flow = flow;
	flow_step(q, inquiry_start(&q->inquiry, &q->link, what));
}
