/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators and administrators ask for about leases, and what the policy says to it. The
 * engine decides; what follows from that is collected in the turn.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker/write/bill.h"
#include "broker/write/budget.h"
#include "broker/write/ending.h"
#include "broker/write/lane.h"
#include "broker/write/lessor.h"
#include "broker/write/operator.h"
#include "broker/write/payer.h"
#include "broker/write/record.h"
#include "broker/write/refusal.h"
#include "broker/write/release.h"
#include "broker/write/site.h"

/* ---- policy ---- */

void desk_reload(struct desk *desk, uint64_t now_ns, const struct config *config)
{
	struct lease_view lease;
	uint64_t cursor = 0;

	desk_enter(desk, now_ns);
	desk->env.config = config;
	desk->policy++;
	lease_set_limits(desk->engine, &config->leases);
	payers_set_limit(desk, config->bulk_old);
	while (lease_next(desk->engine, &cursor, &lease)) {
		const struct selector_subject *subject =
			desk_endpoint_subject(desk, lease.endpoint);

		/* A restored one of a guest that is yet to be found is judged when that is, and
		 * one whose guest is away where that goes on. One that is over already is no
		 * failure. */
		if (subject && !operator_allows(desk, &lease, subject))
			(void)!lease_revoke(
				desk->engine, desk->now_ns, lease.id, VMSIG_ERR_LEASE_REVOKED);
	}
	sites_doubt(desk);
}

/* ---- requests ---- */

__attribute__((format(printf, 3, 4))) static int refuse(
	struct desk_operator *op, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(op->detail, sizeof(op->detail), format, args);
	va_end(args);
	return error;
}

static void enter(struct desk *desk, uint64_t now_ns, struct desk_operator *op)
{
	desk_enter(desk, now_ns);
	op->detail[0] = '\0';
}

/* One request more in this second. */
static int pay_request(struct desk *desk, struct desk_operator *op)
{
	return bill_request(desk, op->tenant, op->detail, sizeof(op->detail));
}

/* And records of what it brings about. */
static int pay_records(struct desk *desk, struct desk_operator *op)
{
	int r = pay_request(desk, op);

	return r ? r : bill_check(desk, op->tenant, op->detail, sizeof(op->detail));
}

/* "0x100000+0x4000, ..." as far as it fits. */
static void ranges_text(const struct grant_rule *rule, char *text, size_t size)
{
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < rule->nranges && at + 48 < size; i++)
		at += (size_t)snprintf(text + at, size - at, "%s0x%llx+0x%llx", i ? ", " : "",
			(unsigned long long)rule->ranges[i].gpa,
			(unsigned long long)rule->ranges[i].len);
}

static int check_ranges(struct desk_operator *op, const struct grant_rule *rule,
	const struct lease_range *ranges, size_t nranges)
{
	char allowed[160];

	ranges_text(rule, allowed, sizeof(allowed));
	if (rule->nranges && !nranges)
		return refuse(op, VMSIG_ERR_FORBIDDEN,
			"the policy does not let you lease the whole endpoint; name ranges inside "
			"%s",
			allowed);
	for (size_t i = 0; i < nranges; i++) {
		if (ranges[i].last < ranges[i].start)
			return refuse(
				op, VMSIG_ERR_BAD_REQUEST, "range %zu ends before it starts", i);
		if (!operator_covers(rule, &ranges[i]))
			return refuse(op, VMSIG_ERR_FORBIDDEN,
				"the policy does not let you lease 0x%llx to 0x%llx; it does %s",
				(unsigned long long)ranges[i].start,
				(unsigned long long)ranges[i].last, allowed);
	}
	return 0;
}

static const struct account_kind everybody = {.owner = "broker",
	.is_shared = true,
	.slots = {[LEASE_SLOT_ALL] = {"leases and requests that wait", "limits.leases",
			  "wait until some end, or raise limits.leases"},
		[LEASE_SLOT_QUEUE] = {"requests that wait for the endpoint", "limits.waiters",
			"wait until some are granted, or raise limits.waiters"}}};
static const struct account_kind one_tenant = {.owner = "tenant",
	.slots = {[LEASE_SLOT_LEASES] = {"leases", "'leases' of the write rule",
			  "release one, or raise 'leases'"},
		[LEASE_SLOT_WAITS] = {"requests that wait", "'waits' of the write rule",
			"withdraw one, or raise 'waits'"}}};

/* The engine counts leases itself; lease/lease.h says why. */
static int refuse_short(struct desk *desk, struct desk_operator *op)
{
	const struct lease_shortage shortage = lease_shortage(desk->engine);
	const bool own = shortage.slot == LEASE_SLOT_LEASES || shortage.slot == LEASE_SLOT_WAITS;
	const struct account_kind *kind = own ? &one_tenant : &everybody;
	const struct account_refusal refusal = {.actor = operator_actor(op),
		.kind = kind,
		.owner = own ? op->tenant->tenant.name : "",
		.slot = &kind->slots[shortage.slot],
		.amount = 1,
		.used = shortage.used,
		.limit = shortage.limit};

	account_refusal_text(&refusal, op->detail, sizeof(op->detail));
	return VMSIG_ERR_QUOTA;
}

static int acquire_error(
	struct desk *desk, struct desk_operator *op, int r, const struct grant_rule *rule)
{
	switch (r) {
	case VMSIG_ERR_FORBIDDEN:
		return refuse(op, r, "the policy allows a priority up to %u", rule->priority_max);
	case VMSIG_ERR_QUOTA:
		return refuse_short(desk, op);
	case VMSIG_ERR_BAD_REQUEST:
		return refuse(op, r,
			"the ranges overlap each other, or are more than limits.lease_ranges (%u)",
			desk->env.config->leases.ranges);
	default:
		return r;
	}
}

static int may_grant(struct desk *desk, struct desk_operator *op, uint32_t endpoint)
{
	const struct desk_ops *ops = &desk->env.ops;
	const char *why = NULL;
	int r = ops->guests->may_grant ? ops->guests->may_grant(ops->ctx, endpoint, &why) : 0;

	return r && why ? refuse(op, r, "%s", why) : r;
}

/* The endpoint, if the operator may write there and it can be written to. */
static int find_endpoint(struct desk *desk, struct desk_operator *op, const char *name,
	uint32_t *ret_endpoint, const struct grant_rule **ret_rule)
{
	const struct desk_ops *ops = &desk->env.ops;
	bool writable = false;
	int r = ops->guests->find(ops->ctx, name, ret_endpoint, &writable);
	const struct selector_subject *subject =
		r ? NULL : desk_endpoint_subject(desk, *ret_endpoint);

	/* What the tenant may not see does not exist. */
	if (!subject || !tenant_sees(&op->tenant->tenant, subject))
		return refuse(op, VMSIG_ERR_NO_SUCH_ENDPOINT, "%s",
			vmsig_error_text(VMSIG_ERR_NO_SUCH_ENDPOINT));
	*ret_rule = grant_write_rule(op->tenant, subject);
	if (!*ret_rule)
		return refuse(op, VMSIG_ERR_FORBIDDEN,
			"the policy has no 'write' rule of yours for this endpoint");
	if (!writable)
		return refuse(op, VMSIG_ERR_NO_WRITE_PATH,
			"the endpoint has no write path; the broker's configuration has to say "
			"'writable: yes' for it");
	return may_grant(desk, op, *ret_endpoint);
}

static void record_refusal(struct desk *desk, const struct desk_operator *op,
	const Vmsig__LeaseAcquire *request, int error)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = VMSIG__AUDIT_RECORD__KIND__REFUSED;
	record.tenant = op->tenant->tenant.name;
	record.uid = op->uid;
	record.pid = op->pid;
	record.serial = (char *)(uintptr_t)op->serial;
	record.endpoint = strlen(request->endpoint) < 64 ? request->endpoint : NULL;
	record.ranges = request->n_ranges <= LEASE_RANGES_MAX ? request->ranges : NULL;
	record.n_ranges = record.ranges ? request->n_ranges : 0;
	record.priority = request->priority;
	record.ttl_ms = request->ttl_ms;
	record.outcome = (uint32_t)(error > 0 ? error : VMSIG_ERR_NO_MEMORY);
	record.detail = (char *)(uintptr_t)op->detail;
	refusal_record(desk, &record);
}

#define DEFAULT_TTL_NS (5000ull * NS_PER_MS)

static int acquire(struct desk *desk, struct desk_operator *op, const Vmsig__LeaseAcquire *request,
	uint64_t *ret_lease)
{
	struct lease_range ranges[LEASE_RANGES_MAX];
	const struct grant_rule *rule = NULL;
	uint32_t endpoint;
	uint32_t wait_ms;
	int r = pay_records(desk, op);

	if (!r)
		r = find_endpoint(desk, op, request->endpoint, &endpoint, &rule);
	if (r || !rule)
		return r;
	if (budget_charge(desk, op->tenant, rule, 0, &wait_ms))
		return refuse(
			op, VMSIG_ERR_QUOTA, "too many requests; ask again in %u ms", wait_ms);
	if (request->n_ranges > LEASE_RANGES_MAX)
		return refuse(op, VMSIG_ERR_BAD_REQUEST, "more than %d ranges; ask for fewer",
			LEASE_RANGES_MAX);
	for (size_t i = 0; i < request->n_ranges; i++)
		ranges[i] = (struct lease_range){
			.start = request->ranges[i]->start, .last = request->ranges[i]->last};
	r = check_ranges(op, rule, ranges, request->n_ranges);
	if (r)
		return r;
	r = lease_acquire(desk->engine, desk->now_ns,
		&(struct lease_request){
			.endpoint = endpoint,
			.tenant = op->tenant->tenant.name,
			.uid = op->uid,
			.session = op->session,
			.ranges = ranges,
			.nranges = request->n_ranges,
			.ttl_ns = request->ttl_ms ? (uint64_t)request->ttl_ms * NS_PER_MS
						  : DEFAULT_TTL_NS,
			.wait_ns = request->wait_ms ? (uint64_t)request->wait_ms * NS_PER_MS
						    : rule->wait_max_ns,
			.priority = request->priority,
			/* It does not overtake a release of the same holder that waits for its
			 * turn, and may be what that gives back. */
			.no_wait = request->no_wait && !op->releases,
		},
		&(struct lease_terms){
			.ttl_min_ns = rule->ttl_min_ns,
			.ttl_max_ns = rule->ttl_max_ns,
			.hold_max_ns = rule->hold_max_ns,
			.wait_max_ns = rule->wait_max_ns,
			.priority_max = rule->priority_max,
			.leases = rule->leases,
			.waits = rule->waits,
		},
		ret_lease);
	return acquire_error(desk, op, r, rule);
}

int desk_acquire(struct desk *desk, uint64_t now_ns, struct desk_operator *op,
	const Vmsig__LeaseAcquire *request, uint64_t *ret_lease, bool *ret_waits)
{
	struct lease_view lease;
	int r;

	enter(desk, now_ns, op);
	r = acquire(desk, op, request, ret_lease);
	if (r) {
		record_refusal(desk, op, request, r);
		return r;
	}
	*ret_waits = lease_find(desk->engine, *ret_lease, &lease) && lease.state == LEASE_WAITING;
	return 0;
}

static bool is_away(const struct desk *desk, uint64_t lease, struct lease_view *ret_view)
{
	const struct site *site = lease_find(desk->engine, lease, ret_view)
					  ? site_find(desk, ret_view->endpoint)
					  : NULL;

	return site && site->away;
}

/* What another host has been told of a lease stays true; and who takes a guest over waits for no
 * longer than what was promised while this host had the right. It comes back, mostly, before a
 * lease is over: so that is no failure, and its holder hears how much is left. */
static bool is_frozen(const struct desk *desk, const struct desk_operator *op, uint64_t lease,
	uint64_t token, uint64_t *ret_deadline_ns)
{
	const struct desk_ops *ops = &desk->env.ops;
	struct lease_view view;

	if (!is_away(desk, lease, &view) &&
		(!ops->guests->may_prolong || !lease_find(desk->engine, lease, &view) ||
			ops->guests->may_prolong(ops->ctx, view.endpoint)))
		return false;
	if (strcmp(view.tenant, op->tenant->tenant.name) != 0 || view.token != token ||
		view.state != LEASE_ACTIVE || view.deadline_ns <= desk->now_ns)
		return false;
	*ret_deadline_ns = view.deadline_ns;
	return true;
}

static const char away[] =
	"the guest is on its way to another host, where it is decided whether the lease goes on";

static int renew(struct desk *desk, struct desk_operator *op, uint64_t lease, uint64_t token,
	uint32_t *ret_remaining_ms)
{
	uint64_t deadline_ns;
	int r = pay_request(desk, op);

	if (!r && !is_frozen(desk, op, lease, token, &deadline_ns))
		r = lease_renew(desk->engine, desk->now_ns, op->tenant->tenant.name, lease, token,
			&deadline_ns);
	if (!r)
		*ret_remaining_ms = (uint32_t)((deadline_ns - desk->now_ns) / NS_PER_MS);
	return r == VMSIG_ERR_BUSY && !op->detail[0] ? refuse(op, r, "%s", away) : r;
}

int desk_renew(struct desk *desk, uint64_t now_ns, struct desk_operator *op, uint64_t lease,
	uint64_t token, uint32_t *ret_remaining_ms)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	int r;

	enter(desk, now_ns, op);
	r = renew(desk, op, lease, token, ret_remaining_ms);
	if (!r)
		return 0;
	record.kind = VMSIG__AUDIT_RECORD__KIND__RENEW_FAILED;
	record.tenant = op->tenant->tenant.name;
	record.uid = op->uid;
	record.pid = op->pid;
	record.serial = op->serial;
	record.lease = lease;
	record.token = token;
	record.outcome = (uint32_t)(r > 0 ? r : VMSIG_ERR_NO_MEMORY);
	record.detail = op->detail;
	refusal_record(desk, &record);
	return r;
}

/* Whether this is the lease's holder, and what it is told otherwise. */
static int release_check(
	struct desk *desk, const char *tenant, const struct lease_view *lease, uint64_t token)
{
	int r = lease_admit(desk->engine, desk->now_ns, tenant, lease->id, token, lease->epoch,
		&lease->ranges[0]);

	/* That is about writing. */
	return r == VMSIG_ERR_STALE_EPOCH ? 0 : r;
}

int desk_release(struct desk *desk, uint64_t now_ns, struct desk_operator *op, uint64_t request_id,
	uint64_t lease, uint64_t token, bool *ret_later)
{
	struct lease_view view;
	int r;

	enter(desk, now_ns, op);
	*ret_later = false;
	r = pay_request(desk, op);
	if (!r && is_away(desk, lease, &view))
		r = refuse(op, VMSIG_ERR_BUSY, "%s", release_away);
	if (r)
		return r;
	r = lease_find(desk->engine, lease, &view) ? 0 : VMSIG_ERR_NO_LEASE;
	/* Who withdraws a request does not know that it is granted by now. */
	if (!r && !token && lessor_is_untold(desk, lease))
		token = view.token;
	if (r || !lane_find(desk, lease) || view.state != LEASE_ACTIVE)
		return release_now(desk, op, request_id, lease, token, ret_later);
	r = release_check(desk, op->tenant->tenant.name, &view, token);
	if (r)
		return r;
	/* It takes its turn behind the commands that were sent before it. */
	r = release_new(desk, op, request_id, lease, token);
	*ret_later = !r;
	return r;
}

static int resume(struct desk *desk, struct desk_operator *op, uint64_t lease, uint64_t token)
{
	int r = pay_records(desk, op);

	if (!r)
		r = lease_resume(desk->engine, desk->now_ns, op->tenant->tenant.name, op->uid,
			lease, token, op->session, NULL);
	return r == VMSIG_ERR_BUSY && !op->detail[0] ? refuse(op, r, "%s", away) : r;
}

int desk_resume(struct desk *desk, uint64_t now_ns, struct desk_operator *op, uint64_t lease,
	uint64_t token)
{
	struct lease_view view;
	Vmsig__AuditRecord record;
	int r;

	enter(desk, now_ns, op);
	r = resume(desk, op, lease, token);
	if (r)
		return r;
	if (lease_find(desk->engine, lease, &view)) {
		record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__RESUMED, &view);
		record_append_lease(desk, &record, &view);
	}
	return 0;
}

/* What its policy does not name does not exist for an administrator either. */
static bool may_see(struct desk *desk, const struct desk_admin *admin, uint64_t lease)
{
	struct lease_view view;
	const struct selector_subject *subject;
	uint32_t endpoint;

	if (lease_find(desk->engine, lease, &view))
		endpoint = view.endpoint;
	else if (!ending_is_open(desk, lease, &endpoint))
		return false;
	subject = desk_endpoint_subject(desk, endpoint);
	return subject && tenant_sees(admin->tenant, subject);
}

static void sign(Vmsig__AuditRecord *record, const struct desk_admin *admin)
{
	record->tenant = admin->tenant->name;
	record->serial = (char *)(uintptr_t)admin->serial;
	record->uid = admin->uid;
	record->pid = admin->pid;
}

static int revoke(struct desk *desk, const struct desk_admin *admin, uint64_t lease)
{
	Vmsig__AuditRecord record;
	struct lease_view view;

	if (!lease_find(desk->engine, lease, &view))
		return VMSIG_ERR_NO_LEASE;
	record_lease(&record, desk, VMSIG__AUDIT_RECORD__KIND__REVOKED, &view);
	sign(&record, admin);
	record_append(desk, &record);
	return lease_revoke(desk->engine, desk->now_ns, lease, VMSIG_ERR_LEASE_REVOKED);
}

int desk_revoke(struct desk *desk, uint64_t now_ns, const struct desk_admin *admin, uint64_t lease,
	struct desk_wait *wait, bool *ret_later)
{
	struct lease_view view;
	int r;

	desk_enter(desk, now_ns);
	*ret_later = false;
	if (!may_see(desk, admin, lease))
		return VMSIG_ERR_NO_LEASE;
	/* Another host may be making it its own at this moment: it is revoked where it is then. */
	if (is_away(desk, lease, &view))
		return VMSIG_ERR_BUSY;
	r = ending_reserve(desk, lease, wait);
	if (r)
		return r;
	r = revoke(desk, admin, lease);
	/* That there is none any more is not said before it is recorded, either. */
	*ret_later = ending_is_open(desk, lease, NULL);
	if (*ret_later)
		ending_await(wait, r);
	else
		ending_cancel(wait);
	return *ret_later ? 0 : r;
}

bool desk_lease_next(struct desk *desk, uint64_t *cursor, struct lease_view *ret_view)
{
	return lease_next(desk->engine, cursor, ret_view);
}

bool desk_lease_find(struct desk *desk, uint64_t lease, struct lease_view *ret_view)
{
	return lease_find(desk->engine, lease, ret_view);
}

void desk_note_deed(struct desk *desk, uint64_t now_ns, const struct desk_admin *admin,
	const struct desk_deed *deed)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	desk_enter(desk, now_ns);
	record.kind = deed->kind;
	sign(&record, admin);
	record.endpoint = (char *)(uintptr_t)deed->endpoint;
	record.epoch = deed->epoch;
	record.outcome = (uint32_t)deed->outcome;
	record.detail = (char *)(uintptr_t)deed->detail;
	record_append(desk, &record);
}
