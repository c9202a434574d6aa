/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store that the hosts of sim_fleet share: keys with revisions, leases, and transactions, as
 * etcd has them. It may drop a lease whenever it likes, and be put back to an earlier state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fleet_world.h"

#define KEYS (GUESTS * 32)
#define LEASES 64
#define SNAPSHOTS 4

struct store_key {
	char key[160];
	const uint8_t *value; /* until the seed ends */
	size_t len;
	int64_t create, mod, version, lease;
};

struct store_lease {
	int64_t id;
	uint64_t ttl_ns, until;
};

struct store_state {
	uint64_t cluster_id;
	int64_t revision;
	struct store_key keys[KEYS];
	size_t nkeys;
	struct store_lease leases[LEASES];
	size_t nleases;
};

static struct store_state now_there, snapshots[SNAPSHOTS];
static size_t nsnapshots;

/* Values that were ever there: snapshots have them, too. */
struct value {
	struct value *next;
	uint8_t data[];
};

static struct value *values;

static const uint8_t *value_keep(const struct txn_bytes *bytes)
{
	struct value *value = malloc(sizeof(*value) + bytes->len + 1);

	if (!value)
		broken("out of memory");
	value->next = values;
	values = value;
	memcpy(value->data, bytes->data, bytes->len);
	value->data[bytes->len] = 0;
	return value->data;
}

void store_reset(void)
{
	while (values) {
		struct value *next = values->next;

		free(values);
		values = next;
	}
	memset(&now_there, 0, sizeof(now_there));
	now_there.cluster_id = 1000;
	now_there.revision = 1;
	nsnapshots = 0;
}

int64_t store_revision(void)
{
	return now_there.revision;
}

static struct store_key *key_find(const struct txn_bytes *key)
{
	for (size_t i = 0; i < now_there.nkeys; i++) {
		if (strcmp(now_there.keys[i].key, (const char *)key->data) == 0)
			return &now_there.keys[i];
	}
	return NULL;
}

static struct store_lease *lease_of(int64_t id)
{
	for (size_t i = 0; i < now_there.nleases; i++) {
		if (now_there.leases[i].id == id)
			return &now_there.leases[i];
	}
	return NULL;
}

/* ---- compares ---- */

static int order(int64_t a, int64_t b)
{
	return a < b ? -1 : a > b;
}

static int order_bytes(const struct store_key *key, const struct txn_bytes *value)
{
	size_t len = key->len < value->len ? key->len : value->len;
	int r = len ? memcmp(key->value, value->data, len) : 0;

	return r ? r : order((int64_t)key->len, (int64_t)value->len);
}

static bool related(int r, enum txn_relation relation)
{
	switch (relation) {
	case TXN_EQUAL:
		return r == 0;
	case TXN_NOT_EQUAL:
		return r != 0;
	case TXN_GREATER:
		return r > 0;
	case TXN_LESS:
		return r < 0;
	}
	return false;
}

static bool holds(const struct txn_compare *compare)
{
	static const struct store_key none;
	const struct store_key *key = key_find(&compare->key);

	/* A key that is not there has no value, of which no comparison holds. */
	if (compare->what == TXN_VALUE)
		return key && related(order_bytes(key, &compare->value), compare->relation);
	if (!key)
		key = &none;
	switch (compare->what) {
	case TXN_CREATE_REVISION:
		return related(order(key->create, compare->number), compare->relation);
	case TXN_MOD_REVISION:
		return related(order(key->mod, compare->number), compare->relation);
	case TXN_VERSION:
		return related(order(key->version, compare->number), compare->relation);
	case TXN_LEASE:
	case TXN_VALUE:
		break;
	}
	return related(order(key->lease, compare->number), compare->relation);
}

/* ---- operations ---- */

static void bytes_copy(struct txn_bytes *to, const void *data, size_t len)
{
	to->data = calloc(1, len + 1);
	if (!to->data)
		broken("out of memory");
	memcpy(to->data, data, len);
	to->len = len;
}

/* The mark beside an owner key, for the judge. */
static const struct store_key *mark_beside(const struct txn_bytes *key)
{
	char name[160];
	struct txn_bytes mark = {.data = (uint8_t *)name};
	char *slash;

	strcpy(name, (const char *)key->data);
	slash = strrchr(name, '/');
	strcpy(slash + 1, "mark");
	return key_find(&mark);
}

static void judge(int host, const struct txn_op *op, const struct store_key *old)
{
	const struct store_key *mark = mark_beside(&op->key);
	struct txn_bytes before = {0}, beside = {0};

	if (old)
		bytes_copy(&before, old->value, old->len);
	if (mark)
		bytes_copy(&beside, mark->value, mark->len);
	judge_put(host, (const char *)op->key.data, old ? &before : NULL, &op->value,
		mark ? &beside : NULL);
	free(before.data);
	free(beside.data);
}

static void put(int host, const struct txn_op *op)
{
	struct store_key *key = key_find(&op->key);

	judge(host, op, key);
	if (!key) {
		if (now_there.nkeys == KEYS)
			broken("the simulator's store is full");
		key = &now_there.keys[now_there.nkeys++];
		memset(key, 0, sizeof(*key));
		strcpy(key->key, (const char *)op->key.data);
		key->create = now_there.revision;
	}
	key->value = value_keep(&op->value);
	key->len = op->value.len;
	key->mod = now_there.revision;
	key->version++;
	key->lease = op->lease;
	net_announce(key->key, key->mod, false);
}

static bool covers(const struct txn_op *op, const char *key)
{
	const char *first = (const char *)op->key.data;

	if (!op->range_end.len)
		return strcmp(first, key) == 0;
	return strcmp(key, first) >= 0 && strcmp(key, (const char *)op->range_end.data) < 0;
}

static void drop(size_t i)
{
	net_announce(now_there.keys[i].key, now_there.revision, true);
	now_there.keys[i] = now_there.keys[--now_there.nkeys];
}

static void get(const struct txn_op *op, struct txn_result *result)
{
	struct txn_entry *entry;

	for (size_t i = 0; i < now_there.nkeys; i++) {
		const struct store_key *key = &now_there.keys[i];

		if (!covers(op, key->key))
			continue;
		result->entries =
			realloc(result->entries, (result->n + 1) * sizeof(*result->entries));
		entry = &result->entries[result->n++];
		*entry = (struct txn_entry){.create_revision = key->create,
			.mod_revision = key->mod,
			.version = key->version,
			.lease = key->lease};
		bytes_copy(&entry->key, key->key, strlen(key->key));
		bytes_copy(&entry->value, key->value, key->len);
	}
}

static void operate(int host, const struct txn_op *op, struct txn_result *result)
{
	result->kind = op->kind;
	if (op->kind == TXN_GET)
		get(op, result);
	else if (op->kind == TXN_PUT)
		put(host, op);
	for (size_t i = now_there.nkeys; op->kind == TXN_DELETE && i-- > 0;) {
		if (covers(op, now_there.keys[i].key))
			drop(i), result->deleted++;
	}
}

static bool changes(const struct txn_ops *ops)
{
	for (size_t i = 0; i < ops->n; i++) {
		if (ops->ops[i].kind != TXN_GET)
			return true;
	}
	return false;
}

/* A put on a lease that is not there fails as a whole. */
static bool leases_are_there(const struct txn_ops *ops)
{
	for (size_t i = 0; i < ops->n; i++) {
		if (ops->ops[i].kind == TXN_PUT && ops->ops[i].lease &&
			!lease_of(ops->ops[i].lease))
			return false;
	}
	return true;
}

static void commit(int host, const struct txn *txn, struct txn_answer *answer)
{
	const struct txn_ops *ops;
	bool all = true;

	for (size_t i = 0; i < txn->ncompares; i++)
		all = holds(&txn->compares[i]) && all;
	ops = &txn->branches[all ? TXN_THEN : TXN_ELSE];
	if (!leases_are_there(ops)) {
		answer->outcome = TXN_UNAVAILABLE;
		return;
	}
	answer->outcome = all ? TXN_OK : TXN_GUARD_FAILED;
	if (changes(ops))
		now_there.revision++;
	answer->n = ops->n;
	answer->results = calloc(ops->n + 1, sizeof(*answer->results));
	for (size_t i = 0; i < ops->n; i++)
		operate(host, &ops->ops[i], &answer->results[i]);
}

/* ---- leases ---- */

static void lease_drop(size_t i)
{
	int64_t id = now_there.leases[i].id;
	bool any = false;

	now_there.leases[i] = now_there.leases[--now_there.nleases];
	for (size_t k = now_there.nkeys; k-- > 0;) {
		if (now_there.keys[k].lease != id)
			continue;
		now_there.revision += !any;
		any = true;
		drop(k);
	}
}

static void lease_grant(const struct txn_request *request, struct txn_answer *answer)
{
	if (lease_of(request->lease)) {
		answer->outcome = TXN_GUARD_FAILED;
		return;
	}
	if (now_there.nleases == LEASES)
		broken("the simulator's store has too many leases");
	now_there.leases[now_there.nleases++] = (struct store_lease){.id = request->lease,
		.ttl_ns = request->ttl_s * 1000 * MS,
		.until = world.now + request->ttl_s * 1000 * MS};
	answer->lease = request->lease;
	answer->ttl_s = request->ttl_s;
}

static void lease_keep(const struct txn_request *request, struct txn_answer *answer)
{
	struct store_lease *lease = lease_of(request->lease);

	if (!lease) {
		answer->outcome = TXN_GUARD_FAILED;
		return;
	}
	lease->until = world.now + lease->ttl_ns;
	answer->ttl_s = request->ttl_s;
}

void store_expire(void)
{
	for (size_t i = now_there.nleases; i-- > 0;) {
		if (now_there.leases[i].until <= world.now)
			lease_drop(i);
	}
}

uint64_t store_next_expiry(void)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < now_there.nleases; i++) {
		if (now_there.leases[i].until < next)
			next = now_there.leases[i].until;
	}
	return next;
}

void store_revoke_any(void)
{
	if (now_there.nleases)
		lease_drop(dice((uint32_t)now_there.nleases));
}

void store_drop_owner(const char *uuid)
{
	char name[160];
	struct txn_bytes key = {.data = (uint8_t *)name};
	const struct store_key *owner;

	snprintf(name, sizeof(name), "/vmsig/sim/vm/%s/owner", uuid);
	owner = key_find(&key);
	for (size_t i = now_there.nleases; owner && i-- > 0;) {
		if (now_there.leases[i].id != owner->lease)
			continue;
		lease_drop(i);
		return;
	}
}

void store_elect(void)
{
	for (size_t i = 0; i < now_there.nleases; i++)
		now_there.leases[i].until = world.now + now_there.leases[i].ttl_ns;
}

/* ---- earlier states ---- */

void store_snapshot(void)
{
	snapshots[nsnapshots++ % SNAPSHOTS] = now_there;
}

void store_restore(bool same)
{
	size_t n = nsnapshots < SNAPSHOTS ? nsnapshots : SNAPSHOTS;
	uint64_t cluster_id = now_there.cluster_id;

	if (!n)
		return;
	now_there = snapshots[dice((uint32_t)n)];
	/* A host that is away until the revision has caught up could not tell: that is why a store
	 * has to be another cluster once it was restored. */
	for (int h = 0; h < HOSTS; h++)
		same = same && world.hosts[h].fleet && !world.hosts[h].apart &&
		       world.hosts[h].memory.revision > now_there.revision + 10;
	if (same)
		world.calm_until = world.now + 2 * TTL + 10000 * MS;
	if (!same)
		cluster_id = 1000 + ++world.restores;
	now_there.cluster_id = cluster_id;
	world.untrusted = !same;
	nsnapshots = 0;
	store_elect();
}

void store_do(int host, const struct txn_request *request, struct txn_answer *ret_answer)
{
	*ret_answer = (struct txn_answer){.number = request->number, .outcome = TXN_OK};
	store_expire();
	if (request->kind == TXN_COMMIT)
		commit(host, &request->txn, ret_answer);
	else if (request->kind == TXN_LEASE_GRANT)
		lease_grant(request, ret_answer);
	else if (request->kind == TXN_LEASE_KEEPALIVE)
		lease_keep(request, ret_answer);
	ret_answer->cluster_id = now_there.cluster_id;
	ret_answer->revision = now_there.revision;
}
