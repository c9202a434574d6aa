/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ram/claims.h"

#include <stdio.h>

#include "broker/ram/ram.h"

const char *claim_take(
	struct claim *claim, struct claims *claims, const struct ram *ram, const char *name)
{
	const uint64_t key[2] = {ram_device(ram), ram_inode(ram)};
	struct claim *other = NULL;

	claim_drop(claim);
	/* The hash reads all 16 bytes, which the analyzer loses sight of. */
	/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
	HASH_FIND(hh, claims->taken, key, sizeof(key), other);
	if (other && (!other->borrowed || ram_is_borrowed(ram)))
		return other->name;
	if (other)
		claim_drop(other);
	claim->borrowed = ram_is_borrowed(ram);
	claim->key[0] = key[0];
	claim->key[1] = key[1];
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
