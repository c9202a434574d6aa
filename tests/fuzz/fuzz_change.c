/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bodies of the journal's STATE entries from hostile bytes, made into tables: after a length of
 * one byte comes that much of a body, and so on; the first byte of all says which of them are
 * undone.
 *
 * What is decoded must encode to the same bytes; what is undone must leave the tables as they were,
 * as far as they count themselves. Ids of endpoints are used up, and what an opening store does is
 * never undone.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/store/change.h"
#include "broker/store/tables.h"

#define CHANGES_MAX 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sums {
	uint64_t endpoints, named, leases, next_lease, total, epoch_floor;
};

static size_t count_leases(const struct store_tables *tables)
{
	size_t n = 0;

	for (const struct table_lease *lease = tables_lease_first(tables); lease;
		lease = tables_lease_after(tables, lease))
		n++;
	return n;
}

static struct sums sums_of(const struct store_tables *tables)
{
	struct sums sums;

	memset(&sums, 0, sizeof(sums));
	sums.endpoints = HASH_COUNT(tables->endpoints);
	sums.named = HASH_CNT(hh_name, tables->endpoints_by_name);
	sums.leases = count_leases(tables);
	sums.next_lease = tables->next_lease;
	sums.total = tables->total;
	sums.epoch_floor = tables->epoch_floor;
	return sums;
}

static void check_encoding(const struct change *change, const uint8_t *body, size_t len)
{
	uint8_t again[UINT8_MAX];

	if (change_size(change) != len)
		abort();
	change_encode(change, again);
	if (memcmp(again, body, len) != 0)
		abort();
}

static void try_and_undo(struct store_tables *tables, const struct change *change)
{
	const struct sums before = sums_of(tables);
	struct undo undo;
	struct sums after;

	if (tables_apply(tables, change, &undo) == 0)
		tables_undo(tables, &undo);
	after = sums_of(tables);
	if (memcmp(&before, &after, sizeof(before)) != 0)
		abort();
}

static void one(struct store_tables *tables, const uint8_t *body, size_t len, int undone)
{
	struct lease_range ranges[LEASE_RANGES_MAX];
	struct change change;

	if (change_decode(&change, ranges, body, len))
		return;
	check_encoding(&change, body, len);
	if (undone && change.kind < CHANGE_BOOT)
		try_and_undo(tables, &change);
	(void)!tables_apply(tables, &change, NULL);
	if (HASH_COUNT(tables->endpoints) != HASH_CNT(hh_name, tables->endpoints_by_name))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_tables tables;
	size_t at = 1;

	if (size < 2)
		return 0;
	tables_init(&tables);
	for (unsigned n = 0; at < size && n < CHANGES_MAX; n++) {
		size_t len = data[at++];

		if (len > size - at)
			len = size - at;
		one(&tables, data + at, len, data[0] >> n % 8 & 1);
		at += len;
	}
	tables_deinit(&tables);
	return 0;
}
