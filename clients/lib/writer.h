/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_WRITER_H
#define CLIENTS_LIB_WRITER_H

/*
 * The inside of a write-plane handle, shared by its files and by nobody else.
 *
 *   writer.c          the handle, its events, what its link (uplink.h) asks
 *   writer_lease.c    leases: asked for, kept alive, resumed, over
 *   writer_write.c    writes: queued, sent, sent again, their outcomes
 *   writer_receive.c  messages of the broker
 *   writer_list.c     a list of leases that arrives in pages
 *   writer_wait.c     calls that wait
 *   spares.h          memory of writes that are over
 *
 * It is one object in several files, and not several that need each other: the handle owns its
 * leases, a lease its writes, and none of them can be made, used or freed without the others. An
 * event of the connection ends leases, which drops writes; a write that is due has leases expire
 * first; each tells what happened through the handle's one queue of events. What nobody but one
 * file needs is static in it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/lib/spares.h"
#include "clients/lib/uplink.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_write.h"

#define WRITER_EVENTS_MAX 256u /* events held before reading stops */
#define WRITER_LEASES_MAX 4096u
#define WRITER_NO_DEADLINE INT64_MAX

/* Of one batch; lives until its outcome is known. */
struct writer_write {
	struct writer_write *prev, *next;
	vmsig_lease *lease;
	Vmsig__CmdMemwrite body;
	Vmsig__WriteBulk bulk;
	Vmsig__Descriptor data;
	Vmsig__WriteOp *ops, **op_pointers; /* behind it, and then what they point to */
	struct spares *spares;              /* where its memory goes */
	int fd;                             /* of bulk data, or -1 */
	uint64_t request_id;                /* in this connection; 0: is to be sent (again) */
	int64_t asked_until;
	bool used; /* was sent in some connection: the broker may have applied it */
	vmsig_write_fn done;
	void *arg;
};

enum lease_ask { ASK_NONE, ASK_ACQUIRE, ASK_RENEW, ASK_RESUME, ASK_RELEASE };

struct vmsig_lease {
	vmsig_lease *prev, *next;
	vmsig_writer *writer;
	char endpoint[VMSIG_NAME_MAX + 1];
	vmsig_lease_range *ranges;
	size_t nranges;
	uint32_t ttl_ms, wait_ms, priority;
	bool no_wait;

	enum vmsig_lease_phase phase;
	bool borrowed;  /* another process keeps it alive */
	bool releasing; /* is given back as soon as that can be sent */
	bool waited;    /* granted, but since when cannot be told before a renewal */
	bool silent;    /* somebody waits for the answer: no event */
	int error;      /* OVER: positive, 0: released */
	uint64_t id, token;
	uint32_t endpoint_id, epoch, granted_ttl_ms;
	uint64_t bulk_max; /* as granted */
	int64_t deadline;  /* CLOCK_BOOTTIME, counted from before the request */

	enum lease_ask asking;
	uint64_t request_id; /* of what is being asked */
	int64_t asked_boot;  /* before it was sent */
	int64_t asked_until; /* when the answer is due; not of a request that may wait */
	int64_t renew_at;    /* CLOCK_MONOTONIC */
	uint64_t connection; /* in which it is ours; 0: none */

	uint64_t last_sequence;
	struct writer_write *writes; /* by sequence */
	uint32_t nwrites;
};

struct writer_listing {
	uint64_t request_id;
	int64_t until;
	vmsig_lease_entries *list;
	int error; /* positive, 0, -1 while it goes on */
};

struct vmsig_writer {
	struct uplink link;
	uint64_t id; /* named in every command */
	vmsig_lease *leases;
	uint32_t nleases;
	struct spares spares;
	struct writer_listing listing;
	vmsig_writer_event *events; /* ring */
	uint32_t events_head, events_count, events_size;
};

int64_t writer_boot_now(void);
/* Appends an event; without memory it is lost, and the sentence says so. `error` positive. */
void writer_event(vmsig_writer *writer, enum vmsig_writer_event_kind kind, vmsig_lease *lease,
	int error, const char *text);

/* ---- writer_lease.c ---- */

/* The broker's word to what was asked; error positive, `info` NULL unless it came. */
__attribute__((warn_unused_result)) int writer_lease_granted(
	vmsig_lease *lease, const Vmsig__LeaseInfo *info);
void writer_lease_waiting(vmsig_lease *lease, uint64_t id);
void writer_lease_renewed(vmsig_lease *lease, uint32_t remaining_ms);
void writer_lease_answer(vmsig_lease *lease, int error, const char *text);
/* It is over, whoever says so. */
void writer_lease_lose(vmsig_lease *lease, int error, const char *text);
/* Sends what is due. */
__attribute__((warn_unused_result)) int writer_lease_due(vmsig_lease *lease, int64_t now);
void writer_lease_disconnected(vmsig_lease *lease);
/* What has passed its own deadline is over, connected or not. */
void writer_leases_expire(vmsig_writer *writer);
bool writer_lease_is_overdue(const vmsig_lease *lease, int64_t now);
/* CLOCK_MONOTONIC. */
int64_t writer_lease_next_moment(const vmsig_lease *lease, bool is_up);

/* ---- writer_write.c ---- */

/* Sends what is not sent. */
__attribute__((warn_unused_result)) int writer_writes_due(vmsig_lease *lease, int64_t now);
struct writer_write *writer_write_find(vmsig_writer *writer, uint64_t request_id);
void writer_write_outcome(struct writer_write *write, const Vmsig__WriteResult *result);
/* Without an answer of the broker, or with an error as its answer; error positive. */
void writer_write_failed(struct writer_write *write, int error, const char *text);
/* Those that were never sent will not be. */
void writer_writes_drop_unsent(vmsig_lease *lease, int error);
void writer_writes_drop_all(vmsig_lease *lease);

/* ---- writer_receive.c ---- */

__attribute__((warn_unused_result)) int writer_receive(
	vmsig_writer *writer, const struct envelope *message);

/* ---- writer_list.c ---- */

__attribute__((warn_unused_result)) int writer_entries_add(
	struct uplink *link, vmsig_lease_entries *entries, const Vmsig__LeaseInfos *page);
__attribute__((warn_unused_result)) int writer_list_page(
	vmsig_writer *writer, const Vmsig__LeaseInfos *page);
void writer_list_fail(vmsig_writer *writer, int error, const char *text);

#define writer_fail(w, ...) uplink_fail(&(w)->link, __VA_ARGS__)

#endif
