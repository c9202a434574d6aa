/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_READ_STATE_H
#define BROKER_READ_STATE_H

/*
 * The core's inside. Ownership: core owns endpoints, the shell owns sessions, a session owns
 * its patterns and subscriptions. A subscription is one session looking at one endpoint and
 * is in both one's lists; it remembers what it was told, and everything it still has to be
 * told follows from comparing that with the endpoint. A session has one for each endpoint
 * id, also while it is owed the news that the endpoint went, so that what a reader costs who
 * does not read is bounded whatever comes and goes.
 *
 * Patterns meet new endpoints, and a new policy, when the session is pulled, not when they
 * come: a reload of thousands costs each session its share of time and nobody else's.
 *
 * Actions are flags and links inside the objects, so that nothing of an epoch change can
 * fail for lack of memory. Three queues, emptied in this order: what concerns the endpoint
 * itself, what concerns sessions, and the bootstrap (R6).
 *
 *   core          the whole: limits, clock, actions
 *   endpoint      epoch, state, page; the seam
 *   session       one reader
 *   pattern       what it asks for
 *   subscription  it and one endpoint
 *   delivery      what it is told next
 *   inflight      what is not acknowledged
 *   guard         whether RAM is guarded well enough
 *   service       whether a session can be served at all
 *   action        queues of actions
 *   state         all of their structs
 */

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "broker/policy/account.h"
#include "broker/read/core.h"
#include "broker/adapters/memfiles_reg.h"
#include "broker/adapters/memwrite_reg.h"

#define ENDPOINT_NAME_MAX 63
#define ENDPOINT_DETAIL_MAX 255

enum action_queue { QUEUE_ENDPOINT, QUEUE_SESSION, QUEUE_BOOTSTRAP, QUEUES };

struct action_node {
	uint32_t pending; /* 1 << enum core_action_kind */
	struct endpoint *endpoint;
	struct session *session;
	struct action_node *prev, *next;
};

/* The subscriptions of one tenant's sessions to one endpoint, counted for lists. */
struct audience {
	const struct tenant *tenant;
	uint32_t count;
	struct audience *prev, *next;
};

struct endpoint {
	struct core *core;
	uint32_t id;
	char name[ENDPOINT_NAME_MAX + 1];
	struct selector_subject subject; /* the name, and labels of its own */
	char **labels;
	char adapter[16];
	char detail[ENDPOINT_DETAIL_MAX + 1];
	char host[ENDPOINT_NAME_MAX +
		  1]; /* that has the guest now; "": this one, or nobody knows */
	uint32_t epoch;
	enum vmsig_endpoint_state state;
	uint32_t news;    /* counts changes of state and detail */
	uint32_t context; /* counts contexts that were emitted */
	enum vmsig_guard guard, min_guard;
	uint32_t owner;
	uint64_t ram_bytes;
	vmsig_system system; /* of the context; all zero without one */
	bool registered, writable;
	bool resumable; /* the stored epoch may go on, if `stored` is the session's */
	char stored[VMSIG_SESSION_MAX], current[VMSIG_SESSION_MAX];
	vmsig_coherence *page;
	vmsig_memctx_reg reg;
	vmsig_memwrite_reg writer;   /* while `writable` */
	vmsig_memfiles_reg memfiles; /* no functions: RAM is had of `reg` */
	uint32_t files;              /* that RAM is in */
	struct subscription *subscriptions;
	struct audience *audiences;
	uint32_t nsubscriptions;
	int (*share_page)(void *ctx);
	void *page_ctx;
	struct charge place; /* of limits.endpoints */
	struct action_node own, bootstrap;
	uint64_t born;                /* the how manieth it was */
	struct endpoint *prev, *next; /* core->ages */
	UT_hash_handle hh;            /* by id */
	UT_hash_handle hh_name;       /* by name */
};

struct subscription {
	struct session *session;
	struct endpoint *endpoint; /* NULL: it is gone, which is the last thing to tell */
	uint32_t id;
	char name[ENDPOINT_NAME_MAX + 1];
	uint32_t asks;             /* patterns of the session that match the name */
	struct audience *audience; /* NULL: not counted */
	uint32_t told_epoch;       /* 0: nothing yet */
	uint32_t told_news, told_context;
	uint32_t last_epoch;                          /* of an endpoint that is gone */
	enum { DUE_NONE, DUE_NEWS, DUE_CONTEXT } due; /* which of the session's lists it is in */
	struct subscription *ep_prev, *ep_next;
	struct subscription *prev, *next; /* session->subscriptions */
	struct subscription *due_prev, *due_next;
	UT_hash_handle hh; /* session->index, by id */
};

struct pattern {
	struct charge one, glob;     /* of the session's account */
	UT_hash_handle hh;           /* session->patterns, by text */
	struct pattern *prev, *next; /* session->globs, if it is one */
	bool is_glob;
	char text[];
};

/* What sessions of one tenant have in flight; there while it has sessions. */
struct inflight_tenant {
	struct account account;  /* its part of limits.inflight_contexts */
	struct session *waiting; /* for room, first come first served */
	unsigned sessions;
	bool in_line; /* of the tenants that may have room when there is some */
	struct inflight_tenant *prev, *next;
	UT_hash_handle hh; /* inflight->tenants, by name */
	char name[];
};

/* The line for MEMCTXs in flight (inflight.c), */
struct inflight {
	struct session *outstanding; /* by take_by_ns, unless overdue */
	struct session *turns;       /* by turn_by_ns, new ones last */
	size_t new_turns;            /* whose time has not begun */
	size_t waiting;              /* sessions */
	struct inflight_tenant *tenants, *line;
};

/* and a session's place in it. */
struct inflight_place {
	bool outstanding; /* a MEMCTX is not acknowledged */
	bool unsaid;      /* and will not be: the shell finds out */
	bool overdue;     /* and the shell was told to disconnect */
	struct inflight_tenant *tenant;
	struct charge room; /* of limits.inflight_contexts: for the outstanding one, or a turn's */
	struct charge part; /* the same, of the tenant's */
	enum { LINE_OUT, LINE_WAITING, LINE_TURN } line;
	uint64_t take_by_ns, turn_by_ns;
	struct session *out_prev, *out_next;
	struct session *line_prev, *line_next; /* tenant->waiting or turns */
};

struct session {
	struct core *core;
	const struct tenant *tenant;
	uint32_t uid;
	void *user;
	enum vmsig_error error;   /* of a pending DISCONNECT */
	struct account account;   /* of the connection, by enum session_slot */
	struct charge place;      /* of limits.connections */
	struct pattern *patterns; /* by text */
	struct pattern *globs;    /* those that are no plain names */
	uint64_t seen;            /* endpoints born until then are matched */
	bool is_stale;            /* the policy is another one than was matched with */
	struct subscription *subscriptions;
	struct subscription *index; /* the same by id */
	struct subscription *due_news, *due_context;
	bool takes_files; /* RAM in several files */
	struct inflight_place inflight;
	char farewell[ENDPOINT_NAME_MAX +
		      1]; /* name in the last delivery of an endpoint that went */
	struct session *prev, *next;
	struct action_node own;
};

/* What all sessions and endpoints together may have. */
enum core_slot { CORE_ENDPOINTS, CORE_SESSIONS, CORE_INFLIGHT };
/* What one session may have. */
enum session_slot { SESSION_PATTERNS, SESSION_GLOBS };

struct core {
	uint64_t take_timeout_ns;
	struct account account; /* by enum core_slot */
	struct account_refusal refusal;
	vmsig_emit emit;
	bool closing;
	uint64_t now_ns;            /* as core_advance() said last */
	struct endpoint *endpoints; /* by id */
	struct endpoint *names;     /* by name, sorted */
	struct endpoint *ages;      /* oldest first */
	uint64_t births;
	uint64_t epochs, contexts, invalidations; /* since the start */
	struct session *sessions;
	struct inflight inflight;
	struct action_node *queues[QUEUES];
};

/* ---- action.c ---- */
void action_add(struct core *core, enum action_queue queue, struct action_node *node,
	enum core_action_kind kind);
void action_drop(struct core *core, enum action_queue queue, struct action_node *node);

/* ---- endpoint.c ---- */
struct endpoint *endpoint_by_id(struct core *core, uint32_t id);
struct endpoint *endpoint_by_name(struct core *core, const char *name);
/* As core_endpoint_add(), but for telling the sessions. */
__attribute__((warn_unused_result)) int endpoint_new(
	struct core *core, const struct core_endpoint_config *config);
void endpoint_emit_init(struct core *core);

/* ---- service.c ---- */
/* Whether the session is given contexts of the endpoint when it is ready. */
bool service_is_due(const struct endpoint *endpoint, const struct session *session);
/* Why it is not; static. */
const char *service_refusal(const struct endpoint *endpoint, const struct session *session);
/* What a list says of the endpoint to this session; NULL is told the plain detail. A ready
 * endpoint that is not served says why. */
const char *service_detail(const struct endpoint *endpoint, const struct session *session);

/* ---- guard.c ---- */
/* The endpoint's guard as it holds against a holder with this uid. */
enum vmsig_guard guard_against(const struct endpoint *endpoint, uint32_t uid);
/* Whether it is what the endpoint and the session's tenant demand. */
bool guard_suffices(const struct endpoint *endpoint, const struct session *session);
/* What would; static. */
const char *guard_advice(const struct endpoint *endpoint, const struct session *session);

/* ---- pattern.c ---- */
struct pattern *pattern_find(const struct session *session, const char *text);
/* VMSIG_ERR_QUOTA, -ENOMEM. */
__attribute__((warn_unused_result)) int pattern_new(
	struct pattern **ret_pattern, struct session *session, const char *text);
void pattern_free(struct session *session, struct pattern *pattern);
bool pattern_matches(const struct pattern *pattern, const char *name);
/* How many of the session's patterns match. */
uint32_t pattern_count(const struct session *session, const char *name);

/* ---- subscription.c ---- */
/* 0 or -ENOMEM; one that exists already is no error, and one that parted comes back. */
__attribute__((warn_unused_result)) int subscription_add(
	struct session *session, struct endpoint *endpoint);
struct subscription *subscription_find(struct session *session, uint32_t id);
void subscription_free(struct subscription *subscription);
/* Something about the endpoint changed: sorts the subscription into the session's lists. */
void subscription_update(struct subscription *subscription);
/* The endpoint goes, or may not be seen any more. */
void subscription_part(struct subscription *subscription);
/* The session has another tenant now. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int subscription_count_anew(struct subscription *subscription);

/* Into the list of the session that it belongs to, after something was told. */
void subscription_sort(struct subscription *subscription);
/* What of it is to be told first. Told of an epoch that is over, or of nothing about the present
 * one. */
bool subscription_owes_invalidation(const struct subscription *subscription);

/* ---- session.c ---- */
/* Matches the endpoints that have come, and a new policy, with what the session asks for. Not
 * when they come: each session pays for its own patterns when it is its turn. 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int session_catch_up(struct session *session);
/* An endpoint has come: has the session pull, if it may concern it. */
void session_announce(struct session *session);

/* ---- inflight.c ---- */
/* A session that has begun has a tenant, until it leaves with all that it has here. -ENOMEM. */
__attribute__((warn_unused_result)) int inflight_join(struct session *session);
void inflight_leave(struct session *session);
/* limits.inflight_contexts is another one. */
void inflight_set_limit(struct core *core);
/* Whether the session may have a MEMCTX in flight now, whose room it has from then on; else it
 * gets in line. */
bool inflight_may_carry(struct session *session);
/* It has one in flight, in that room; or gives the room back. */
void inflight_begin(struct session *session, uint64_t now_ns);
void inflight_cancel(struct session *session);
/* It is not in flight any more. */
void inflight_end(struct session *session);
/* Out of the line, and without a turn; who is next gets it. */
void inflight_leave_line(struct session *session);
/* Disconnects who is overdue, takes the turns back that were not used in time. */
void inflight_advance(struct core *core, uint64_t now_ns);
/* When that is due; UINT64_MAX: never. */
uint64_t inflight_deadline(const struct core *core);

#endif
