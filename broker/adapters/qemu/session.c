/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM session as the core knows it: it begins when a kernel is proven, ends when its memory is
 * another's, and outlives a lost connection: then the endpoint is unreachable until the same
 * process says so again, or has ended.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/adapters/qemu/kept.h"
#include "broker/adapters/qemu/qemu.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memctx.h"

void qemu_session_forget(struct qemu *q)
{
	qemu_flow_cancel(q);
	q->ready = q->lost = q->panicked = q->unbroken = false;
	q->proof = (struct kcr3_proof){0};
	q->strikes_memory = q->strikes_vcpu = 0;
	q->rival_ms = q->rival_wait_ms = 0;
	q->urgent = false;
	q->migrating = true;
	q->backoff_ms = q->env.config->retry_ms;
}

void qemu_session_end(struct qemu *q, const char *reason)
{
	bool was_ready = q->ready;

	qemu_session_forget(q);
	/* While no MEMCTX is out the epoch goes on: there is nothing to take back, only the search
	 * starts over, and that is no news. */
	if (!was_ready) {
		if (q->owed)
			qemu_schedule(q, q->env.config->retry_ms);
		return;
	}
	q->owed = false;
	snprintf(q->end_reason, sizeof(q->end_reason), "%s", reason);
	qemu_voyage_over(q);
	(void)!publisher_invalidated(&q->publisher, reason);
}

void qemu_session_lose(struct qemu *q, const char *reason)
{
	qemu_flow_cancel(q);
	quiesce_link_down(&q->quiesce);
	q->lost = true;
	q->unbroken = false;
	qemu_voyage_distrust(q);
	publisher_state(&q->publisher, VMSIG_STATE_UNREACHABLE, reason);
}

/* Of the kernel, and of the files when they are several: with RAM that was plugged while nobody
 * watched it is another context. */
static uint64_t digest_of(const struct qemu *q)
{
	const struct ramset *ram = q->guest->ram;

	return ramset_count(ram) > 1 ? q->proof.digest ^ ramset_digest(ram) : q->proof.digest;
}

/* Of our end of the connection, which is no other's in this boot; 0: not known. */
static uint64_t cookie_of(const struct qemu *q)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	int fd = link_fd(&q->link);

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* QEMU does not say how often it has reset the guest. So either the boot itself is random, or
 * `kept`: the connection over which QEMU tells of resets is the same one, and was left with
 * nothing read that was not acted on. And only where no snapshot could be loaded while nobody
 * watches. */
static void fingerprint(const struct qemu *q, bool kept, char session[static VMSIG_SESSION_MAX])
{
	unsigned long long start = q->restore.restorable ? 0 : process_start_time(q->pid);
	uint64_t cookie = kept && start && !q->proof.placement ? cookie_of(q) : 0;

	session[0] = '\0';
	if (start && q->proof.placement)
		snprintf(session, VMSIG_SESSION_MAX,
			"qemu:%d:%llx:%" PRIx64 ":%" PRIx64 ":%" PRIx64, q->pid, start,
			q->proof.kcr3, digest_of(q), q->proof.placement);
	else if (cookie)
		snprintf(session, VMSIG_SESSION_MAX,
			"kept:%d:%llx:%" PRIx64 ":%" PRIx64 ":%" PRIx64, q->pid, start,
			q->proof.kcr3, digest_of(q), cookie);
}

static void tell_ram(struct qemu *q, bool kept)
{
	char session[VMSIG_SESSION_MAX];

	fingerprint(q, kept, session);
	publisher_ram(&q->publisher, q->guest->ram, &q->guest->physmap, &q->proof.system, session);
}

void qemu_session_tell_ram(struct qemu *q)
{
	tell_ram(q, q->unbroken);
}

void qemu_session_publish(struct qemu *q)
{
	const vmsig_memseg *segs;
	vmsig_memctx pod;
	uint32_t nseg;

	qemu_voyage_identify(q);
	/* With what tells this session from others, which only the proof knows. */
	qemu_session_tell_ram(q);
	q->ready = true; /* the core may ask for a descriptor inside of the call */
	q->lost = false;
	qemu_describe(q, &pod, &segs, &nseg);
	if (publisher_context(&q->publisher, &pod, segs, nseg, &q->proof.system)) {
		q->ready = false;
		qemu_schedule_retry(q);
		return;
	}
	if (q->panicked)
		qemu_session_panic(q);
	qemu_schedule(q, q->env.config->reprove_ms);
}

void qemu_session_panic(struct qemu *q)
{
	q->panicked = true;
	/* Else it is told with the context. */
	if (q->ready && !q->lost)
		publisher_state(&q->publisher, VMSIG_STATE_PANICKED,
			"the guest's kernel has panicked; what it left in memory can be read until "
			"it is reset");
}

/* ---- from one broker to the next ---- */

static bool can_leave(struct qemu *q)
{
	return q->ready && !q->lost && !q->panicked && !q->migrating && !q->removed &&
	       !q->restore.restorable && !restore_in_doubt(&q->restore) &&
	       q->quiesce.state == QUIESCE_IDLE && !q->quiesce.cont_id && link_settle(&q->link);
}

/* What a flow under way has asked is answered to the next one, which knows that it did not ask. */
void qemu_session_leave(struct qemu *q)
{
	link_hurry(&q->link);
	if (!can_leave(q) ||
		kept_leave(q->env.config->name, link_place(&q->link), link_fd(&q->link)))
		return;
	tell_ram(q, true);
	link_close(&q->link);
}

int qemu_session_inherit(struct qemu *q, int place)
{
	struct kept_name kept;
	int fd = kept_take(&kept, place);

	/* It keeps others from QEMU. */
	kept_drop(q->env.config->name);
	q->unbroken = fd >= 0;
	return fd;
}

/* ---- the process ---- */

static void on_process_closed(void *arg)
{
	struct qemu *q = arg;

	q->closing--;
	qemu_maybe_stopped(q);
}

void qemu_process_forget(struct qemu *q)
{
	if (!q->process)
		return;
	/* A guest that we had stopped is gone with it; whoever stops the next one means it. */
	if (!process_is_alive(q->process))
		quiesce_leave_stopped(&q->quiesce);
	q->closing++;
	q->process = process_close(q->process, on_process_closed, q);
}

static void on_process_end(void *arg)
{
	struct qemu *q = arg;

	snprintf(q->down_reason, sizeof(q->down_reason), "QEMU (pid %d) has ended", (int)q->pid);
	qemu_process_forget(q);
	/* With a connection left its end is about to be heard of; without one this is the end. */
	if (link_ready(&q->link) || q->removed)
		return;
	q->guest = guest_unref(q->guest);
	qemu_voyage_end(q);
	qemu_session_end(q, q->down_reason);
	publisher_state(&q->publisher, VMSIG_STATE_GONE, q->down_reason);
	qemu_schedule_retry(q);
}

void qemu_process_found(struct qemu *q, pid_t pid)
{
	qemu_process_forget(q);
	q->pid = pid;
	if (process_open(&q->process, q->env.loop, pid, on_process_end, q))
		log_warning("QEMU's process cannot be watched: a lost connection counts as its end",
			LOG_STR("endpoint", q->env.config->name), LOG_INT("pid", pid));
}
