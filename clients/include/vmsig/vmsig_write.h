/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_WRITE_H
#define VMSIG_WRITE_H

/*
 * libvmsig: an operator's connection to vmsigd's write plane: MEMWRITE leases and writes.
 *
 * A handle is driven like the one of vmsig.h: wait for vmsig_writer_fd() or
 * vmsig_writer_deadline(), call vmsig_writer_process(), take events with
 * vmsig_writer_next(). Outcomes of writes come by callback from inside process(). The
 * blocking helpers do all of that themselves.
 *
 * Leases are kept alive (renewed at a third of their TTL) and resumed after a reconnection
 * for as long as the handle is driven. A write whose answer was lost with a connection is
 * repeated with its own sequence number, so it is applied at most once, also by a broker that
 * was killed in between. What the guest has done with the bytes meanwhile plays no part:
 * -UNKNOWN_OUTCOME means that the broker died while it was writing them.
 *
 * The deadline of a lease is counted here from before its request was sent, so it passes
 * early, never late. It is a courtesy: the broker's own check is what fences.
 *
 * Calls return 0 or a negated enum vmsig_error; vmsig_writer_last_error() has the sentence.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMSIG_WRITE_SOCKET "/run/vmsig/write.sock" /* where the write plane listens by default */
#define VMSIG_WRITE_WINDOW 64u                     /* writes of one lease without an outcome */
#define VMSIG_WRITE_INLINE_MAX (960u << 10)        /* bytes of data of one vmsig_write() */

typedef struct vmsig_writer vmsig_writer;
typedef struct vmsig_lease vmsig_lease; /* belongs to its handle */

/* As vmsig_open(); socket_path defaults to VMSIG_WRITE_SOCKET. */
VMSIG_API VMSIG_MUST_USE int vmsig_writer_open(
	vmsig_writer **ret_writer, const vmsig_options *options, char *error, size_t error_size);
/* Releases the leases that this handle acquired, as far as that works without waiting, and
 * forgets everything else; callbacks of writes without an outcome are called with
 * -VMSIG_ERR_UNKNOWN_OUTCOME. Accepts NULL, returns NULL. */
VMSIG_API vmsig_writer *vmsig_writer_close(vmsig_writer *writer);

VMSIG_API int vmsig_writer_fd(const vmsig_writer *writer);
VMSIG_API short vmsig_writer_poll_events(const vmsig_writer *writer);
/* CLOCK_MONOTONIC nanoseconds; 0: at once, -1: never. */
VMSIG_API int64_t vmsig_writer_deadline(const vmsig_writer *writer);
VMSIG_API VMSIG_MUST_USE int vmsig_writer_process(vmsig_writer *writer);
VMSIG_API bool vmsig_writer_is_connected(const vmsig_writer *writer);
VMSIG_API VMSIG_MUST_USE int vmsig_writer_wait_connected(vmsig_writer *writer, int timeout_ms);
VMSIG_API const char *vmsig_writer_last_error(const vmsig_writer *writer);

/* ---- events ---- */

enum vmsig_writer_event_kind {
	VMSIG_WEV_CONNECTED = 1,
	VMSIG_WEV_DISCONNECTED = 2, /* error, text */
	VMSIG_WEV_WAITING = 3,      /* lease: it is queued behind a conflicting one */
	VMSIG_WEV_GRANTED = 4,      /* lease */
	VMSIG_WEV_REFUSED = 5,      /* lease, error, text: it is over before it began */
	VMSIG_WEV_NOTICE = 6,       /* lease, revoke_in_ms: somebody of higher priority waits */
	VMSIG_WEV_LOST = 7,         /* lease, error (LEASE_EXPIRED, LEASE_REVOKED, MOVED...),
				     * text: nothing is sent under it any more */
	VMSIG_WEV_RESUMED = 8,      /* lease: after a reconnection */
};

typedef struct {
	uint32_t kind;      /* enum vmsig_writer_event_kind */
	vmsig_lease *lease; /* or NULL */
	int error;          /* 0 or a negated enum vmsig_error */
	uint32_t revoke_in_ms;
	char text[VMSIG_DETAIL_MAX + 1];
} vmsig_writer_event;

/* The oldest event; -WOULD_BLOCK: none. */
VMSIG_API VMSIG_MUST_USE int vmsig_writer_next(vmsig_writer *writer, vmsig_writer_event *ret_event);
/* Waits for the next one. timeout_ms: -1 waits without limit; -TIMEOUT. */
VMSIG_API VMSIG_MUST_USE int vmsig_writer_wait(
	vmsig_writer *writer, vmsig_writer_event *ret_event, int timeout_ms);

/* ---- leases ---- */

typedef struct {
	uint64_t start, last; /* guest-physical, both ends included */
} vmsig_lease_range;

typedef struct {
	const char *endpoint;
	const vmsig_lease_range *ranges; /* none: the whole endpoint; at most 256 */
	size_t nranges;
	uint32_t ttl_ms;   /* 0: 5 s; the policy clamps it */
	uint32_t wait_ms;  /* 0: as long as the policy allows */
	uint32_t priority; /* higher preempts lower */
	bool no_wait;      /* refused with LEASE_HELD instead of waiting */
} vmsig_lease_request;

/* Asks; the answer is an event (GRANTED, REFUSED, before that perhaps WAITING). Also before
 * there is a connection. The lease is valid until vmsig_lease_free() or the handle's end. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_acquire(
	vmsig_writer *writer, const vmsig_lease_request *request, vmsig_lease **ret_lease);
/* The same, and waits for the answer, which is no event then. On an error there is no lease. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_acquire_wait(vmsig_writer *writer,
	const vmsig_lease_request *request, vmsig_lease **ret_lease, int timeout_ms);
/* Uses a lease that another process of the same tenant holds and keeps alive: it is neither
 * renewed nor resumed here, and only given back by an explicit vmsig_lease_release(). Waits for the
 * broker to say what it is. -NO_LEASE. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_use(
	vmsig_writer *writer, uint64_t id, uint64_t token, vmsig_lease **ret_lease, int timeout_ms);
/* Takes over a lease of the same tenant and uid, and keeps it alive as one that was acquired here:
 * that of a guest which was migrated to this broker's host (VMSIG_WEV_LOST of the one before says
 * MOVED, and where to), or that of a process that has ended. Waits for the broker's word.
 * -NO_LEASE: there is none, or not yet, or the token is another; it can be tried again until its
 * TTL has passed, as after -TIMEOUT. A handle that still has it is not told, and gives it back
 * when it is closed. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_resume(
	vmsig_writer *writer, uint64_t id, uint64_t token, vmsig_lease **ret_lease, int timeout_ms);
/* Gives it back without waiting for the answer. Writes that were queued before are applied
 * before, whatever they are; a lease that is asked for after it is granted after it. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_release(vmsig_lease *lease);
/* Waits for the broker's word. */
VMSIG_API VMSIG_MUST_USE int vmsig_lease_release_wait(vmsig_lease *lease, int timeout_ms);
/* Releases it if it is held, and forgets it; events that name it are dropped. Accepts NULL,
 * returns NULL. */
VMSIG_API vmsig_lease *vmsig_lease_free(vmsig_lease *lease);

enum vmsig_lease_phase {
	VMSIG_LEASE_ASKED = 0,
	VMSIG_LEASE_QUEUED = 1,
	VMSIG_LEASE_HELD = 2,
	VMSIG_LEASE_OVER = 3,
};

typedef struct {
	uint64_t id, token;
	const char *endpoint; /* lives as long as the lease */
	uint32_t endpoint_id, epoch;
	uint32_t phase;     /* enum vmsig_lease_phase */
	int error;          /* OVER: why; 0: released */
	uint32_t ttl_ms;    /* as granted */
	int64_t deadline;   /* CLOCK_BOOTTIME nanoseconds; counted from before the request */
	uint32_t in_flight; /* writes without an outcome */
	uint64_t bulk_max;  /* bytes of one bulk write that the policy allows; 0: none */
} vmsig_lease_info;

VMSIG_API void vmsig_lease_get(const vmsig_lease *lease, vmsig_lease_info *ret_info);

/* What the own tenant has and waits for, and what is in its way. */
typedef struct {
	uint64_t id;
	uint32_t endpoint_id;
	char endpoint[VMSIG_NAME_MAX + 1];
	char tenant[VMSIG_NAME_MAX + 1]; /* "" of other tenants, except for an administrator */
	uint32_t uid;                    /* likewise 0 */
	uint32_t epoch, state, priority, ttl_ms, remaining_ms; /* state: 0 waiting, 1 storing,
								* 2 active, 3 draining */
	bool mine, connected;
	size_t nranges;
	vmsig_lease_range *ranges;
} vmsig_lease_entry;

typedef struct {
	size_t count;
	vmsig_lease_entry *entries; /* by id */
} vmsig_lease_entries;

VMSIG_API VMSIG_MUST_USE int vmsig_lease_list(
	vmsig_writer *writer, vmsig_lease_entries **ret_entries, int timeout_ms);
VMSIG_API vmsig_lease_entries *vmsig_lease_entries_free(vmsig_lease_entries *entries);
VMSIG_API const char *vmsig_lease_state_name(uint32_t state);

/* ---- writing ---- */

enum vmsig_write_flags {
	VMSIG_WRITE_WANT_OLD = 0x1, /* tell what was there before */
	VMSIG_WRITE_QUIESCE = 0x2,  /* stop the guest's vCPUs around the batch */
};

enum vmsig_write_op_flags {
	VMSIG_OP_VIRTUAL = 0x1, /* addr is guest-virtual under cr3 */
};

/* An aligned operation of 1, 2, 4 or 8 bytes is one atomic store, with `expect` one
 * compare-and-swap. */
typedef struct {
	uint64_t addr;
	uint64_t cr3; /* with VMSIG_OP_VIRTUAL; 0: the endpoint's kcr3 */
	uint32_t flags;
	uint32_t len;       /* bytes, not 0 */
	const void *data;   /* len bytes */
	const void *expect; /* len bytes, or NULL: what must be there for anything to be written */
	const void *mask;   /* len bytes, or NULL: set bits are compared and written */
} vmsig_write_op;

/* The outcome of one write. Pointers live until the callback returns, or until
 * vmsig_write_result_clear() after a blocking call. */
typedef struct {
	int outcome; /* 0, or a negated enum vmsig_error. Nothing was written except for -PARTIAL
		      * (see `written`) and, possibly, -UNKNOWN_OUTCOME. It is about this write;
		      * that the lease is over is said by VMSIG_WEV_LOST */
	uint64_t sequence;
	uint32_t failed_op;       /* the operation that an error is about */
	uint64_t written;         /* bytes */
	const unsigned char *old; /* WANT_OLD: the bytes before, operation after operation; a
				   * repeated outcome may lack them, which `text` says */
	size_t old_len;
	const char *text; /* the broker's sentence; may be "" */
	void *owned;
} vmsig_write_result;

typedef void (*vmsig_write_fn)(void *arg, const vmsig_write_result *result);

/* Queues a batch, all or nothing before its first byte; everything is copied. `done` is
 * called exactly once, from inside of a call on the handle; it must not free the lease. -BUSY:
 * VMSIG_WRITE_WINDOW writes have no outcome yet; -NO_LEASE, -LEASE_EXPIRED, -LEASE_REVOKED,
 * -STALE_EPOCH: nothing was sent; -BAD_REQUEST. */
VMSIG_API VMSIG_MUST_USE int vmsig_write(vmsig_lease *lease, const vmsig_write_op *ops, size_t nops,
	uint32_t flags, vmsig_write_fn done, void *arg);
/* Waits for its outcome, which is also the return value. ret_result is always set; without an
 * outcome (-TIMEOUT, or an error of the connection with VMSIG_OPT_NO_RECONNECT) the write may
 * still be applied. */
VMSIG_API VMSIG_MUST_USE int vmsig_write_wait(vmsig_lease *lease, const vmsig_write_op *ops,
	size_t nops, uint32_t flags, vmsig_write_result *ret_result, int timeout_ms);
/* `len` bytes at `offset` of a memfd, which is duplicated and needs F_SEAL_WRITE, F_SEAL_SHRINK
 * and F_SEAL_GROW. Applied in slices; -PARTIAL tells how far it came. The outcome is there with
 * the bytes; giving the lease back waits until they are recorded. With VMSIG_WRITE_QUIESCE the
 * vCPUs stand still from the first slice to the last; with VMSIG_WRITE_WANT_OLD `len` is at most
 * 1 MiB. */
VMSIG_API VMSIG_MUST_USE int vmsig_write_bulk(vmsig_lease *lease, uint64_t addr, uint32_t op_flags,
	uint64_t cr3, int memfd, uint64_t offset, uint64_t len, uint32_t flags, vmsig_write_fn done,
	void *arg);
VMSIG_API VMSIG_MUST_USE int vmsig_write_bulk_wait(vmsig_lease *lease, uint64_t addr,
	uint32_t op_flags, uint64_t cr3, int memfd, uint64_t offset, uint64_t len, uint32_t flags,
	vmsig_write_result *ret_result, int timeout_ms);
/* Frees what a blocking call's result owns. */
VMSIG_API void vmsig_write_result_clear(vmsig_write_result *result);

#ifdef __cplusplus
}
#endif

#endif
