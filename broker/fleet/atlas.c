/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet/atlas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fleet/deed.h"

#define PAGE 64u      /* keys: some 40 KiB as a rule */
#define PAGE_SMALL 2u /* after one that was too long: what a migration takes along is large */

struct atlas {
	char prefix[FLEET_NAME_MAX + 16];
	char after[TXN_KEY_MAX + 1]; /* "": nothing was read yet */
	uint32_t limit;
	size_t nkeys;
	bool more;
	struct atlas_guest *guests;
	size_t n, size;
	bool held; /* somebody has the last guest, as far as was read */
};

struct atlas *atlas_new(const char *fleet)
{
	struct atlas *atlas = calloc(1, sizeof(*atlas));

	if (!atlas)
		return NULL;
	snprintf(atlas->prefix, sizeof(atlas->prefix), "/vmsig/%s/vm/", fleet);
	atlas->limit = PAGE;
	return atlas;
}

struct atlas *atlas_free(struct atlas *atlas)
{
	if (!atlas)
		return NULL;
	for (size_t i = 0; i < atlas->n; i++)
		free(atlas->guests[i].leases);
	free(atlas->guests);
	free(atlas);
	return NULL;
}

void atlas_ask(const struct atlas *atlas, struct txn_request *ret_request)
{
	*ret_request = (struct txn_request){.kind = TXN_PAGE,
		.prefix = atlas->prefix,
		.after = atlas->after[0] ? atlas->after : NULL,
		.limit = atlas->limit};
}

/* ---- values ---- */

/* What stands behind NAME in a line of its own; false: there is none, or it is too long. */
static bool find_line(const struct txn_bytes *text, const char *name, char *ret_word, size_t size)
{
	const char *at = (const char *)text->data, *end = at + text->len;
	size_t len = strlen(name);

	while (at < end) {
		const char *line = at, *stop = memchr(at, '\n', (size_t)(end - at));

		stop = stop ? stop : end;
		at = stop + 1;
		if ((size_t)(stop - line) <= len || memcmp(line, name, len) != 0 ||
			line[len] != ' ')
			continue;
		line += len + 1;
		if ((size_t)(stop - line) >= size || memchr(line, '\0', (size_t)(stop - line)))
			return false;
		memcpy(ret_word, line, (size_t)(stop - line));
		ret_word[stop - line] = '\0';
		return true;
	}
	return false;
}

/* 0: there is none. */
static uint64_t find_number(const struct txn_bytes *text, const char *name)
{
	char word[24];

	return find_line(text, name, word, sizeof(word)) ? strtoull(word, NULL, 10) : 0;
}

static bool take_mark(struct atlas *atlas, struct atlas_guest *guest, const struct txn_bytes *value)
{
	struct deed deed;

	if (!deed_read(&deed, value->data, value->len))
		return true;
	atlas->held = deed.status != DEED_RELEASED;
	snprintf(guest->host, sizeof(guest->host), "%s", deed.holder.host);
	snprintf(guest->target, sizeof(guest->target), "%s", deed.target);
	guest->offered = deed.status == DEED_OFFERED;
	guest->epoch = deed.reserved;
	guest->token = deed.token;
	return true;
}

static bool take_owner(
	struct atlas *atlas, struct atlas_guest *guest, const struct txn_bytes *value)
{
	guest->heard = true;
	if (!find_line(value, "name", guest->name, sizeof(guest->name)))
		guest->name[0] = '\0';
	return true;
}

static bool take_lease(
	struct atlas *atlas, struct atlas_guest *guest, const struct txn_bytes *value)
{
	size_t n = guest->nleases;
	struct atlas_lease *lease;

	/* A power of two is full. */
	if (!(n & (n - 1))) {
		lease = reallocarray(guest->leases, n ? 2 * n : 1, sizeof(*lease));
		if (!lease)
			return false;
		guest->leases = lease;
	}
	lease = &guest->leases[guest->nleases++];
	*lease = (struct atlas_lease){.id = find_number(value, "lease"),
		.uid = (uint32_t)find_number(value, "uid"),
		.epoch = (uint32_t)find_number(value, "epoch"),
		.ttl_ms = (uint32_t)find_number(value, "ttl_ms")};
	if (!find_line(value, "tenant", lease->tenant, sizeof(lease->tenant)))
		lease->tenant[0] = '\0';
	return true;
}

static const struct {
	const char *leaf;
	bool whole; /* or what it begins with */
	bool (*take)(struct atlas *atlas, struct atlas_guest *guest, const struct txn_bytes *value);
} leaves[] = {
	{"mark", true, take_mark}, {"owner", true, take_owner}, {"lease/", false, take_lease}};

/* ---- guests ---- */

/* One that nobody has is of no interest. */
static void close_last(struct atlas *atlas)
{
	if (!atlas->n || atlas->held)
		return;
	free(atlas->guests[--atlas->n].leases);
}

/* NULL: no memory. */
static struct atlas_guest *guest_of(struct atlas *atlas, const char *uuid)
{
	size_t size = atlas->size ? 2 * atlas->size : 16;
	struct atlas_guest *grown;

	if (atlas->n && strcmp(atlas->guests[atlas->n - 1].uuid, uuid) == 0)
		return &atlas->guests[atlas->n - 1];
	close_last(atlas);
	if (atlas->n == atlas->size) {
		grown = reallocarray(atlas->guests, size, sizeof(*grown));
		if (!grown)
			return NULL;
		atlas->guests = grown;
		atlas->size = size;
	}
	grown = &atlas->guests[atlas->n++];
	*grown = (struct atlas_guest){0};
	snprintf(grown->uuid, sizeof(grown->uuid), "%s", uuid);
	atlas->held = false;
	return grown;
}

/* False: no memory. */
static bool take_leaf(
	struct atlas *atlas, const char *uuid, const char *leaf, const struct txn_bytes *value)
{
	struct atlas_guest *guest;

	for (size_t i = 0; i < sizeof(leaves) / sizeof(*leaves); i++) {
		if (leaves[i].whole ? strcmp(leaves[i].leaf, leaf) != 0
				    : strncmp(leaves[i].leaf, leaf, strlen(leaves[i].leaf)) != 0)
			continue;
		guest = guest_of(atlas, uuid);
		return guest && leaves[i].take(atlas, guest, value);
	}
	return true;
}

/* False: no memory, or no store would answer so. */
static bool take_entry(struct atlas *atlas, const struct txn_entry *entry)
{
	size_t skip = strlen(atlas->prefix);
	char key[TXN_KEY_MAX + 1], uuid[FLEET_UUID_MAX + 1];
	const char *leaf;

	if (entry->key.len > TXN_KEY_MAX || memchr(entry->key.data, '\0', entry->key.len))
		return false;
	memcpy(key, entry->key.data, entry->key.len);
	key[entry->key.len] = '\0';
	if (strncmp(key, atlas->prefix, skip) != 0 || strcmp(key, atlas->after) <= 0)
		return false;
	memcpy(atlas->after, key, entry->key.len + 1);
	leaf = strchr(key + skip, '/');
	if (!leaf || (size_t)(leaf - key) - skip > FLEET_UUID_MAX)
		return true;
	snprintf(uuid, sizeof(uuid), "%.*s", (int)((size_t)(leaf - key) - skip), key + skip);
	return take_leaf(atlas, uuid, leaf + 1, &entry->value);
}

/* ---- answers ---- */

static int by_uuid(const void *a, const void *b)
{
	return strcmp(((const struct atlas_guest *)a)->uuid, ((const struct atlas_guest *)b)->uuid);
}

static enum atlas_progress take_page(struct atlas *atlas, const struct txn_result *page)
{
	bool last = page->n < atlas->limit;

	for (size_t i = 0; i < page->n; i++) {
		if (!take_entry(atlas, &page->entries[i]))
			return ATLAS_FAILED;
	}
	atlas->nkeys += page->n;
	atlas->limit = PAGE;
	atlas->more = !last && atlas->nkeys >= ATLAS_KEYS_MAX;
	if (!last && !atlas->more)
		return ATLAS_GOES_ON;
	close_last(atlas);
	/* Keys have their order with what follows the name in it. */
	if (atlas->n)
		qsort(atlas->guests, atlas->n, sizeof(*atlas->guests), by_uuid);
	return ATLAS_COMPLETE;
}

enum atlas_progress atlas_take(struct atlas *atlas, const struct txn_answer *answer)
{
	if (answer->outcome == TXN_OK && answer->n == 1)
		return take_page(atlas, answer->results);
	if (atlas->limit == PAGE_SMALL)
		return ATLAS_FAILED;
	atlas->limit = PAGE_SMALL;
	return ATLAS_GOES_ON;
}

/* ---- looking ---- */

const struct atlas_guest *atlas_guests(const struct atlas *atlas, size_t *ret_n)
{
	*ret_n = atlas->n;
	return atlas->guests;
}

static int is_of(const void *uuid, const void *guest)
{
	return strcmp(uuid, ((const struct atlas_guest *)guest)->uuid);
}

const struct atlas_guest *atlas_find(const struct atlas *atlas, const char *uuid)
{
	return atlas->n ? bsearch(uuid, atlas->guests, atlas->n, sizeof(*atlas->guests), is_of)
			: NULL;
}

bool atlas_more(const struct atlas *atlas)
{
	return atlas->more;
}
