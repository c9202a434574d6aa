/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_SHARE_H
#define BROKER_POLICY_SHARE_H

/*
 * Who may use the loop's time. A *share* is one source's account of it: a tenant, the uid of a
 * stranger, a QEMU, the broker itself. Work whose amount its source decides is a *task* of that
 * share. shares_run() runs tasks in deficit round robin and charges each share what its tasks
 * really took, so that whatever costs too much, found or not yet found, costs its owner.
 *
 * - A round gives each share that has work one quantum. Within quanta the loop is never idle
 *   while there is work.
 * - A task cannot be interrupted: it does a piece and makes itself ready again. What a share
 *   overdraws is paid in the rounds that follow, which cost nothing when nobody else has work.
 *   What no round could have stopped is paid in real time: after one piece longer than
 *   `grace_ns`, or more than `burst_ns` in one turn, the share sleeps for `debt_factor` times
 *   what it owes, and its tasks with it. That debt outlives the tasks and references of its
 *   share.
 * - Of a long piece, the time that the thread waited for a CPU is nobody's
 *   (shares_know_waits()).
 * - A share that was idle comes first, so that a lone request does not wait for a round.
 * - Urgent shares (the broker's and administrators') take turns with all the others together,
 *   and never sleep.
 *
 * Pure: the clock is passed in. Belongs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_KEY_MAX 95

enum share_kind {
	SHARE_BROKER,   /* its own work; urgent */
	SHARE_ADMIN,    /* urgent */
	SHARE_TENANT,   /* key: its name */
	SHARE_UID,      /* key: a uid that has not proven to be a tenant */
	SHARE_QEMU,     /* key: the endpoint's name */
	SHARE_PROVIDER, /* key: the endpoint's name */
	SHARE_KINDS
};

struct share_limits {
	uint64_t quantum_ns;  /* what a share gains in a round */
	uint64_t turn_ns;     /* of one shares_run(), after which the loop looks for events */
	uint64_t grace_ns;    /* pieces up to this cost rounds only, */
	uint64_t burst_ns;    /* and so does this much of them in one turn */
	uint32_t debt_factor; /* sleep per time overdrawn */
	uint64_t debt_max_ns; /* an overdraft counts no more than this */
};

/* What others wait for is the turn that is under way: shorter turns than that cost a lone pipeline
 * nothing (measured), longer ones its neighbours' latency. The grace
 * is above the largest honest piece (a frame of 1 MiB), the burst above a pipeline of 64 commands
 * of 4 KiB, of which each takes some 50 us in parts of its own; a debtor gets a fifth of the
 * loop. */
#define SHARE_LIMITS_DEFAULT                                                                       \
	((struct share_limits){.quantum_ns = 15000,                                                \
		.turn_ns = 30000,                                                                  \
		.grace_ns = 2000000,                                                               \
		.burst_ns = 8000000,                                                               \
		.debt_factor = 4,                                                                  \
		.debt_max_ns = 500000000})

struct shares;
struct share;

/* `now_ns` is a monotonic clock. -ENOMEM. */
__attribute__((warn_unused_result)) int shares_new(struct shares **ret_shares,
	const struct share_limits *limits, uint64_t (*now_ns)(void *ctx), void *ctx);
/* `waited_ns`, with the context of the clock: how long this thread has been ready to run and has
 * not run, altogether. It may cost a system call: it is asked before and after what is long. */
void shares_know_waits(struct shares *shares, uint64_t (*waited_ns)(void *ctx));
/* All references were given back and no task is ready. Accepts NULL, returns NULL. */
struct shares *shares_free(struct shares *shares);

/* Finds or makes the share and takes a reference; longer keys are cut. -ENOMEM. */
__attribute__((warn_unused_result)) int share_get(
	struct shares *shares, enum share_kind kind, const char *key, struct share **ret_share);
struct share *share_ref(struct share *share);
/* Accepts NULL, returns NULL. */
struct share *share_unref(struct share *share);
/* Borrowed. "broker", "admin", "tenant", ...; the key. */
const char *share_kind_name(const struct share *share);
const char *share_key(const struct share *share);

/* ---- tasks ---- */

/* Embedded in what has the work; borrows the share, whose reference its owner holds. */
struct share_task {
	struct share *share;
	/* Does a piece. It is not ready any more when it is called. May free the task. */
	void (*run)(struct share_task *task);
	struct share_task *prev, *next;
	bool is_ready;
};

void share_task_init(
	struct share_task *task, struct share *share, void (*run)(struct share_task *task));
/* Has it run; ignored when it is ready already. */
void share_task_ready(struct share_task *task);
/* It is not ready any more. */
void share_task_cancel(struct share_task *task);
/* Another one pays from now on; it stays ready if it is. */
void share_task_move(struct share_task *task, struct share *share);

/* What the loop has spent since the last turn on looking for events, without sleeping: a turn lasts
 * no shorter, so that of many sources that all have something the looks cost no more than the work,
 * up to LOOK_MAX_NS. Once before each shares_run(); 0 if the loop slept. */
void shares_looked(struct shares *shares, uint64_t ns);
/* Runs tasks for one turn. Whether there are more that may run at once. */
bool shares_run(struct shares *shares);
/* Goes on with the turn, with what is ready by now, as long as it has time left. As above. */
bool shares_continue(struct shares *shares);
/* Whether shares_run() would find something to do at once. */
bool shares_pending(const struct shares *shares);
/* When a share with work wakes; UINT64_MAX: none sleeps. */
uint64_t shares_deadline(const struct shares *shares);

/* ---- work that is no task ---- */

/* Lives on the stack around a piece of work; scopes nest, and the inner one's time is not the
 * outer one's. A NULL share is nobody's time. */
struct share_scope {
	struct shares *shares;
	struct share *share;
	struct share_scope *outer;
	uint64_t start_ns, inner_ns;
};

void share_enter(struct share_scope *scope, struct shares *shares, struct share *share);
/* Charges the share. Returns the nanoseconds that were its own, waits for a CPU among them. */
uint64_t share_leave(struct share_scope *scope);
/* For work whose time was measured elsewhere. */
void share_charge(struct share *share, uint64_t ns);

/* Whose work is being done now; NULL: nobody's. */
const struct share *shares_current(const struct shares *shares);
/* Since the call before: whose piece of work took longest, and how long. NULL: none. */
const struct share *shares_take_longest(struct shares *shares, uint64_t *ret_ns);

#endif
