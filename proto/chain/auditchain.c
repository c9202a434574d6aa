/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/chain/auditchain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

int auditchain_init(struct auditchain *ret_chain)
{
	memset(ret_chain, 0, sizeof(*ret_chain));
	ret_chain->proven = true;
	return auditchain_md_new(&ret_chain->md);
}

void auditchain_deinit(struct auditchain *chain)
{
	chain->md = auditchain_md_free(chain->md);
}

const char *auditchain_error(const struct auditchain *chain)
{
	return chain->error;
}

uint64_t auditchain_culprit(const struct auditchain *chain)
{
	return chain->culprit;
}

/* The sentence is about record `id`. */
__attribute__((format(printf, 4, 5))) static int chain_fail(
	struct auditchain *chain, int error, uint64_t id, const char *format, ...)
{
	int n = snprintf(chain->error, sizeof(chain->error), "record %" PRIu64 " ", id);
	va_list args;

	va_start(args, format);
	vsnprintf(chain->error + n, sizeof(chain->error) - (size_t)n, format, args);
	va_end(args);
	chain->culprit = id;
	chain->result = error;
	return error;
}

static int chain_broken(struct auditchain *chain, uint64_t id, const char *text)
{
	return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, id, "%s", text);
}

/* ---- what is said of the log, and what proves it ---- */

/* The hash of record `id` is `hash`, as the chain itself or a PRUNED record in it says. */
static int chain_learn(struct auditchain *chain, uint64_t id, const uint8_t *hash)
{
	if (!chain->noted || id != chain->noted_id)
		return 0;
	if (memcmp(hash, chain->noted_hash, AUDITCHAIN_HASH) != 0)
		return chain_broken(chain, id,
			"has another hash than the noted head: it, or one before it, was replaced "
			"since");
	chain->found = true;
	return 0;
}

void auditchain_start(
	struct auditchain *chain, uint64_t id, const uint8_t hash[static AUDITCHAIN_HASH])
{
	if (id == 0)
		return;
	chain->start = chain->id = id;
	memcpy(chain->anchor, hash, AUDITCHAIN_HASH);
	memcpy(chain->hash, hash, AUDITCHAIN_HASH);
	chain->proven = false;
}

void auditchain_note(
	struct auditchain *chain, uint64_t id, const uint8_t hash[static AUDITCHAIN_HASH])
{
	chain->noted = id != 0;
	chain->noted_id = id;
	memcpy(chain->noted_hash, hash, AUDITCHAIN_HASH);
	/* A log that goes on from the noted head needs no other proof of its start. */
	if (chain->noted && id == chain->start && memcmp(hash, chain->anchor, AUDITCHAIN_HASH) == 0)
		chain->proven = chain->found = true;
}

static int chain_pruned(struct auditchain *chain, const Vmsig__AuditRecord *record)
{
	const ProtobufCBinaryData *anchor = &record->anchor;

	if (anchor->len != AUDITCHAIN_HASH || record->pruned >= record->id)
		return chain_broken(chain, record->id, "does not say what retention has dropped");
	if (chain->start != 0 && record->pruned == chain->start) {
		if (memcmp(anchor->data, chain->anchor, AUDITCHAIN_HASH) != 0)
			return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, record->id,
				"proves another hash of record %" PRIu64
				" than the log goes on from: the start of the log was replaced",
				record->pruned);
		chain->proven = true;
	}
	return chain_learn(chain, record->pruned, anchor->data);
}

/* ---- records ---- */

/* protobuf-c gives NULL both for bytes that are no message and without memory. */
static void *alloc_noting(void *data, size_t size)
{
	bool *failed = data;
	void *p = malloc(size ? size : 1);

	if (!p)
		*failed = true;
	return p;
}

static void free_noting(void *data, void *p)
{
	(void)data;
	free(p);
}

static int chain_order(struct auditchain *chain, uint64_t id)
{
	uint64_t next = chain->id + 1;

	if (id == next && id != 0)
		return 0;
	if (id > next)
		return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, next,
			"is missing, the next one is %" PRIu64
			": it was dropped, or the records were re-ordered",
			id);
	return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, id,
		"comes behind record %" PRIu64 ": it was inserted, or the records were re-ordered",
		chain->id);
}

/* What the record's own words say about the cause comes before what only hashes say. */
static int chain_check(
	struct auditchain *chain, uint64_t id, const Vmsig__AuditRecord *record, bool hash_fits)
{
	if (!record)
		return chain_broken(chain, id,
			hash_fits ? "cannot be decoded: it was never an audit record"
				  : "cannot be decoded: it was edited");
	if (record->id != id)
		return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, id,
			"says that it is record %" PRIu64 ": it was edited or moved", record->id);
	if (!hash_fits)
		return chain_broken(chain, id,
			"does not have the hash that it and the one before it give: one of the "
			"two was edited");
	if (record->kind == VMSIG__AUDIT_RECORD__KIND__LOST)
		chain->lost = id;
	return record->kind == VMSIG__AUDIT_RECORD__KIND__PRUNED ? chain_pruned(chain, record) : 0;
}

int auditchain_add(struct auditchain *chain, uint64_t id, const void *body, size_t len,
	const uint8_t hash[static AUDITCHAIN_HASH])
{
	bool no_memory = false;
	ProtobufCAllocator allocator = {alloc_noting, free_noting, &no_memory};
	uint8_t expected[AUDITCHAIN_HASH];
	Vmsig__AuditRecord *record;
	int r;

	if (chain->result || chain_order(chain, id))
		return chain->result;
	r = auditchain_hash(chain->md, chain->hash, body, len, expected);
	if (r)
		return chain_fail(chain, r, id, "cannot be hashed: OpenSSL has no SHA-256");
	record = vmsig__audit_record__unpack(&allocator, len, body);
	if (!record && no_memory)
		return chain_fail(
			chain, -ENOMEM, id, "cannot be decoded without memory; try again");
	r = chain_check(chain, id, record, memcmp(hash, expected, AUDITCHAIN_HASH) == 0);
	if (record)
		vmsig__audit_record__free_unpacked(record, &allocator);
	if (r)
		return r;
	chain->id = id;
	memcpy(chain->hash, hash, AUDITCHAIN_HASH);
	return chain_learn(chain, id, hash);
}

uint64_t auditchain_lost(const struct auditchain *chain)
{
	return chain->lost;
}

/* ---- the end ---- */

static int chain_unfound(struct auditchain *chain)
{
	if (chain->noted_id > chain->id)
		return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, chain->noted_id,
			"is missing: the log ends with %" PRIu64
			", before the noted head, so its newest records were cut off",
			chain->id);
	return chain_fail(chain, VMSIG_ERR_BAD_REQUEST, chain->noted_id,
		"is missing: the log begins behind %" PRIu64
		", and nothing in it proves the noted head",
		chain->start);
}

int auditchain_finish(
	struct auditchain *chain, uint64_t *ret_id, uint8_t ret_hash[static AUDITCHAIN_HASH])
{
	if (chain->result)
		return chain->result;
	if (!chain->proven)
		return chain_broken(chain, chain->start,
			"is missing: the log begins behind it, and no record proves that retention "
			"dropped it");
	if (chain->noted && !chain->found)
		return chain_unfound(chain);
	*ret_id = chain->id;
	memcpy(ret_hash, chain->hash, AUDITCHAIN_HASH);
	return 0;
}
