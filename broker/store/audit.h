/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_STORE_AUDIT_H
#define BROKER_STORE_AUDIT_H

/*
 * The audit log: AuditRecords of vmsig.proto, entries of the journal, each with
 * hash = SHA-256(hash of the one before | its bytes), so that editing, dropping, re-ordering
 * and cutting is found by whoever noted a head. Records are appended inside of the store's
 * transaction; the journal's thread chains them, so the head moves a moment after the commit.
 *
 * Retention drops the oldest segments of the journal and appends a record that names the last
 * record in them with its hash, so that what is left can still be proven to be the end of the
 * whole.
 *
 * Returns: 0, a positive enum vmsig_error, or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/journal/journal.h"
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

/* Records that were committed and are gone: the host lost its power, the state was damaged,
 * or it was restored from a backup. */
struct audit_loss {
	uint64_t id; /* of the newest that had been committed; those above the head are gone */
	uint8_t hash[AUDIT_HASH];
};

/* The store, which is no stand-in, outlives it. */
__attribute__((warn_unused_result)) int audit_new(struct audit **ret_audit, struct store *store);
/* Accepts NULL, returns NULL. */
struct audit *audit_free(struct audit *audit);

/* Appends to the open transaction. Fills in id and both clocks. VMSIG_ERR_IO, -ENOMEM: the
 * transaction has to be rolled back. */
__attribute__((warn_unused_result)) int audit_append(
	struct audit *audit, Vmsig__AuditRecord *record);
/* By what the record is looked up. */
static inline void audit_keys(const Vmsig__AuditRecord *record, struct journal_keys *ret_keys)
{
	*ret_keys = (struct journal_keys){.time_ns = record->real_ns,
		.endpoint = journal_key(record->endpoint),
		.tenant = journal_key(record->tenant),
		.kind = (uint16_t)record->kind};
}

/* Whether the log that was opened is not the one that the broker had before, and what that one
 * had come to. */
bool audit_lost(const struct audit *audit, struct audit_loss *ret_loss);

/* Bytes that were appended since the log was opened, as the journal needs them. */
uint64_t audit_appended(const struct audit *audit);

/* As far as the log can be read. */
void audit_head(const struct audit *audit, struct audit_head *ret_head);
void audit_head_of(struct journal *journal, struct audit_head *ret_head);

/* SHA-256 of `len` bytes; 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int audit_digest(
	struct audit *audit, const void *data, size_t len, uint8_t ret_digest[static AUDIT_HASH]);

/* The record with this id, which the caller frees with vmsig__audit_record__free_unpacked(). Waits
 * for the disk: not on a loop that is at work. VMSIG_ERR_BAD_REQUEST: there is none;
 * VMSIG_ERR_INTERNAL: it is damaged. */
__attribute__((warn_unused_result)) int audit_get(
	struct audit *audit, uint64_t id, Vmsig__AuditRecord **ret_record);

/* Records above `after`, up to `until`, that can be read, oldest first, at most `limit` of them (0:
 * as many as fit) and AUDIT_PAGE_BYTES of bodies (but at least one). From any thread; waits for the
 * disk. The caller frees with audit_page_free(). */
struct audit_page {
	Vmsig__AuditRow *rows;
	size_t n;
	struct journal_page page; /* what the rows borrow */
};
__attribute__((warn_unused_result)) int audit_page(struct journal *journal, uint64_t after,
	uint64_t until, uint32_t limit, struct audit_page *ret_page);
/* The same of those that fit; page.more and page.next say how to go on. `until` is not 0. */
__attribute__((warn_unused_result)) int audit_find(
	struct journal *journal, const struct journal_query *query, struct audit_page *ret_page);
void audit_page_free(struct audit_page *page);

/* Drops the oldest segments when the journal is larger than `bytes` or when all in them is older
 * than `age_ms`, in a transaction of its own. Call it now and then; *ret_more says that
 * something was dropped. What the snapshot lacks stays, and so does the newest segment. */
__attribute__((warn_unused_result)) int audit_prune(
	struct audit *audit, uint64_t bytes, uint64_t age_ms, bool *ret_more);

#endif
