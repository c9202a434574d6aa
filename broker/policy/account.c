/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/account.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "vmsig/vmsig_error.h"

void account_init(struct account *account, const struct account_kind *kind, const char *name)
{
	*account = (struct account){.kind = kind, .name = name};
	for (unsigned slot = 0; slot < ACCOUNT_SLOTS; slot++)
		account->slots[slot].limit = ACCOUNT_NO_LIMIT;
}

void account_deinit(struct account *account)
{
	for (unsigned slot = 0; slot < ACCOUNT_SLOTS; slot++)
		assert(!account->slots[slot].used);
	*account = (struct account){0};
}

void account_set_limit(struct account *account, unsigned slot, uint64_t limit)
{
	account->slots[slot].limit = limit;
}

uint64_t account_used(const struct account *account, unsigned slot)
{
	return account->slots[slot].used;
}

bool account_has_room(const struct account *account, unsigned slot, uint64_t amount)
{
	uint64_t used = account->slots[slot].used, limit = account->slots[slot].limit;

	return used <= limit && amount <= limit - used;
}

bool account_is_over(const struct account *account, unsigned slot)
{
	return account->slots[slot].used > account->slots[slot].limit;
}

/* ---- charges ---- */

void charge_init(struct charge *charge)
{
	*charge = (struct charge){0};
}

void charge_force(struct charge *charge, struct account *account, unsigned slot, uint64_t amount)
{
	assert(!charge->account && slot < ACCOUNT_SLOTS);
	*charge = (struct charge){.account = account, .slot = slot, .amount = amount};
	account->slots[slot].used += amount;
}

int charge_take(struct charge *charge, struct account *account, unsigned slot, uint64_t amount,
	const struct account_actor *actor, struct account_refusal *ret_refusal)
{
	if (account_has_room(account, slot, amount)) {
		charge_force(charge, account, slot, amount);
		return 0;
	}
	if (ret_refusal)
		*ret_refusal = account_refuse(account, slot, amount, actor);
	return VMSIG_ERR_QUOTA;
}

void charge_resize(struct charge *charge, uint64_t amount)
{
	struct account *account = charge->account;

	if (!account)
		return;
	assert(account->slots[charge->slot].used >= charge->amount);
	account->slots[charge->slot].used += amount - charge->amount;
	charge->amount = amount;
}

void charge_refund(struct charge *charge)
{
	charge_resize(charge, 0);
	charge_init(charge);
}

void charge_move(struct charge *to, struct charge *from)
{
	assert(!to->account);
	*to = *from;
	charge_init(from);
}

void charge_deinit(struct charge *charge)
{
	assert(!charge->account);
	charge_init(charge);
}

/* ---- refusals ---- */

struct account_refusal account_refuse(const struct account *account, unsigned slot, uint64_t amount,
	const struct account_actor *actor)
{
	return (struct account_refusal){.actor = *actor,
		.kind = account->kind,
		.owner = account->name,
		.slot = &account->kind->slots[slot],
		.amount = amount,
		.used = account->slots[slot].used,
		.limit = account->slots[slot].limit};
}

static void actor_text(const struct account_actor *actor, char *text, size_t size)
{
	char pid[24] = "";

	if (actor->pid)
		snprintf(pid, sizeof(pid), " (pid %" PRId32 ")", actor->pid);
	snprintf(text, size, "uid %" PRIu32 "%s%s%s", actor->uid, pid, actor->tenant ? " of " : "",
		actor->tenant ? actor->tenant : "");
}

void account_refusal_text(const struct account_refusal *refusal, char *text, size_t size)
{
	const struct account_slot *slot = refusal->slot;
	const bool named = refusal->owner && refusal->owner[0];
	char actor[128], sum[32] = "";

	actor_text(&refusal->actor, actor, sizeof(actor));
	if (!refusal->kind->is_shared)
		snprintf(sum, sizeof(sum), "%" PRIu64 " of ", refusal->used);
	snprintf(text, size,
		"%s of the %s%s%s: %s%" PRIu64 " %s are in use, and %s asks for %" PRIu64
		" more; %s",
		slot->bound, refusal->kind->owner, named ? " " : "", named ? refusal->owner : "",
		sum, refusal->limit, slot->noun, actor, refusal->amount, slot->advice);
}
