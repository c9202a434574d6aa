/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/caller.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define STRANGER_CONNECTIONS 4u /* of one uid that the policy does not name */
#define STRANGERS_CONNECTS 10u  /* times limits.stranger_connects, all of them together */
#define CALLERS_MAX 8192u       /* a user may have 65536 uids of its own (subuid(5)) */
#define RECORDS_PER_SECOND 10u  /* of one uid */
#define STRANGERS_RECORDS 50u   /* of all that the policy does not name */
#define SUMMARY_NS 1000000000u  /* between summaries of what was left out */
#define SUMMARY_UIDS 16         /* named in one of them */

static_assert(CALLER_SLOTS <= ACCOUNT_SLOTS, "a uid's account has a slot for each of them");

#define WAIT_ADVICE "wait for some of the uid's to end"

static const struct account_kind kind = {.owner = "uid",
	.slots = {[CALLER_CONNECTIONS] = {"connections", "connections of the uid",
			  "close one, or have quota.connections raised"},
		[CALLER_VISITORS] = {"connections that wait", "connections of the uid",
			WAIT_ADVICE},
		[CALLER_HANDSHAKES +
			NET_DOOR_CTX] = {"handshakes", "limits.handshakes", WAIT_ADVICE},
		[CALLER_HANDSHAKES +
			NET_DOOR_WRITE] = {"handshakes", "limits.handshakes", WAIT_ADVICE},
		[CALLER_HANDSHAKES + NET_DOOR_ADMIN] = {
			"handshakes", "limits.handshakes", WAIT_ADVICE}}};

/* Of a uid that the policy does not name. */
static const struct account_kind stranger_kind = {.owner = "uid",
	.slots = {{"connections in a second", "limits.stranger_connects_per_second",
		"have the uid named by the policy"}}};

static bool take(struct rate *rate, double per_second, uint64_t now_ns)
{
	if (rate_wait(rate, now_ns, per_second, 1))
		return false;
	rate_spend(rate, 1);
	return true;
}

/* ---- the policy ---- */

static const struct named_uid *named_find(const struct named_uid *named, uint32_t uid)
{
	struct named_uid *found = NULL;

	HASH_FIND(hh, named, &uid, sizeof(uid), found);
	return found;
}

static struct named_uid *named_free(struct named_uid *named)
{
	struct named_uid *entry, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, named, entry, next) {
		HASH_DEL(named, entry);
		free(entry);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	return NULL;
}

static int named_add(struct named_uid **named, uint32_t uid, uint32_t connections)
{
	struct named_uid *entry = (struct named_uid *)(uintptr_t)named_find(*named, uid);

	if (!entry) {
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return -ENOMEM;
		entry->uid = uid;
		HASH_ADD(hh, *named, uid, sizeof(entry->uid), entry);
		if (!entry->hh.tbl) {
			free(entry);
			return -ENOMEM;
		}
	}
	entry->connections += connections;
	return 0;
}

int callers_set_policy(struct callers *callers, const struct config *config)
{
	struct named_uid *named = NULL;

	for (size_t i = 0; i < config->ntenants; i++) {
		const struct grant_tenant *tenant = &config->tenants[i];

		for (size_t k = 0; k < tenant->nuids; k++) {
			if (named_add(&named, tenant->uids[k], tenant->tenant.quota.connections)) {
				named_free(named);
				return -ENOMEM;
			}
		}
	}
	named_free(callers->named);
	callers->named = named;
	return 0;
}

static double strangers_connects(const struct config *config)
{
	return (double)config->stranger_connects * STRANGERS_CONNECTS;
}

int callers_init(struct callers *callers, const struct config *config, uint64_t now_ns)
{
	*callers = (struct callers){.summary_ns = now_ns};
	rate_init(&callers->strangers, now_ns, strangers_connects(config));
	rate_init(&callers->stranger_log, now_ns, STRANGERS_RECORDS);
	return callers_set_policy(callers, config);
}

bool caller_is_named(const struct callers *callers, uid_t uid)
{
	return named_find(callers->named, uid) != NULL;
}

/* ---- coming and going ---- */

static struct caller *caller_find(const struct callers *callers, uid_t uid)
{
	struct caller *caller = NULL;

	HASH_FIND(hh, callers->table, &uid, sizeof(uid), caller);
	return caller;
}

static uint32_t connects_of(const struct callers *callers, const struct config *config, uid_t uid)
{
	return caller_is_named(callers, uid) ? config->connects : config->stranger_connects;
}

static struct caller *caller_new(
	struct callers *callers, const struct config *config, uid_t uid, uint64_t now_ns)
{
	struct caller *caller;

	if (HASH_COUNT(callers->table) >= CALLERS_MAX)
		return NULL;
	caller = calloc(1, sizeof(*caller));
	if (!caller)
		return NULL;
	caller->uid = uid;
	snprintf(caller->name, sizeof(caller->name), "%u", uid);
	account_init(&caller->account, &kind, caller->name);
	rate_init(&caller->connects, now_ns, connects_of(callers, config, uid));
	rate_init(&caller->records, now_ns, RECORDS_PER_SECOND);
	HASH_ADD(hh, callers->table, uid, sizeof(caller->uid), caller);
	if (caller->hh.tbl)
		return caller;
	free(caller);
	return NULL;
}

/* Before anything is made for it. */
static bool stranger_may_connect(struct callers *callers, const struct config *config,
	struct caller *caller, uint64_t now_ns)
{
	if (caller && !take(&caller->connects, config->stranger_connects, now_ns))
		return false;
	return take(&callers->strangers, strangers_connects(config), now_ns);
}

bool caller_can_shake(struct callers *callers, const struct config *config, struct caller *caller,
	uint64_t now_ns)
{
	return !caller_is_named(callers, caller->uid) ||
	       rate_wait(&caller->connects, now_ns, config->connects, 1) == 0;
}

void caller_shake(struct callers *callers, struct caller *caller)
{
	if (caller_is_named(callers, caller->uid))
		rate_spend(&caller->connects, 1);
}

int caller_enter(struct callers *callers, const struct config *config,
	const struct account_actor *actor, uint64_t now_ns, struct charge *charge,
	struct caller **ret_caller, struct account_refusal *ret_refusal)
{
	const struct named_uid *named = named_find(callers->named, actor->uid);
	struct caller *caller = caller_find(callers, actor->uid);

	*ret_caller = caller;
	if (!named && !stranger_may_connect(callers, config, caller, now_ns)) {
		*ret_refusal = (struct account_refusal){.actor = *actor,
			.kind = &stranger_kind,
			.owner = "",
			.slot = &stranger_kind.slots[0],
			.amount = 1,
			.used = config->stranger_connects,
			.limit = config->stranger_connects};
		return VMSIG_ERR_QUOTA;
	}
	if (!caller)
		caller = caller_new(callers, config, actor->uid, now_ns);
	if (!caller)
		return -ENOMEM;
	*ret_caller = caller;
	account_set_limit(&caller->account, CALLER_CONNECTIONS,
		named ? named->connections : STRANGER_CONNECTIONS);
	return charge_take(charge, &caller->account, CALLER_CONNECTIONS, 1, actor, ret_refusal);
}

/* ---- the log ---- */

bool caller_may_log(struct callers *callers, struct caller *caller, uint64_t now_ns)
{
	bool named = caller && caller_is_named(callers, caller->uid);

	if (caller && !take(&caller->records, RECORDS_PER_SECOND, now_ns)) {
		caller->left_out++;
		return false;
	}
	if (named || take(&callers->stranger_log, STRANGERS_RECORDS, now_ns))
		return true;
	if (caller)
		caller->left_out++;
	else
		callers->left_out++;
	return false;
}

/* By uid, so that a flood of one does not hide the others in a number. */
static void summarize(struct callers *callers)
{
	struct caller *caller, *next;
	uint32_t uids = 0, more = callers->left_out;

	HASH_ITER (hh, callers->table, caller, next) {
		if (!caller->left_out)
			continue;
		if (++uids <= SUMMARY_UIDS)
			log_warning("records about connections were left out",
				LOG_INT("uid", caller->uid), LOG_INT("count", caller->left_out));
		else
			more += caller->left_out;
		caller->left_out = 0;
	}
	if (more)
		log_warning("records about connections of other uids were left out",
			LOG_INT("count", more));
	callers->left_out = 0;
}

/* ---- time ---- */

static bool is_full(struct rate *rate, double per_second, uint64_t now_ns)
{
	return rate_wait(rate, now_ns, per_second, per_second) == 0;
}

static bool is_settled(const struct callers *callers, const struct config *config,
	struct caller *caller, uint64_t now_ns)
{
	return !account_used(&caller->account, CALLER_CONNECTIONS) && !caller->left_out &&
	       is_full(&caller->connects, connects_of(callers, config, caller->uid), now_ns) &&
	       is_full(&caller->records, RECORDS_PER_SECOND, now_ns);
}

bool callers_tick(struct callers *callers, const struct config *config, uint64_t now_ns)
{
	struct caller *caller, *next;
	bool expecting = callers->left_out > 0;

	if (now_ns - callers->summary_ns >= SUMMARY_NS) {
		summarize(callers);
		callers->summary_ns = now_ns;
	}
	/* As above. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc, clang-analyzer-core.NullDereference) */
	HASH_ITER (hh, callers->table, caller, next) {
		if (is_settled(callers, config, caller, now_ns)) {
			account_deinit(&caller->account);
			HASH_DEL(callers->table, caller);
			free(caller);
		} else if (!account_used(&caller->account, CALLER_CONNECTIONS) ||
			   caller->left_out) {
			expecting = true;
		}
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc, clang-analyzer-core.NullDereference) */
	return expecting;
}

void callers_deinit(struct callers *callers)
{
	struct caller *caller, *next;

	/* As above. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc, clang-analyzer-core.NullDereference) */
	HASH_ITER (hh, callers->table, caller, next) {
		account_deinit(&caller->account);
		HASH_DEL(callers->table, caller);
		free(caller);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc, clang-analyzer-core.NullDereference) */
	callers->named = named_free(callers->named);
}
