/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/share.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "lease/timerheap.h"

#define WAITS_EVERY_NS 10000000u /* what a long piece may be spared too much, at most */
#define LOOK_MAX_NS 250000u      /* a look at a thousand readable sockets takes that long */

struct share_id {
	char kind; /* enum share_kind; a byte, so that no padding gets into the hash */
	char key[SHARE_KEY_MAX + 1];
};

/* Where a share stands. It is in `queue` unless it is IDLE or ASLEEP. */
enum share_place { SHARE_IDLE, SHARE_ASLEEP, SHARE_URGENT, SHARE_FRESH, SHARE_ROUND };

struct share {
	struct shares *shares;
	struct share_id id;
	unsigned refs;
	enum share_place place;
	int64_t credit_ns; /* below 0: overdrawn */
	uint64_t served;   /* the last turn in which it was fresh and had a piece */
	uint64_t turn;     /* the last one in which it was charged, */
	uint64_t spent_ns; /* and how much */
	struct share_task *tasks;
	struct timerheap_node wake; /* armed while ASLEEP */
	struct share *prev, *next;
	UT_hash_handle hh;
};

struct shares {
	struct share_limits limits;
	uint64_t (*now_ns)(void *ctx);
	uint64_t (*waited_ns)(void *ctx); /* NULL: not known */
	void *ctx;
	uint64_t turn; /* number of the turn, from a shares_run() to the next */
	uint64_t turn_began, turn_ns;
	bool served;               /* a fresh share has had its piece in this turn, */
	bool cut, was_cut;         /* which was cut for it; and the turn before */
	uint64_t waits, waits_now; /* when it was last asked: the waits, and the clock */
	struct share *table;
	struct share *urgent, *fresh, *round;
	struct timerheap asleep;
	bool urgent_was_last;
	struct share_scope *scope;
	struct share *longest; /* counted as a reference */
	uint64_t longest_ns;
};

static const char *const kind_names[SHARE_KINDS] = {
	[SHARE_BROKER] = "broker",
	[SHARE_ADMIN] = "admin",
	[SHARE_TENANT] = "tenant",
	[SHARE_UID] = "uid",
	[SHARE_QEMU] = "qemu",
	[SHARE_PROVIDER] = "provider",
};

static bool is_urgent(const struct share *share)
{
	return share->id.kind == SHARE_BROKER || share->id.kind == SHARE_ADMIN;
}

/* ---- places ---- */

static struct share **queue_of(struct shares *shares, enum share_place place)
{
	switch (place) {
	case SHARE_URGENT:
		return &shares->urgent;
	case SHARE_FRESH:
		return &shares->fresh;
	case SHARE_ROUND:
		return &shares->round;
	default:
		return NULL;
	}
}

static void move_to(struct share *share, enum share_place place)
{
	struct shares *shares = share->shares;
	struct share **from = queue_of(shares, share->place), **to = queue_of(shares, place);

	if (from)
		DL_DELETE(*from, share);
	if (share->place == SHARE_ASLEEP)
		timerheap_set(&shares->asleep, &share->wake, TIMERHEAP_NEVER);
	share->place = place;
	if (to)
		DL_APPEND(*to, share);
}

/* Nobody refers to it, and it owes nothing. */
static void free_unused(struct share *share)
{
	struct shares *shares = share->shares;

	if (share->refs || share->place != SHARE_IDLE)
		return;
	HASH_DEL(shares->table, share);
	timerheap_unreserve(&shares->asleep);
	free(share);
}

/* It has work, and stands nowhere. */
static void enqueue(struct share *share)
{
	if (is_urgent(share)) {
		move_to(share, SHARE_URGENT);
		return;
	}
	if (share->credit_ns > 0)
		share->credit_ns = 0;
	share->credit_ns += (int64_t)share->shares->limits.quantum_ns;
	move_to(share, SHARE_FRESH);
}

static void wake_up(struct shares *shares, uint64_t now_ns)
{
	struct timerheap_node *node;

	while ((node = timerheap_first(&shares->asleep)) && node->due <= now_ns) {
		struct share *share = (struct share *)((char *)node - offsetof(struct share, wake));

		share->credit_ns = 0;
		move_to(share, SHARE_IDLE);
		if (share->tasks)
			move_to(share, SHARE_ROUND);
		else
			free_unused(share);
	}
}

/* ---- paying ---- */

static void sleep_until(struct share *share, uint64_t due)
{
	move_to(share, SHARE_ASLEEP);
	timerheap_set(&share->shares->asleep, &share->wake, due);
}

/* What comes of earlier work of one that sleeps. */
static void sleep_longer(struct share *share, uint64_t ns, uint64_t now_ns)
{
	const struct share_limits *limits = &share->shares->limits;
	uint64_t due = share->wake.due + ns * limits->debt_factor;
	uint64_t last = now_ns + limits->debt_max_ns * limits->debt_factor;

	timerheap_set(&share->shares->asleep, &share->wake, due < last ? due : last);
}

/* Whether that was more than rounds can even out. */
static bool is_excess(struct share *share, uint64_t ns)
{
	const struct shares *shares = share->shares;

	if (share->turn != shares->turn)
		share->spent_ns = 0;
	share->turn = shares->turn;
	share->spent_ns += ns;
	return ns > shares->limits.grace_ns || share->spent_ns > shares->limits.burst_ns;
}

static void pay(struct share *share, uint64_t ns, uint64_t now_ns)
{
	const struct share_limits *limits = &share->shares->limits;
	int64_t most_ns;
	bool excess;

	if (is_urgent(share))
		return;
	if (ns > limits->debt_max_ns)
		ns = limits->debt_max_ns;
	if (share->place == SHARE_ASLEEP) {
		sleep_longer(share, ns, now_ns);
		return;
	}
	excess = is_excess(share, ns);
	most_ns = (int64_t)(excess ? limits->debt_max_ns : limits->burst_ns);
	share->credit_ns -= (int64_t)ns;
	if (share->credit_ns < -most_ns)
		share->credit_ns = -most_ns;
	if (excess && share->credit_ns < -(int64_t)limits->grace_ns)
		sleep_until(share, now_ns + (uint64_t)-share->credit_ns * limits->debt_factor);
}

/* ---- waits for a CPU ---- */

static uint64_t ask_waits(struct shares *shares, uint64_t now_ns)
{
	uint64_t before = shares->waits;

	if (!shares->waited_ns)
		return 0;
	shares->waits = shares->waited_ns(shares->ctx);
	shares->waits_now = now_ns;
	return shares->waits > before ? shares->waits - before : 0;
}

/* The part of a piece that counts. Short ones are not worth the question. */
static uint64_t without_waits(struct shares *shares, uint64_t ns, uint64_t now_ns)
{
	uint64_t waited = ns > shares->limits.grace_ns ? ask_waits(shares, now_ns) : 0;

	return waited < ns ? ns - waited : 0;
}

void shares_know_waits(struct shares *shares, uint64_t (*waited_ns)(void *ctx))
{
	shares->waited_ns = waited_ns;
	(void)ask_waits(shares, shares->now_ns(shares->ctx));
}

void share_charge(struct share *share, uint64_t ns)
{
	pay(share, ns, share->shares->now_ns(share->shares->ctx));
}

static void note_longest(struct share *share, uint64_t ns)
{
	struct shares *shares = share->shares;

	if (ns <= shares->longest_ns)
		return;
	shares->longest_ns = ns;
	if (shares->longest == share)
		return;
	share->refs++;
	share_unref(shares->longest);
	shares->longest = share;
}

void share_enter(struct share_scope *scope, struct shares *shares, struct share *share)
{
	*scope = (struct share_scope){.shares = shares,
		.share = share ? share_ref(share) : NULL,
		.outer = shares->scope,
		.start_ns = shares->now_ns(shares->ctx)};
	shares->scope = scope;
}

uint64_t share_leave(struct share_scope *scope)
{
	struct shares *shares = scope->shares;
	uint64_t now_ns = shares->now_ns(shares->ctx);
	uint64_t all = now_ns - scope->start_ns;
	uint64_t own = all > scope->inner_ns ? all - scope->inner_ns : 0;

	assert(shares->scope == scope);
	shares->scope = scope->outer;
	if (scope->outer)
		scope->outer->inner_ns += all;
	if (scope->share) {
		note_longest(scope->share, own);
		pay(scope->share, without_waits(shares, own, now_ns), now_ns);
		share_unref(scope->share);
	}
	return own;
}

const struct share *shares_current(const struct shares *shares)
{
	return shares->scope ? shares->scope->share : NULL;
}

const struct share *shares_take_longest(struct shares *shares, uint64_t *ret_ns)
{
	*ret_ns = shares->longest_ns;
	shares->longest_ns = 0;
	return *ret_ns ? shares->longest : NULL;
}

/* ---- tasks ---- */

void share_task_init(
	struct share_task *task, struct share *share, void (*run)(struct share_task *task))
{
	*task = (struct share_task){.share = share, .run = run};
}

void share_task_ready(struct share_task *task)
{
	struct share *share = task->share;

	if (task->is_ready)
		return;
	task->is_ready = true;
	DL_APPEND(share->tasks, task);
	if (share->place == SHARE_IDLE)
		enqueue(share);
}

void share_task_cancel(struct share_task *task)
{
	if (!task->is_ready)
		return;
	task->is_ready = false;
	/* The share leaves its queue when its turn comes. */
	DL_DELETE(task->share->tasks, task);
	task->prev = task->next = NULL;
}

void share_task_move(struct share_task *task, struct share *share)
{
	bool is_ready = task->is_ready;

	share_task_cancel(task);
	task->share = share;
	if (is_ready)
		share_task_ready(task);
}

/* ---- the turn ---- */

static void run_one(struct share *share)
{
	struct share_task *task = share->tasks;
	struct share_scope scope;

	share->shares->urgent_was_last = is_urgent(share);
	share_task_cancel(task);
	share_enter(&scope, share->shares, share);
	task->run(task);
	(void)share_leave(&scope);
}

/* One without work has had its round, so that going and coming gains nothing; one without
 * credit gets its quantum and waits for the others. Whether it may run now. */
static bool take_turn(struct share *share)
{
	if (!share->tasks) {
		if (share->place == SHARE_FRESH) {
			move_to(share, SHARE_ROUND);
		} else {
			move_to(share, SHARE_IDLE);
			free_unused(share);
		}
		return false;
	}
	if (share->place == SHARE_URGENT) {
		/* Its own kind has its turns too. */
		move_to(share, SHARE_URGENT);
		return true;
	}
	if (share->credit_ns > 0)
		return true;
	share->credit_ns += (int64_t)share->shares->limits.quantum_ns;
	move_to(share, SHARE_ROUND);
	return false;
}

static struct share *next_share(const struct shares *shares)
{
	struct share *other = shares->fresh ? shares->fresh : shares->round;

	return shares->urgent && (!other || !shares->urgent_was_last) ? shares->urgent : other;
}

bool shares_pending(const struct shares *shares)
{
	return next_share(shares) != NULL;
}

/* What one has asked for who seldom asks is not kept waiting for those who always do: the turn ends
 * so that the answer leaves. Every other turn is theirs as well. */
static bool is_cut(struct shares *shares, const struct share *next)
{
	if (shares->served && !shares->was_cut && next->place == SHARE_ROUND && next->tasks &&
		next->served != shares->turn)
		shares->cut = true;
	return shares->cut;
}

static void serve(struct share *share)
{
	if (share->place == SHARE_FRESH) {
		share->served = share->shares->turn;
		share->shares->served = true;
	}
	run_one(share);
}

/* Of a turn that was cut: what comes of those pieces. */
static void serve_again(struct shares *shares)
{
	struct share *share, *next;

	DL_FOREACH_SAFE (shares->round, share, next) {
		if (share->served == shares->turn && share->tasks && share->credit_ns > 0) {
			run_one(share);
			return;
		}
	}
}

bool shares_continue(struct shares *shares)
{
	uint64_t now_ns = shares->now_ns(shares->ctx);
	struct share *share;

	if (shares->cut)
		serve_again(shares);
	/* A share without credit gains a quantum a visit and owes no more than the burst, so this
	 * ends. */
	while (now_ns - shares->turn_began < shares->turn_ns && (share = next_share(shares)) &&
		!is_cut(shares, share)) {
		if (!take_turn(share))
			continue;
		serve(share);
		now_ns = shares->now_ns(shares->ctx);
	}
	return shares_pending(shares);
}

void shares_looked(struct shares *shares, uint64_t ns)
{
	uint64_t looked_ns = ns < LOOK_MAX_NS ? ns : LOOK_MAX_NS;

	shares->turn_ns = looked_ns > shares->limits.turn_ns ? looked_ns : shares->limits.turn_ns;
}

bool shares_run(struct shares *shares)
{
	uint64_t now_ns = shares->now_ns(shares->ctx);

	shares->turn++;
	shares->turn_began = now_ns;
	shares->was_cut = shares->cut;
	shares->cut = shares->served = false;
	if (now_ns - shares->waits_now >= WAITS_EVERY_NS)
		(void)ask_waits(shares, now_ns);
	wake_up(shares, now_ns);
	return shares_continue(shares);
}

uint64_t shares_deadline(const struct shares *shares)
{
	struct timerheap_node *node = timerheap_first(&shares->asleep);

	return node ? node->due : UINT64_MAX;
}

/* ---- life ---- */

static void make_id(struct share_id *id, enum share_kind kind, const char *key)
{
	memset(id, 0, sizeof(*id));
	id->kind = (char)kind;
	strncpy(id->key, key, SHARE_KEY_MAX);
}

int share_get(
	struct shares *shares, enum share_kind kind, const char *key, struct share **ret_share)
{
	struct share_id id;
	struct share *share = NULL;

	make_id(&id, kind, key);
	HASH_FIND(hh, shares->table, &id, sizeof(id), share);
	if (share) {
		*ret_share = share_ref(share);
		return 0;
	}
	share = calloc(1, sizeof(*share));
	if (!share || timerheap_reserve(&shares->asleep)) {
		free(share);
		return -ENOMEM;
	}
	share->shares = shares;
	share->id = id;
	HASH_ADD(hh, shares->table, id, sizeof(share->id), share);
	if (!share->hh.tbl) {
		timerheap_unreserve(&shares->asleep);
		free(share);
		return -ENOMEM;
	}
	*ret_share = share_ref(share);
	return 0;
}

struct share *share_ref(struct share *share)
{
	share->refs++;
	return share;
}

struct share *share_unref(struct share *share)
{
	if (!share)
		return NULL;
	assert(share->refs > 0);
	share->refs--;
	free_unused(share);
	return NULL;
}

const char *share_kind_name(const struct share *share)
{
	return kind_names[(size_t)share->id.kind];
}

const char *share_key(const struct share *share)
{
	return share->id.key;
}

int shares_new(struct shares **ret_shares, const struct share_limits *limits,
	uint64_t (*now_ns)(void *ctx), void *ctx)
{
	struct shares *shares = calloc(1, sizeof(*shares));

	if (!shares)
		return -ENOMEM;
	shares->limits = *limits;
	shares->turn_ns = limits->turn_ns;
	shares->now_ns = now_ns;
	shares->ctx = ctx;
	shares->asleep = TIMERHEAP_INIT;
	*ret_shares = shares;
	return 0;
}

struct shares *shares_free(struct shares *shares)
{
	struct share *share, *next;

	if (!shares)
		return NULL;
	share_unref(shares->longest);
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, shares->table, share, next) {
		assert(!share->refs && !share->tasks);
		move_to(share, SHARE_IDLE);
		free_unused(share);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	timerheap_deinit(&shares->asleep);
	free(shares);
	return NULL;
}
