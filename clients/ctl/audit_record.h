/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_AUDIT_RECORD_H
#define CLIENTS_CTL_AUDIT_RECORD_H

/*
 * A row of the audit log with its record decoded, and how it is shown: as JSON, as lines, as
 * a row of a table. What a record says may come from whoever was refused: nothing of it
 * reaches a terminal unfiltered.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "clients/common/table.h"
#include "proto/chain/auditchain.h"
#include "proto/wire/vmsig.pb-c.h"

struct ctl_audit_entry {
	uint64_t id;
	const uint8_t *body; /* borrowed, as is the hash */
	size_t body_len;
	const uint8_t *hash;
	Vmsig__AuditRecord *record; /* NULL: the body cannot be decoded */
};

struct ctl_audit_entry ctl_audit_entry_of(
	uint64_t id, const uint8_t *body, size_t body_len, const uint8_t hash[AUDITCHAIN_HASH]);
void ctl_audit_entry_deinit(struct ctl_audit_entry *entry);

#define AUDIT_KIND_MAX 32
/* "write-intent"; "kind-77" for one that this version does not know, "damaged" for what
 * cannot be decoded. */
void ctl_audit_entry_kind(
	const struct ctl_audit_entry *entry, char ret_name[static AUDIT_KIND_MAX]);
/* Bits 1 << kind of all that the glob (fnmatch(3)) names. */
uint64_t ctl_audit_kinds(const char *glob);
/* "start, grant, ...": all that there are, as far as `size` goes. */
void ctl_audit_kind_names(char *text, size_t size);

/* Members that have a value; "damaged": true when the record cannot be decoded. */
json_t *ctl_audit_entry_json(const struct ctl_audit_entry *entry);
/* The same, with all that verifying takes: the body and the hash of the record before. */
json_t *ctl_audit_entry_export(
	const struct ctl_audit_entry *entry, const uint8_t previous[static AUDITCHAIN_HASH]);
/* One line for each member. */
void ctl_audit_entry_print(const struct ctl_audit_entry *entry);

/* The columns of a table of records, and the row of one. */
void ctl_audit_table_init(struct table *table);
void ctl_audit_table_add(struct table *table, const struct ctl_audit_entry *entry);

#endif
