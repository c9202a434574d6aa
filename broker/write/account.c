/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant's doing costs the disk. Every record of the audit log and every row of the
 * ledger is charged to the tenant that brought it about; one that owes is refused before
 * anything more of it is stored, so that nobody's noise drives out what others did faster than
 * quota.audit allows. What is stored all the same, because it has to be (results, ends), is a
 * debt of no more than the commands that were under way.
 */
#include "broker/write/state.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

/* What was not used is saved up for so long: a burst of work is no flood. */
#define SAVED_S 64u
/* Acquire, renew, release and resume, of one tenant. 64 leases of the shortest TTL, renewed at
 * a third, are 200. */
#define REQUESTS_PER_SECOND 10000.0
#define ACCOUNTS_MAX 16384 /* tenants; forgotten beyond that: all start full again */

void accounts_free(struct desk *desk)
{
	struct account *account, *next;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->accounts, account, next) {
		HASH_DEL(desk->accounts, account);
		free(account);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	desk->accounts = NULL;
}

/* The bucket's second is SAVED_S of ours, as it saves up one. */
static uint64_t audit_now(void)
{
	return desk_now() / SAVED_S;
}

static double audit_rate(const struct account *account)
{
	return account->rate ? (double)account->rate * SAVED_S : 1e18;
}

static struct account *account_find(struct desk *desk, const char *tenant)
{
	struct account *account = NULL;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->accounts, tenant, account);
	return account;
}

static struct account *account_get(struct desk *desk, const struct config_tenant *tenant)
{
	struct account *account = account_find(desk, tenant->tenant.name);

	if (account) {
		account->rate = tenant->audit_rate;
		return account;
	}
	if (HASH_COUNT(desk->accounts) >= ACCOUNTS_MAX)
		accounts_free(desk);
	account = calloc(1, sizeof(*account));
	if (!account)
		return NULL;
	snprintf(account->tenant, sizeof(account->tenant), "%s", tenant->tenant.name);
	account->rate = tenant->audit_rate;
	rate_init(&account->audit, audit_now(), audit_rate(account));
	rate_init(&account->requests, desk_now(), REQUESTS_PER_SECOND);
	HASH_ADD_STR(desk->accounts, tenant, account);
	if (!account->hh.tbl) {
		free(account);
		return NULL;
	}
	return account;
}

/* While the log is behind: more than the others have stored since then, on average. */
static bool is_heavy(const struct desk *desk, const struct account *account)
{
	const struct account *other;
	double sum = 0;

	for (other = desk->accounts; other; other = other->hh.next)
		sum += (double)other->behind;
	return (double)account->behind * HASH_COUNT(desk->accounts) > sum;
}

/* There may be room again since the last time. */
static const char *refusal_of_store(struct desk *desk)
{
	uint64_t now_ns = desk_now();

	if (store_refusal(desk->env.store) && now_ns >= desk->reclaim_ns) {
		desk->reclaim_ns = now_ns + DESK_RETRY_NS;
		(void)!store_reclaim(desk->env.store);
	}
	return store_refusal(desk->env.store);
}

static int check_store(struct desk *desk, const struct account *account, char *detail, size_t size)
{
	enum store_pressure pressure = store_pressure(desk->env.store);
	const char *refusal = refusal_of_store(desk);

	if (refusal) {
		snprintf(detail, size, "%s", refusal);
		return VMSIG_ERR_IO;
	}
	if (pressure == STORE_PRESSURE_FULL ||
		(pressure == STORE_PRESSURE_HIGH && is_heavy(desk, account))) {
		snprintf(detail, size,
			"the broker's disk does not keep up with what has to be recorded; send it "
			"again in a moment");
		return VMSIG_ERR_BUSY;
	}
	return 0;
}

int account_request(
	struct desk *desk, const struct config_tenant *tenant, char *detail, size_t size)
{
	struct account *account = account_get(desk, tenant);
	uint64_t wait_ns;

	if (!account)
		return -ENOMEM;
	wait_ns = rate_wait(&account->requests, desk_now(), REQUESTS_PER_SECOND, 1);
	if (!wait_ns) {
		rate_spend(&account->requests, 1);
		return 0;
	}
	snprintf(detail, size, "too many requests; ask again in %llu ms",
		(unsigned long long)(wait_ns / NS_PER_MS + 1));
	return VMSIG_ERR_QUOTA;
}

int account_check(struct desk *desk, const struct config_tenant *tenant, char *detail, size_t size)
{
	struct account *account = account_get(desk, tenant);
	uint64_t wait_ns;
	int r;

	if (!account)
		return -ENOMEM;
	r = check_store(desk, account, detail, size);
	if (r)
		return r;
	wait_ns = rate_wait(&account->audit, audit_now(), audit_rate(account), 0);
	if (!wait_ns)
		return 0;
	snprintf(detail, size,
		"what you do makes more audit records than quota.audit (%llu bytes a second); "
		"ask again in %llu ms",
		(unsigned long long)account->rate,
		(unsigned long long)(wait_ns * SAVED_S / NS_PER_MS + 1));
	return VMSIG_ERR_QUOTA;
}

unsigned account_count_refusals(struct desk *desk, const char *tenant, int change)
{
	struct account *account = account_find(desk, tenant);

	/* Of one that is not known they are not told apart. */
	if (!account)
		return UINT_MAX;
	if (change > 0 || account->refusals)
		account->refusals += (unsigned)change;
	return account->refusals;
}

void account_charge(struct desk *desk, const char *tenant, uint64_t bytes)
{
	/* One that has asked for nothing yet (a lease that was restored) has no account. */
	struct account *account = tenant ? account_find(desk, tenant) : NULL;

	if (!account)
		return;
	/* Brings it up to now: what was saved up counts first. */
	(void)rate_wait(&account->audit, audit_now(), audit_rate(account), 0);
	rate_spend(&account->audit, (double)bytes);
	account->behind = store_pressure(desk->env.store) == STORE_PRESSURE_NONE
				  ? 0
				  : account->behind + bytes;
}
