/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_CHAIN_AUDITCHAIN_H
#define PROTO_CHAIN_AUDITCHAIN_H

/*
 * The chain of hashes that makes the audit log tamper-evident:
 *
 *   hash(0) = 32 zero bytes, hash(n) = SHA-256(hash(n-1) | body(n))
 *
 * where body(n) is the AuditRecord of vmsig.proto exactly as it was stored. Ids are contiguous.
 *
 * Retention drops the oldest records and appends a PRUNED record with the id and the hash of
 * the last one dropped. A log that begins with record k + 1 is intact only if such a record in
 * it proves (k, hash(k)). What no chain can show by itself is that its newest records were cut
 * off, or that all of it was written anew: that takes a head (an id with its hash) which
 * somebody noted elsewhere.
 *
 *   auditchain     the chain and its verification
 *   auditchain_md  its SHA-256
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDITCHAIN_HASH 32u /* bytes of a SHA-256 */

/* A SHA-256 that was fetched once and is used again: an implicit fetch for each hash costs
 * four times as much as the hash of a short record. Not for two threads at once. */
struct auditchain_md;

/* -ENOMEM, or VMSIG_ERR_INTERNAL when OpenSSL has no SHA-256 (a broken configuration). */
__attribute__((warn_unused_result)) int auditchain_md_new(struct auditchain_md **ret_md);
struct auditchain_md *auditchain_md_free(struct auditchain_md *md);

/* SHA-256(prev | body). `ret_hash` may be `prev`. VMSIG_ERR_INTERNAL, and ret_hash is as it
 * was, when OpenSSL fails. */
__attribute__((warn_unused_result)) int auditchain_hash(struct auditchain_md *md,
	const uint8_t prev[static AUDITCHAIN_HASH], const void *body, size_t len,
	uint8_t ret_hash[static AUDITCHAIN_HASH]);
/* SHA-256(data), as auditchain_hash(). */
__attribute__((warn_unused_result)) int auditchain_digest(struct auditchain_md *md,
	const void *data, size_t len, uint8_t ret_hash[static AUDITCHAIN_HASH]);

/* ---- verifying ---- */

#define AUDITCHAIN_ERROR_MAX 255u /* bytes of a sentence */

/* Verifies a log, record after record, in the order of their ids. Members are private. */
struct auditchain {
	struct auditchain_md *md;
	uint64_t id; /* of the newest record so far */
	uint8_t hash[AUDITCHAIN_HASH];
	uint64_t start; /* id before the oldest record, whose hash is said to be: */
	uint8_t anchor[AUDITCHAIN_HASH];
	bool proven; /* what is said of the start */
	bool noted;  /* there is a head to be found: */
	uint64_t noted_id;
	uint8_t noted_hash[AUDITCHAIN_HASH];
	bool found;
	int result; /* of everything so far */
	uint64_t culprit;
	uint64_t lost;
	char error[AUDITCHAIN_ERROR_MAX + 1];
};

/* As auditchain_md_new(). A chain that begins with record 1. */
__attribute__((warn_unused_result)) int auditchain_init(struct auditchain *ret_chain);
void auditchain_deinit(struct auditchain *chain);

/* Before the first record: the log begins behind record `id`, which is said to have `hash`.
 * Something in the log, or the noted head, has to prove it. With id 0 it begins with record 1,
 * and `hash` does not matter. */
void auditchain_start(
	struct auditchain *chain, uint64_t id, const uint8_t hash[static AUDITCHAIN_HASH]);
/* Before the first record, and after auditchain_start(): the log once had this head. With id
 * 0 nothing is expected. */
void auditchain_note(
	struct auditchain *chain, uint64_t id, const uint8_t hash[static AUDITCHAIN_HASH]);

/* The next record. VMSIG_ERR_BAD_REQUEST: the log is not intact, and auditchain_error() names
 * the record; -ENOMEM, VMSIG_ERR_INTERNAL: it could not be verified. Sticks. */
__attribute__((warn_unused_result)) int auditchain_add(struct auditchain *chain, uint64_t id,
	const void *body, size_t len, const uint8_t hash[static AUDITCHAIN_HASH]);
/* There are no more records: the head, which is the start of an empty log. As
 * auditchain_add(); the log is intact only if this returns 0. */
__attribute__((warn_unused_result)) int auditchain_finish(
	struct auditchain *chain, uint64_t *ret_id, uint8_t ret_hash[static AUDITCHAIN_HASH]);
/* The newest record that says that records before it were lost (KIND LOST); 0: none does. They
 * are missing from the log without breaking it. */
uint64_t auditchain_lost(const struct auditchain *chain);
/* Why a call failed; "" when none did. Lives as long as the chain. */
const char *auditchain_error(const struct auditchain *chain);
/* The record that it names. */
uint64_t auditchain_culprit(const struct auditchain *chain);

#endif
