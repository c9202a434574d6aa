/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/bill.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mishap.h"

/* What was not used is saved up for so long: a burst of work is no flood. */
#define SAVED_S 64u
/* Acquire, renew, release and resume, of one tenant. 64 leases of the shortest TTL, renewed at
 * a third, are 200. */
#define REQUESTS_PER_SECOND 10000.0
/* Of the time of one batch: what takes longer waits for a disk or for a CPU, which is nobody's
 * doing, and must not put anybody to sleep (share.h). */
#define SPLIT_MAX_NS NS_PER_MS
#define BILLS_MAX 16384 /* tenants; forgotten beyond that: all start full again */

static void bill_free(struct bill *bill)
{
	share_unref(bill->share);
	free(bill);
}

void bills_free(struct desk *desk)
{
	struct bill *bill, *next;

	desk->billed = NULL;
	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->bills, bill, next) {
		HASH_DEL(desk->bills, bill);
		bill_free(bill);
	}
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	desk->bills = NULL;
	desk->behind = 0;
}

/* The bucket's second is SAVED_S of ours, as it saves up one. */
static uint64_t audit_now(const struct desk *desk)
{
	return desk->now_ns / SAVED_S;
}

static double audit_rate(const struct bill *bill)
{
	return bill->rate ? (double)bill->rate * SAVED_S : 1e18;
}

static struct bill *bill_find(struct desk *desk, const char *tenant)
{
	struct bill *bill = NULL;

	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_FIND_STR(desk->bills, tenant, bill);
	return bill;
}

static struct bill *bill_new(struct desk *desk, const struct grant_tenant *tenant)
{
	struct bill *bill = MISHAP("bill-memory") ? NULL : calloc(1, sizeof(*bill));

	if (!bill)
		return NULL;
	if (share_get(desk->env.shares, SHARE_TENANT, tenant->tenant.name, &bill->share)) {
		free(bill);
		return NULL;
	}
	snprintf(bill->tenant, sizeof(bill->tenant), "%s", tenant->tenant.name);
	bill->rate = tenant->audit_rate;
	rate_init(&bill->audit, audit_now(desk), audit_rate(bill));
	rate_init(&bill->requests, desk->now_ns, REQUESTS_PER_SECOND);
	return bill;
}

static struct bill *bill_get(struct desk *desk, const struct grant_tenant *tenant)
{
	struct bill *bill = bill_find(desk, tenant->tenant.name);

	if (bill) {
		bill->rate = tenant->audit_rate;
		return bill;
	}
	if (HASH_COUNT(desk->bills) >= BILLS_MAX)
		bills_free(desk);
	bill = bill_new(desk, tenant);
	if (!bill)
		return NULL;
	HASH_ADD_STR(desk->bills, tenant, bill);
	if (!bill->hh.tbl) {
		bill_free(bill);
		return NULL;
	}
	return bill;
}

/* While the log is behind: more than the others have stored since then, on average. */
static bool is_heavy(const struct desk *desk, const struct bill *bill)
{
	return (double)bill->behind * HASH_COUNT(desk->bills) > (double)desk->behind;
}

static int check_disk(struct desk *desk, const struct bill *bill, char *detail, size_t size)
{
	const struct desk_ops *ops = &desk->env.ops;
	enum desk_pressure pressure = ops->records->pressure(ops->ctx);
	const char *refusal = ops->records->refusal(ops->ctx, desk->now_ns);

	if (refusal) {
		snprintf(detail, size, "%s", refusal);
		return VMSIG_ERR_IO;
	}
	if (pressure == DESK_PRESSURE_FULL ||
		(pressure == DESK_PRESSURE_HIGH && is_heavy(desk, bill))) {
		snprintf(detail, size,
			"the broker's disk does not keep up with what has to be recorded; send it "
			"again in a moment");
		return VMSIG_ERR_BUSY;
	}
	return 0;
}

int bill_request(struct desk *desk, const struct grant_tenant *tenant, char *detail, size_t size)
{
	struct bill *bill = bill_get(desk, tenant);
	uint64_t wait_ns;

	if (!bill)
		return -ENOMEM;
	wait_ns = rate_wait(&bill->requests, desk->now_ns, REQUESTS_PER_SECOND, 1);
	if (!wait_ns) {
		rate_spend(&bill->requests, 1);
		return 0;
	}
	snprintf(detail, size, "too many requests; ask again in %llu ms",
		(unsigned long long)(wait_ns / NS_PER_MS + 1));
	return VMSIG_ERR_QUOTA;
}

int bill_check(struct desk *desk, const struct grant_tenant *tenant, char *detail, size_t size)
{
	struct bill *bill = bill_get(desk, tenant);
	uint64_t wait_ns;
	int r;

	if (!bill)
		return -ENOMEM;
	r = check_disk(desk, bill, detail, size);
	if (r)
		return r;
	wait_ns = rate_wait(&bill->audit, audit_now(desk), audit_rate(bill), 0);
	if (!wait_ns)
		return 0;
	snprintf(detail, size,
		"what you do makes more audit records than quota.audit (%llu bytes a second); "
		"ask again in %llu ms",
		(unsigned long long)bill->rate,
		(unsigned long long)(wait_ns * SAVED_S / NS_PER_MS + 1));
	return VMSIG_ERR_QUOTA;
}

unsigned bill_count_refusals(struct desk *desk, const char *tenant, int change)
{
	struct bill *bill = bill_find(desk, tenant);

	/* Of one that is not known they are not told apart. */
	if (!bill)
		return UINT_MAX;
	if (change > 0 || bill->refusals)
		bill->refusals += (unsigned)change;
	return bill->refusals;
}

void bill_charge(struct desk *desk, const char *tenant, uint64_t bytes)
{
	const struct desk_ops *ops = &desk->env.ops;
	/* One that has asked for nothing yet (a lease that was restored) has none. */
	struct bill *bill = tenant ? bill_find(desk, tenant) : NULL;

	if (!bill || !bytes)
		return;
	/* Brings it up to now: what was saved up counts first. */
	(void)rate_wait(&bill->audit, audit_now(desk), audit_rate(bill), 0);
	rate_spend(&bill->audit, (double)bytes);
	desk->behind -= bill->behind;
	bill->behind =
		ops->records->pressure(ops->ctx) == DESK_PRESSURE_NONE ? 0 : bill->behind + bytes;
	desk->behind += bill->behind;
	if (!bill->batch)
		LL_PREPEND(desk->billed, bill);
	bill->batch += bytes;
}

void bills_split(struct desk *desk, uint64_t ns)
{
	const double split = (double)(ns < SPLIT_MAX_NS ? ns : SPLIT_MAX_NS);
	struct bill *bill, *next;
	double sum = 0;

	LL_FOREACH (desk->billed, bill)
		sum += (double)bill->batch;
	LL_FOREACH_SAFE (desk->billed, bill, next) {
		share_charge(bill->share, (uint64_t)(split * ((double)bill->batch / sum)));
		bill->batch = 0;
	}
	desk->billed = NULL;
}
