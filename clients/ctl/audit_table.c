/* SPDX-License-Identifier: Apache-2.0 */
/* Audit records as lines of a table. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clients/common/text.h"
#include "clients/ctl/audit_record.h"
#include "vmsig/vmsig_error.h"

#define DETAIL_MAX 512

/* Kinds and outcomes have room for the longest one: a table goes on for as long as the log
 * does, and rows that were printed cannot be moved. */
static const struct table_column columns[] = {{"ID", 6, true}, {"TIME", 24, false},
	{"KIND", 16, false}, {"OUTCOME", 16, false}, {"TENANT", 8, false}, {"ENDPOINT", 8, false},
	{"LEASE", 5, true}, {"DETAIL", 0, false}};

/* The last column. */
struct detail {
	char text[DETAIL_MAX];
};

__attribute__((format(printf, 2, 3))) static void detail_add(
	struct detail *detail, const char *format, ...)
{
	size_t len = strlen(detail->text);
	va_list args;

	if (len && len + 2 < DETAIL_MAX)
		len += (size_t)snprintf(detail->text + len, DETAIL_MAX - len, ", ");
	va_start(args, format);
	vsnprintf(detail->text + len, DETAIL_MAX - len, format, args);
	va_end(args);
}

static void detail_write(const Vmsig__AuditRecord *record, struct detail *detail)
{
	if (record->sequence)
		detail_add(detail, "sequence %" PRIu64, record->sequence);
	if (record->intent)
		detail_add(detail, "of record %" PRIu64, record->intent);
	if (record->operations)
		detail_add(detail, "%u operation%s", record->operations,
			record->operations == 1 ? "" : "s");
	if (record->bytes)
		detail_add(detail, "%" PRIu64 " bytes", record->bytes);
}

static void detail_lease(const Vmsig__AuditRecord *record, struct detail *detail)
{
	for (size_t i = 0; i < record->n_ranges && i < 2; i++)
		detail_add(detail, "0x%" PRIx64 "-0x%" PRIx64, record->ranges[i]->start,
			record->ranges[i]->last);
	if (record->n_ranges > 2)
		detail_add(detail, "%zu more ranges", record->n_ranges - 2);
	if (record->ttl_ms)
		detail_add(detail, "for %u ms", record->ttl_ms);
	if (record->priority)
		detail_add(detail, "priority %u", record->priority);
}

static void detail_log(const Vmsig__AuditRecord *record, struct detail *detail)
{
	if (record->pruned)
		detail_add(detail, "records up to %" PRIu64, record->pruned);
	if (record->repeats)
		detail_add(detail, "%" PRIu64 " more like this", record->repeats);
	if (record->version[0])
		detail_add(detail, "vmsigd %s", record->version);
}

static void add_record(struct table *table, const Vmsig__AuditRecord *record)
{
	static void (*const details[])(const Vmsig__AuditRecord *, struct detail *) = {
		detail_write, detail_lease, detail_log};
	struct detail detail = {""};
	char lease[24] = "";

	table_add(table, "%s", vmsig_error_name((int)record->outcome));
	table_add(table, "%s", record->tenant);
	table_add(table, "%s", record->endpoint);
	if (record->lease)
		snprintf(lease, sizeof(lease), "%" PRIu64, record->lease);
	table_add(table, "%s", lease);
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++)
		details[i](record, &detail);
	if (record->detail[0])
		detail_add(&detail, "%s", record->detail);
	table_add(table, "%s", detail.text);
}

static void add_damaged(struct table *table)
{
	for (int i = 0; i < 4; i++)
		table_add(table, "%s", "");
	table_add(table, "cannot be decoded; see `vmsigctl audit verify`");
}

void ctl_audit_table_init(struct table *table)
{
	table_init(table, columns, sizeof(columns) / sizeof(columns[0]));
}

void ctl_audit_table_add(struct table *table, const struct ctl_audit_entry *entry)
{
	char kind[AUDIT_KIND_MAX], when[TEXT_TIME_MAX] = "";

	ctl_audit_entry_kind(entry, kind);
	if (entry->record)
		text_time(entry->record->real_ns, 3, when);
	table_add(table, "%" PRIu64, entry->id);
	table_add(table, "%s", when);
	table_add(table, "%s", kind);
	if (entry->record)
		add_record(table, entry->record);
	else
		add_damaged(table);
}
