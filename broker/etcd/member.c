/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/etcd/member.h"

/* xorshift: brokers shall not come all at once, and nothing depends on who guesses it. */
static uint64_t draw(struct etcd_members *members)
{
	members->chance ^= members->chance << 13;
	members->chance ^= members->chance >> 7;
	members->chance ^= members->chance << 17;
	return members->chance;
}

struct etcd_member *etcd_members_pick(struct etcd_members *members, uint64_t now_ms)
{
	for (size_t i = 0; i < members->n; i++) {
		size_t at = (members->current + i) % members->n;

		if (members->list[at].rests_until_ms > now_ms)
			continue;
		members->current = at;
		return &members->list[at];
	}
	return NULL;
}

uint64_t etcd_members_wake(const struct etcd_members *members)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < members->n; i++) {
		if (members->list[i].rests_until_ms < first)
			first = members->list[i].rests_until_ms;
	}
	return first;
}

void etcd_member_failed(struct etcd_members *members, struct etcd_member *member, uint64_t now_ms)
{
	uint64_t rest = ETCD_BACKOFF_MS;

	for (uint32_t i = 0; i < member->failures && rest < ETCD_BACKOFF_MAX_MS; i++)
		rest *= 2;
	if (rest > ETCD_BACKOFF_MAX_MS)
		rest = ETCD_BACKOFF_MAX_MS;
	/* What several requests found out at once is one failure. */
	if (member->rests_until_ms > now_ms)
		return;
	member->failures++;
	member->known = false;
	member->rests_until_ms = now_ms + rest / 2 + draw(members) % (rest / 2 + 1);
}

void etcd_member_worked(struct etcd_member *member)
{
	member->failures = 0;
	member->rests_until_ms = 0;
}
