/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_AUDITCHAIN_H
#define PROTO_AUDITCHAIN_H

/*
 * The chain of hashes that makes the audit log tamper-evident:
 *
 *   hash(0) = 32 zero bytes, hash(n) = SHA-256(hash(n-1) | body(n))
 *
 * where body(n) is the AuditRecord of vmsig.proto exactly as it was stored.
 */

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

#endif
