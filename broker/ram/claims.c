/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/claims.h"

#include <stdio.h>

#include "broker/ram/ram.h"

static struct claim *find(const struct claims *claims, const struct ram *ram)
{
	const uint64_t key[2] = {ram_device(ram), ram_inode(ram)};
	struct claim *found = NULL;

	/* The hash reads all 16 bytes, which the analyzer loses sight of. */
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
	HASH_FIND(hh, claims->taken, key, sizeof(key), found);
	return found;
}

const char *claim_obstacle(
	const struct claim *claim, const struct claims *claims, const struct ram *ram)
{
	const struct claim *other = find(claims, ram);

	return other && other != claim && (!other->borrowed || ram_is_borrowed(ram)) ? other->name
										     : NULL;
}

const char *claim_take(
	struct claim *claim, struct claims *claims, const struct ram *ram, const char *name)
{
	const char *obstacle = claim_obstacle(claim, claims, ram);
	struct claim *other;

	claim_drop(claim);
	if (obstacle)
		return obstacle;
	other = find(claims, ram);
	if (other)
		claim_drop(other);
	claim->borrowed = ram_is_borrowed(ram);
	claim->key[0] = ram_device(ram);
	claim->key[1] = ram_inode(ram);
	snprintf(claim->name, sizeof(claim->name), "%s", name);
	HASH_ADD(hh, claims->taken, key, sizeof(claim->key), claim);
	/* Without memory nothing is served: this endpoint's own name says so. */
	if (!claim->hh.tbl)
		return name;
	claim->claims = claims;
	return NULL;
}

void claim_drop(struct claim *claim)
{
	if (!claim->claims)
		return;
	HASH_DEL(claim->claims->taken, claim);
	claim->claims = NULL;
}

bool claim_holds(const struct claim *claim)
{
	return claim->claims;
}
