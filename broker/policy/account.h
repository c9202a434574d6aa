/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_ACCOUNT_H
#define BROKER_POLICY_ACCOUNT_H

/*
 * Who pays for what is there. An *account* is one owner's: a tenant's, a uid's, a connection's,
 * the broker's. It has slots (connections, bytes that nobody has read, patterns), each with what
 * is used of it and a limit. A *charge* is embedded in what it pays for and knows its account,
 * so that giving back needs no second list of who had what: it is charged once, may grow and
 * shrink, and is refunded in the one place where its owner ends. What several owners pay for has
 * several charges.
 *
 * - Nothing changes when a charge is refused, and the refusal says who asked (the actor), whose
 *   account it was (the owner), which slot, how much was asked for, and the limit.
 * - What is there already, whatever the limit says now, is forced; account_is_over() tells.
 * - account_deinit() asserts that all was given back, charge_deinit() that this was.
 *
 * How often something may happen is rate.h; how much of the loop's time it takes is share.h.
 * Pure. A zeroed charge is one that nothing was charged to.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACCOUNT_SLOTS 6 /* of one account, at most */
#define ACCOUNT_NO_LIMIT UINT64_MAX
#define ACCOUNT_TEXT_MAX 383 /* bytes of a refusal in words */

struct account_slot {
	const char *noun;   /* what is counted, in the plural: "connections" */
	const char *bound;  /* what bounds it, as an administrator finds it: "quota.connections" */
	const char *advice; /* to who is refused: "close one, or raise quota.connections" */
};

/* What accounts of one kind have in common; static. */
struct account_kind {
	const char *owner; /* "tenant", "uid", "connection", "broker" */
	bool is_shared;    /* others pay from it as well: who is refused hears no sums of theirs */
	struct account_slot slots[ACCOUNT_SLOTS];
};

struct account {
	const struct account_kind *kind;
	const char *name; /* the owner's; borrowed. "": the only one of its kind */
	struct {
		uint64_t used, limit;
	} slots[ACCOUNT_SLOTS];
};

/* Who asks. What is not known is NULL or 0. */
struct account_actor {
	const char *tenant; /* borrowed */
	uint32_t uid;
	int32_t pid;
};

struct account_refusal {
	struct account_actor actor;
	const struct account_kind *kind;
	const char *owner; /* the account's name; borrowed from it */
	const struct account_slot *slot;
	uint64_t amount, used, limit;
};

/* Every slot without a limit. */
void account_init(struct account *account, const struct account_kind *kind, const char *name);
/* Nothing is charged to it any more. */
void account_deinit(struct account *account);
/* What is charged already stays. */
void account_set_limit(struct account *account, unsigned slot, uint64_t limit);
uint64_t account_used(const struct account *account, unsigned slot);
bool account_has_room(const struct account *account, unsigned slot, uint64_t amount);
/* More is charged than the limit allows. */
bool account_is_over(const struct account *account, unsigned slot);

struct charge {
	struct account *account; /* NULL: nothing is charged */
	unsigned slot;
	uint64_t amount;
};

void charge_init(struct charge *charge);
/* Charges the account. VMSIG_ERR_QUOTA: it has no room; *ret_refusal (may be NULL) says so. */
__attribute__((warn_unused_result)) int charge_take(struct charge *charge, struct account *account,
	unsigned slot, uint64_t amount, const struct account_actor *actor,
	struct account_refusal *ret_refusal);
/* The same, limit or not: it is there already. */
void charge_force(struct charge *charge, struct account *account, unsigned slot, uint64_t amount);
/* It is as much now, limit or not. Without an account nothing happens. */
void charge_resize(struct charge *charge, uint64_t amount);
/* Gives all of it back. Also when nothing is charged. */
void charge_refund(struct charge *charge);
/* What `from` paid for is paid by `to`, which is empty. */
void charge_move(struct charge *to, struct charge *from);
/* It was refunded, moved, or never charged. */
void charge_deinit(struct charge *charge);

/* What charge_take() would say, for those who force and look afterwards. */
struct account_refusal account_refuse(const struct account *account, unsigned slot, uint64_t amount,
	const struct account_actor *actor);
/* In words, for the one that was refused and for the log: without what others use of a shared
 * account. */
void account_refusal_text(const struct account_refusal *refusal, char *text, size_t size);

/* The same as fields of a log record, behind those that say who the actor is (broker/log.h). */
#define ACCOUNT_REFUSAL_FIELDS(refusal)                                                            \
	LOG_STR("owner", (refusal)->kind->owner), LOG_STR("owner_name", (refusal)->owner),         \
		LOG_STR("slot", (refusal)->slot->bound), LOG_INT("amount", (refusal)->amount),     \
		LOG_INT("used", (refusal)->used), LOG_INT("limit", (refusal)->limit)

#endif
