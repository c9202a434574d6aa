/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_AUDIT_SQLITE_H
#define CLIENTS_CTL_AUDIT_SQLITE_H

/*
 * An export of the audit log as an SQLite database, for whoever wants to ask it with SQL:
 *
 *   records   a row for each record: the members of an AuditRecord by their names, NULL where
 *             they have no value, `time` in ISO 8601 beside `real_ns`, and what proves the
 *             record: `hash`, `previous` and `body`
 *   ranges    the ranges of a record's lease or write: record, start, last
 *
 * Numbers that may be larger than SQLite's are text, "0x" and sixteen digits, which sorts as
 * they do. Everything is written in one transaction: a file is whole, or there is none.
 */

#include "clients/ctl/audit_record.h"

struct ctl_audit_sqlite;

/* Makes the file, which must not be there. EXIT_OK, or the exit code after a message. */
__attribute__((warn_unused_result)) int ctl_audit_sqlite_new(
	struct ctl_audit_sqlite **ret_sqlite, const char *path);
__attribute__((warn_unused_result)) int ctl_audit_sqlite_add(struct ctl_audit_sqlite *sqlite,
	const struct ctl_audit_entry *entry, const uint8_t previous[static AUDITCHAIN_HASH]);
/* Commits. */
__attribute__((warn_unused_result)) int ctl_audit_sqlite_finish(struct ctl_audit_sqlite *sqlite);
/* Removes the file unless it was finished. Accepts NULL, returns NULL. */
struct ctl_audit_sqlite *ctl_audit_sqlite_free(struct ctl_audit_sqlite *sqlite);

/* Records so far. */
uint64_t ctl_audit_sqlite_count(const struct ctl_audit_sqlite *sqlite);

#endif
