/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_AUDIT_H
#define BROKER_STORE_AUDIT_H

/*
 * The audit log: AuditRecords of vmsig.proto in the store, each with
 * hash = SHA-256(hash of the one before | its bytes), so that editing, dropping, re-ordering
 * and cutting is found by whoever noted a head. Records are appended inside of the store's
 * transaction; the head moves with its commit.
 *
 * Retention drops the oldest records and appends one that names the last of them with its
 * hash, so that what is left can still be proven to be the end of the whole.
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/vmsig.pb-c.h"

#define AUDIT_HASH 32                 /* bytes of SHA-256 */
#define AUDIT_PAGE_BYTES (512u << 10) /* of one answer; inside of a frame with room */

struct audit;
struct store;

struct audit_head {
	uint64_t id; /* 0: the log is empty */
	uint8_t hash[AUDIT_HASH];
	uint64_t first;             /* the oldest record that is left; id + 1 when none is */
	uint8_t anchor[AUDIT_HASH]; /* hash of the record before that */
};

/* Records that were committed and are gone: the host lost its power, the database was damaged,
 * or it was restored from a backup. */
struct audit_loss {
	uint64_t id; /* of the newest that had been committed; those above the head are gone */
	uint8_t hash[AUDIT_HASH];
};

/* VMSIG_ERR_INTERNAL: the newest row is damaged. The store outlives it. */
__attribute__((warn_unused_result)) int audit_new(struct audit **ret_audit, struct store *store);
/* Accepts NULL, returns NULL. */
struct audit *audit_free(struct audit *audit);

/* Appends to the open transaction. Fills in id and both clocks. VMSIG_ERR_IO, -ENOMEM: the
 * transaction has to be rolled back. */
__attribute__((warn_unused_result)) int audit_append(
	struct audit *audit, Vmsig__AuditRecord *record);
/* The transaction was committed, or rolled back: the head moves, or does not. */
void audit_committed(struct audit *audit);
void audit_rolled_back(struct audit *audit);

/* Whether the log that was opened is not the one that the broker had before, and what that one
 * had come to. */
bool audit_lost(const struct audit *audit, struct audit_loss *ret_loss);

/* Bytes that were appended since the log was opened, as the database needs them. */
uint64_t audit_appended(const struct audit *audit);

/* As committed. */
void audit_head(const struct audit *audit, struct audit_head *ret_head);

/* SHA-256 of `len` bytes; 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int audit_digest(
	struct audit *audit, const void *data, size_t len, uint8_t ret_digest[static AUDIT_HASH]);

/* The record with this id, which the caller frees with vmsig__audit_record__free_unpacked().
 * VMSIG_ERR_BAD_REQUEST: there is none; VMSIG_ERR_INTERNAL: it is damaged. */
__attribute__((warn_unused_result)) int audit_get(
	struct audit *audit, uint64_t id, Vmsig__AuditRecord **ret_record);

/* Committed records above `after`, oldest first, at most `limit` of them and
 * AUDIT_PAGE_BYTES of bodies (but at least one). The caller frees with audit_page_free(). */
struct audit_page {
	Vmsig__AuditRow *rows;
	size_t n, capacity;
};
__attribute__((warn_unused_result)) int audit_page(
	struct audit *audit, uint64_t after, uint32_t limit, struct audit_page *ret_page);
void audit_page_free(struct audit_page *page);

/* Drops some of the oldest records when the database is larger than `bytes` or when they are
 * older than `age_ms`, in a transaction of its own. Call it now and then; *ret_more says that
 * there is more to drop. The newest records always stay. */
__attribute__((warn_unused_result)) int audit_prune(
	struct audit *audit, uint64_t bytes, uint64_t age_ms, bool *ret_more);

#endif
