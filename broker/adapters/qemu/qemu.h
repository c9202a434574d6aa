/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_QEMU_H
#define BROKER_ADAPTERS_QEMU_QEMU_H

/*
 * The state of one QEMU endpoint; private to the adapter. All of it belongs to the loop thread.
 *
 *   qemu.c     its life, and what QEMU says
 *   flow.c     what is asked and proven, one flow at a time
 *   session.c  the VM session: published, out of contact, over; QEMU's process
 *   agenda.c   what is under way, and what comes next
 *   seam.c     what the core asks, and the write path
 *   voyage.c   its guest's way to another host, or from one
 *
 * Below these, each with a header of its own:
 *
 *   sockets    QMP sockets in folders, and what their QEMUs are called
 *   transport  what speaks QMP where there is no socket of QEMU's, or:
 *   place      the QMP socket, found
 *   kept       a connection that a former broker has left
 *   link       connected to
 *   qmp        and talked over
 *   process    whose it is
 *   inquiry    questions, and
 *   look       what the answers say of snapshots and time,
 *   mtree      of memory as the guest has it,
 *   memmap     of where it lies in files,
 *   vcpu       of page tables
 *   restore    whether RAM went back in time
 *   guest      RAM, opened and searched
 *   backing    by which evidence it is opened
 *   quiesce    vCPUs that stand still for a write
 *   guardian   and go on whatever becomes of us
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/passage.h"
#include "broker/adapters/publisher.h"
#include "broker/adapters/qemu/guest.h"
#include "broker/adapters/qemu/inquiry.h"
#include "broker/adapters/qemu/link.h"
#include "broker/adapters/qemu/place.h"
#include "broker/adapters/qemu/process.h"
#include "broker/adapters/qemu/quiesce.h"
#include "broker/adapters/qemu/restore.h"
#include "broker/adapters/qemu/transport.h"
#include "vmsig/vmsig_memctx.h"

#define REASON_MAX PUBLISHER_REASON_MAX

enum flow { FLOW_NONE = 0, FLOW_BOOTSTRAP, FLOW_CONFIRM, FLOW_WATCH, FLOW_RIVAL };

/* Why a session ends whose guest is somewhere else now. */
#define QEMU_MIGRATED_AWAY "the guest was migrated away"

struct qemu {
	struct adapter base;
	struct adapter_env env;
	struct share *share;               /* of the loop's time: what QEMU sends costs this */
	const struct transport *transport; /* NULL: a QMP socket */
	struct transport_line *spoken;     /* the transport's connection, or the last one */
	struct place_job *place;           /* the QMP socket is being looked for */
	struct link link;
	uv_timer_t timer;               /* the next connection or flow: */
	void (*due)(uv_timer_t *timer); /* begins it */
	uint64_t backoff_ms;
	pid_t pid;
	struct process *process; /* NULL: it cannot be watched */
	unsigned closing;        /* processes whose handle is not closed yet */

	struct publisher publisher;
	bool owed;     /* the core waits for the MEMCTX of the publisher's epoch */
	bool ready;    /* the core has it */
	bool unbroken; /* the connection was a former broker's, and nothing came over it since that
			* a session does not outlive */
	bool lost;     /* ... but nobody can vouch for it at the moment */
	bool removed;  /* unregistered: nothing may be emitted */
	bool panicked; /* the kernel, whose memory stays as it is until it is reset */

	enum flow flow;
	enum flow queued; /* starts when the voided job has ended */
	struct inquiry inquiry;
	struct job_line *line;
	struct guest_job *job;
	bool job_void;

	struct guest *guest;
	struct kcr3_proof proof;
	struct restore restore;
	unsigned strikes_memory, strikes_vcpu;
	uint64_t rival_ms,
		rival_wait_ms; /* when, and how long after, another kernel is looked for */
	unsigned map_reads;    /* WATCH flows that still have to ask for the map */
	bool urgent;           /* RAM may have been replaced as a whole: the next failure counts */

	char down_reason[REASON_MAX];
	char end_reason[REASON_MAX]; /* of the session before, until it was told; "" then */
	bool loads_job;              /* a job changed: is it one that loads a snapshot? */
	char load_job[LOOK_JOB_MAX]; /* the last of these that was acted on */

	bool migrating;           /* or it is not known that none is */
	enum passage_step voyage; /* told last */
	bool awaits;              /* as was seen last: the guest is on its way here */
	bool arrival; /* a migration brings the guest, and nothing was missed since before it ran */
	struct quiesce quiesce;

	adapter_stopped_fn stopped;
	void *stopped_arg;
	bool timer_open;
};

/* ---- agenda.c ---- */
/* The next flow, or connection, in so many milliseconds; instead of one that was to come. */
void qemu_schedule(struct qemu *q, uint64_t ms);
/* Later each time, until retry_max. */
void qemu_schedule_retry(struct qemu *q);
/* Whether this was the last thing to wait for; may free `q`. */
void qemu_maybe_stopped(struct qemu *q);
/* Nothing is under way any more; a job that runs is void. */
void qemu_flow_cancel(struct qemu *q);

/* ---- flow.c ---- */
void qemu_flow_start(struct qemu *q, enum flow flow);
void qemu_flow_reply(struct qemu *q, const struct qmp_message *message);

/* ---- session.c ---- */
/* The kernel is proven: MEMCTX. */
void qemu_session_publish(struct qemu *q);
/* The guest's kernel has panicked, and stays there: what it left can be read on. */
void qemu_session_panic(struct qemu *q);
/* The guest's RAM is open. */
void qemu_session_tell_ram(struct qemu *q);
/* What the core knows of this VM session is void. */
void qemu_session_end(struct qemu *q, const char *reason);
/* Back to the start, in whatever epoch it will be. */
void qemu_session_forget(struct qemu *q);
/* Leaves the connection to the next broker, if it can then prove that the session went on. */
void qemu_session_leave(struct qemu *q);
/* The connection that a former broker has left for this socket; or -ENOENT. */
__attribute__((warn_unused_result)) int qemu_session_inherit(struct qemu *q, int place);
/* Nobody can vouch for a session that was published. */
void qemu_session_lose(struct qemu *q, const char *reason);
/* The process behind a new connection. */
void qemu_process_found(struct qemu *q, pid_t pid);
void qemu_process_forget(struct qemu *q);

/* ---- voyage.c ---- */
/* What an inquiry has found out about migrations. */
void qemu_voyage_look(struct qemu *q);
/* A MIGRATION event with this status; NULL: it has none. */
void qemu_voyage_event(struct qemu *q, const char *status);
/* The guest was reset, or events were missed: who it is has to be seen from its memory. */
void qemu_voyage_distrust(struct qemu *q);
/* What was served is over. */
void qemu_voyage_over(struct qemu *q);
/* QEMU's process has ended. */
void qemu_voyage_end(struct qemu *q);
/* Says whose kernel is about to be published. */
void qemu_voyage_identify(struct qemu *q);

/* ---- seam.c: what the core gets of the adapter, and the write path ---- */
__attribute__((warn_unused_result)) int seam_register(
	struct qemu *q, void (*invalidate)(void *ctx, uint32_t epoch));
/* vmsig_memctx_reg.describe */
void qemu_describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg);

#endif
