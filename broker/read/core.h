/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_READ_CORE_H
#define BROKER_READ_CORE_H

/*
 * The read plane's state machine: endpoints with their epochs, sessions with their
 * subscriptions, and what each session still has to be told.
 *
 * Sans-I/O. Calls bring events in; the shell then takes actions out with core_next_action()
 * until there are none, and performs them in order. Deliveries are pulled: the core says
 * CORE_ACT_NOTIFY once, and the shell takes core_session_pull() for as long as the
 * connection has room. What is pulled is always the newest state, so a slow reader skips
 * epochs but never sees them out of order (R4), and costs a fixed amount of memory.
 *
 * The only calls out are those of the seam (vmsig_memctx_reg, vmsig_memfiles_reg), describe() and
 * those for descriptors, and share_page(), inside core_session_pull(). invalidate() is an action,
 * so that it comes last (R6).
 *
 * Times are nanoseconds on one monotonic clock of the caller's choice.
 * Returns: 0, a positive enum vmsig_error, or -ENOMEM.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/policy/tenant.h"
#include "vmsig/vmsig_coherence.h"
#include "vmsig/vmsig_error.h"
#include "vmsig/vmsig_memfile.h"

struct account_refusal; /* policy/account.h */
struct core;
struct session;

struct core_limits {
	uint32_t endpoints; /* registered endpoints */
	uint32_t sessions;  /* open sessions */
	uint32_t inflight;  /* MEMCTX deliveries not acknowledged, all sessions together, by the
			     * two descriptors that each holds in the kernel's queues: one of RAM
			     * in several files counts as so many as its descriptors are */
	uint64_t take_timeout_ns; /* a MEMCTX not acknowledged for this long ends the session */
};

__attribute__((warn_unused_result)) int core_new(
	struct core **ret_core, const struct core_limits *limits);
/* Other limits from now on: what is beyond them stays, and nothing more comes. What is in flight is
 * due when it was. */
void core_set_limits(struct core *core, const struct core_limits *limits);
/* The broker shuts down: endpoints that unregister from now on keep their epoch, so that a
 * restarted broker can go on in it, and their pages say that nobody looks after them. */
void core_closing(struct core *core);
/* All sessions and endpoints must be gone; asserts that all counters are zero. */
struct core *core_free(struct core *core);

/* What it counts. */
struct metrics;
void core_stats(struct core *core, struct metrics *metrics);
/* Why the last call gave VMSIG_ERR_QUOTA; borrowed until the next one does. */
const struct account_refusal *core_refusal(const struct core *core);

/* The callbacks for adapters; valid as long as the core. */
const vmsig_emit *core_emit(struct core *core);

/* ---- endpoints ---- */

struct core_endpoint_config {
	uint32_t id;         /* stable, not 0 */
	const char *name;    /* copied */
	const char *adapter; /* copied; for lists */
	char *const *labels; /* copied; as policy/selector.h has them */
	size_t nlabels;
	uint32_t epoch;             /* stored high-water mark, 0 for none */
	const char *session;        /* stored fingerprint of the last session, NULL or "" for none.
				     * With one the endpoint boots in the stored epoch, and goes on in
				     * it when the adapter reports the same fingerprint; without one, or
				     * with another, the epoch is raised */
	enum vmsig_guard min_guard; /* served to nobody below this */
	vmsig_coherence *page;      /* written here with atomics; outlives the endpoint */
	/* A fresh read-only descriptor of the page, for a delivery; -errno. NULL: deliveries bring
	 * none. */
	int (*share_page)(void *ctx);
	void *page_ctx;
};

/* VMSIG_ERR_BAD_REQUEST: the id or name is taken; VMSIG_ERR_QUOTA: core_refusal(). An adapter can
 * register its MEMCTX only for an endpoint that was added. */
__attribute__((warn_unused_result)) int core_endpoint_add(
	struct core *core, const struct core_endpoint_config *config);
/* Tells subscribers that it is gone, forgets it. Its adapter has unregistered before, and the
 * actions that this brought about have been taken: a lost one could repeat an epoch. */
void core_endpoint_remove(struct core *core, uint32_t id);

/* Its next epoch is above `above`, which somebody else has used, and begins now. */
void core_endpoint_raise(struct core *core, uint32_t id, uint32_t above);

/* The guest has moved to another host, whose name is copied: MOVED, until a guest can be read here
 * again, or (NULL) one is awaited. An adapter's BOOTING and GONE are no news before that. */
void core_endpoint_moved(struct core *core, uint32_t id, const char *host);

/* A MEMCTX of the present epoch can be had. */
static inline bool core_state_is_readable(enum vmsig_endpoint_state state)
{
	return state == VMSIG_STATE_READY || state == VMSIG_STATE_PANICKED;
}

struct core_endpoint_info {
	uint32_t id;
	const char *name;    /* borrowed from the core until it is called again */
	const char *adapter; /* borrowed */
	const struct selector_subject *subject; /* borrowed: the name, and the labels */
	const char *detail;                     /* borrowed; "" when there is nothing to say */
	const char *host;                       /* borrowed; MOVED: that has the guest; else "" */
	uint32_t epoch;
	enum vmsig_endpoint_state state;
	enum vmsig_guard guard;
	uint64_t ram_bytes;
	const vmsig_system *system; /* borrowed; all zero without a context */
	bool writable;
	uint32_t subscribers; /* sessions of the asking session's tenant */
};

/* Iterates what the session may see, in name order. `*cursor` starts at 0; false at the
 * end. With session == NULL every endpoint. */
bool core_endpoint_next(struct core *core, const struct session *session, size_t *cursor,
	struct core_endpoint_info *ret_info);
/* NULL-safe look-up by name; VMSIG_ERR_NO_SUCH_ENDPOINT also for what the session may not
 * see. With session == NULL no policy is applied. */
__attribute__((warn_unused_result)) int core_endpoint_find(struct core *core,
	const struct session *session, const char *name, struct core_endpoint_info *ret_info);

/* The endpoint's write path, NULL when it has none; valid until its adapter unregisters. */
struct vmsig_memwrite_reg;
const struct vmsig_memwrite_reg *core_endpoint_memwrite(struct core *core, uint32_t id);
/* Where its RAM files are had, NULL: of the two other registrations, and it is one file. As valid
 * as those. */
struct vmsig_memfiles_reg;
const struct vmsig_memfiles_reg *core_endpoint_memfiles(struct core *core, uint32_t id);
/* What a MEMCTX of it would say now; the segments are borrowed from the adapter.
 * VMSIG_ERR_NO_SUCH_ENDPOINT, VMSIG_ERR_NOT_READY. */
__attribute__((warn_unused_result)) int core_endpoint_describe(struct core *core, uint32_t id,
	vmsig_memctx *ret_pod, const vmsig_memseg **ret_segs, uint32_t *ret_nseg);

/* ---- sessions ---- */

/* `user` is the shell's own and comes back in actions. `uid` is the kernel's word for the
 * peer. VMSIG_ERR_QUOTA: limits.sessions. */
__attribute__((warn_unused_result)) int session_new(struct session **ret_session, struct core *core,
	const struct tenant *tenant, uint32_t uid, void *user);
/* Drops its subscriptions and gives back what it was charged. */
struct session *session_free(struct session *session);
void *session_user(const struct session *session);
/* Its holder can take RAM in several files; without that it is told so in place of a context. */
void session_take_files(struct session *session);

/* A new policy: subscriptions to what it no longer names end as if the endpoint were gone. The
 * old one is not looked at any more; what follows is worked out when the session is pulled. */
void session_set_tenant(struct session *session, const struct tenant *tenant);

/* `pattern` is a name or a glob. A plain name that does not exist or may not be seen is
 * VMSIG_ERR_NO_SUCH_ENDPOINT; the same pattern twice is VMSIG_ERR_BAD_REQUEST;
 * VMSIG_ERR_QUOTA: the tenant's quota of patterns, or of globs among them. The current state is
 * delivered at once (R5). */
__attribute__((warn_unused_result)) int session_subscribe(
	struct session *session, const char *pattern);
/* VMSIG_ERR_NO_SUCH_ENDPOINT: there is no such subscription. */
__attribute__((warn_unused_result)) int session_unsubscribe(
	struct session *session, const char *pattern);

struct core_delivery {
	uint32_t kind; /* VMSIG_EV_MEMCTX, _MEMCTX_INVALIDATED or _ENDPOINT_STATE */
	uint32_t endpoint;
	const char *name;   /* borrowed until the core is called again; the same for the others */
	const char *detail; /* STATE only */
	const char *host;   /* MOVED: that has the guest; else "" */
	uint32_t epoch;
	enum vmsig_endpoint_state state;
	enum vmsig_guard guard; /* as it holds against this session's uid */
	vmsig_memctx pod;       /* MEMCTX only, epoch stamped */
	const vmsig_memseg *segs;
	uint32_t nseg;
	vmsig_system system; /* MEMCTX only */
	/* MEMCTX only, fresh ones: of guest RAM and of the coherence page, -1 for none. The files
	 * of RAM lie end to end in their order, and so many bytes of each count in file_off; of a
	 * single one 0: all. */
	uint32_t nfiles;
	int ram_fds[VMSIG_MEMFILES_MAX], page_fd;
	uint64_t ram_sizes[VMSIG_MEMFILES_MAX];
};

/* The next thing to tell the session. 0; -ENOMEM: end the session; VMSIG_ERR_WOULD_BLOCK:
 * nothing for the moment (the core will notify). A MEMCTX is only given while none is
 * unacknowledged for the session. A call for a descriptor that fails leaves the delivery
 * pending and gives VMSIG_ERR_BUSY: call again later. The descriptors in the delivery are the
 * caller's, whatever the result: one may be there when another was not to be had. */
__attribute__((warn_unused_result)) int core_session_pull(
	struct session *session, uint64_t now_ns, struct core_delivery *ret_delivery);
/* The holder has taken the descriptors of the last MEMCTX (or the shell knows that they were
 * never sent). Without one outstanding: VMSIG_ERR_PROTOCOL. */
__attribute__((warn_unused_result)) int core_session_taken(struct session *session);

/* Nobody will say that the last MEMCTX was taken: the shell finds out by itself, and is notified
 * when another one is due, so that it does. */
void core_session_unsaid(struct session *session);
/* Whether the session is to get another MEMCTX as soon as it may. */
bool core_session_expects(const struct session *session);
/* Whether sessions wait because too many MEMCTXs are not acknowledged. */
bool core_is_crowded(const struct core *core);
/* How long one may stay unacknowledged, ns. */
uint64_t core_take_timeout(const struct core *core);

/* The MEMCTX that was pulled last could not be sent, nor can it be now: it is still to be
 * told, and nothing is outstanding. Pull again later; the core does not notify. */
void core_session_put_back(struct session *session, uint32_t endpoint);

/* ---- actions ---- */

enum core_action_kind {
	CORE_ACT_PERSIST_EPOCH = 1, /* endpoint, epoch: durable before what follows; the stored
				     * fingerprint is void */
	CORE_ACT_PERSIST_SESSION,   /* endpoint, epoch, session fingerprint ("" for none) */
	CORE_ACT_WAKE_COHERENCE,    /* endpoint: FUTEX_WAKE on its page */
	CORE_ACT_REVOKE_LEASES,     /* endpoint, epoch: leases of earlier epochs are void */
	CORE_ACT_READY,             /* endpoint, epoch: a context can be had, leases too */
	CORE_ACT_NOTIFY,            /* session: pull */
	CORE_ACT_DISCONNECT,        /* session: too slow, error says why */
	CORE_ACT_BOOTSTRAP,         /* endpoint, epoch, reg: call reg->invalidate(ctx, epoch) */
};

struct core_action {
	enum core_action_kind kind;
	uint32_t endpoint;
	const char *name; /* of the endpoint; borrowed until the core is called again */
	uint32_t epoch;
	enum vmsig_error error;
	const char *fingerprint; /* PERSIST_SESSION; borrowed as name is */
	struct session *session; /* never one that was freed */
	vmsig_memctx_reg reg;    /* BOOTSTRAP; never one that was unregistered */
};

/* Takes the oldest action; false when there is none. */
bool core_next_action(struct core *core, struct core_action *ret_action);

/* Time passes. The core acts on what is due; core_deadline() is the next moment at which a
 * call is needed, UINT64_MAX for none; 0 while there are actions to carry out. */
void core_advance(struct core *core, uint64_t now_ns);
uint64_t core_deadline(const struct core *core);

#endif
