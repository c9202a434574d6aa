/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ETCD_MEMBER_H
#define BROKER_ETCD_MEMBER_H

/*
 * Which of etcd's members is asked: the one that answered last, as long as it does. One that failed
 * is left alone for a while, which doubles and is never the same for two brokers, and the next one
 * has its turn. Pure: time comes in, milliseconds of a monotonic clock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETCD_MEMBERS_MAX 16u
#define ETCD_VERSION_SIZE 32u

#define ETCD_BACKOFF_MS 100u      /* the first time, half of it or more */
#define ETCD_BACKOFF_MAX_MS 5000u /* less than a lease may last */

struct etcd_member {
	const char *url; /* borrowed */
	bool known;      /* its version was looked at, and is fit */
	char version[ETCD_VERSION_SIZE];
	uint32_t failures; /* in a row */
	uint64_t rests_until_ms;
};

struct etcd_members {
	struct etcd_member list[ETCD_MEMBERS_MAX];
	size_t n, current;
	uint64_t chance; /* of the next rest; not 0 */
};

/* The one to be asked now; NULL: all rest. Moves on from one that does. */
struct etcd_member *etcd_members_pick(struct etcd_members *members, uint64_t now_ms);
/* When the first of them may be asked again. */
uint64_t etcd_members_wake(const struct etcd_members *members);
void etcd_member_failed(struct etcd_members *members, struct etcd_member *member, uint64_t now_ms);
void etcd_member_worked(struct etcd_member *member);

#endif
