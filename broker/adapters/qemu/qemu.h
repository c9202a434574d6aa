/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_QEMU_H
#define BROKER_ADAPTERS_QEMU_QEMU_H

/*
 * The state of one QEMU endpoint; private to the adapter. qemu.c moves it, notice.c tells
 * the core about it. All of it belongs to the loop thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/adapters/adapter.h"
#include "broker/adapters/qemu/guest.h"
#include "broker/adapters/qemu/inquiry.h"
#include "broker/adapters/qemu/link.h"
#include "broker/adapters/qemu/quiesce.h"
#include "vmsig/vmsig_memctx.h"

#define REASON_MAX 400

enum flow { FLOW_NONE = 0, FLOW_BOOTSTRAP, FLOW_CONFIRM, FLOW_WATCH };

/* qemu.c moves it, quiesce.c stops its vCPUs around writes, seam.c is its write path. */
struct qemu {
	struct adapter base;
	struct adapter_env env;
	struct link link;
	uv_timer_t timer; /* the next connection or flow */
	uint64_t backoff_ms;
	pid_t pid;

	uint32_t epoch;
	bool owed;    /* the core waits for the MEMCTX of `epoch` */
	bool ready;   /* the core has it */
	bool removed; /* unregistered: nothing may be emitted */

	enum flow flow;
	enum flow queued; /* starts when the voided job has ended */
	struct inquiry inquiry;
	struct guest_job *job;
	bool job_void;

	struct guest *guest;
	struct kcr3_proof proof;
	unsigned strikes_memory, strikes_vcpu;
	unsigned map_reads; /* WATCH flows that still have to ask for the map */
	bool urgent;        /* RAM may have been replaced as a whole: the next failure counts */

	uint32_t told_state;
	char told[REASON_MAX];
	char down_reason[REASON_MAX];

	bool migrating; /* or it is not known that none is */
	struct quiesce quiesce;

	adapter_stopped_fn stopped;
	void *stopped_arg;
	bool timer_open;
};

/* ENDPOINT_STATE; the same state with the same reason is told once. */
void qemu_tell_state(struct qemu *q, uint32_t state, const char *reason);
void qemu_tell_invalidated(struct qemu *q);
/* The guest's RAM is open. */
void qemu_tell_ram(struct qemu *q);

/* ---- seam.c: what the core gets of the adapter, and the write path ---- */
__attribute__((warn_unused_result)) int seam_register(
	struct qemu *q, void (*invalidate)(void *ctx, uint32_t epoch));
void seam_unregister(struct qemu *q);
/* vmsig_memctx_reg.describe */
void qemu_describe(
	void *ctx, vmsig_memctx *out_pod, const vmsig_memseg **out_segs, uint32_t *out_nseg);

#endif
