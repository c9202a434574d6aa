/* SPDX-License-Identifier: Apache-2.0 */
/* Audit records as lines of a table. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clients/common/text.h"
#include "clients/ctl/audit_record.h"
#include "vmsig/vmsig_error.h"

#define CELL_MAX 64
#define DETAIL_MAX 512

/* Kinds and outcomes have room for the longest one: a table goes on for as long as the log
 * does, and rows that were printed cannot be moved. */
static const struct {
	const char *heading;
	int width;
	bool right;
} columns[AUDIT_COLUMNS] = {{"ID", 6, true}, {"TIME", 24, false}, {"KIND", 13, false},
	{"OUTCOME", 16, false}, {"TENANT", 8, false}, {"ENDPOINT", 8, false}, {"LEASE", 5, true}};

struct table_row {
	char cells[AUDIT_COLUMNS][CELL_MAX];
	char detail[DETAIL_MAX]; /* the last column, of any width */
};

__attribute__((format(printf, 2, 3))) static void detail_add(
	struct table_row *row, const char *format, ...)
{
	size_t len = strlen(row->detail);
	va_list args;

	if (len && len + 2 < DETAIL_MAX)
		len += (size_t)snprintf(row->detail + len, DETAIL_MAX - len, ", ");
	va_start(args, format);
	vsnprintf(row->detail + len, DETAIL_MAX - len, format, args);
	va_end(args);
}

static void detail_write(const Vmsig__AuditRecord *record, struct table_row *row)
{
	if (record->sequence)
		detail_add(row, "sequence %" PRIu64, record->sequence);
	if (record->intent)
		detail_add(row, "of record %" PRIu64, record->intent);
	if (record->operations)
		detail_add(row, "%u operation%s", record->operations,
			record->operations == 1 ? "" : "s");
	if (record->bytes)
		detail_add(row, "%" PRIu64 " bytes", record->bytes);
}

static void detail_lease(const Vmsig__AuditRecord *record, struct table_row *row)
{
	for (size_t i = 0; i < record->n_ranges && i < 2; i++)
		detail_add(row, "0x%" PRIx64 "-0x%" PRIx64, record->ranges[i]->start,
			record->ranges[i]->last);
	if (record->n_ranges > 2)
		detail_add(row, "%zu more ranges", record->n_ranges - 2);
	if (record->ttl_ms)
		detail_add(row, "for %u ms", record->ttl_ms);
	if (record->priority)
		detail_add(row, "priority %u", record->priority);
}

static void detail_log(const Vmsig__AuditRecord *record, struct table_row *row)
{
	if (record->pruned)
		detail_add(row, "records up to %" PRIu64, record->pruned);
	if (record->repeats)
		detail_add(row, "%" PRIu64 " more like this", record->repeats);
	if (record->version[0])
		detail_add(row, "vmsigd %s", record->version);
}

static void row_fill(struct table_row *row, const struct ctl_audit_entry *entry)
{
	static void (*const details[])(const Vmsig__AuditRecord *, struct table_row *) = {
		detail_write, detail_lease, detail_log};
	const Vmsig__AuditRecord *record = entry->record;

	memset(row, 0, sizeof(*row));
	snprintf(row->cells[0], CELL_MAX, "%" PRIu64, entry->id);
	ctl_audit_entry_kind(entry, row->cells[2]);
	if (!record) {
		detail_add(row, "cannot be decoded; see `vmsigctl audit verify`");
		return;
	}
	text_time(record->real_ns, 3, row->cells[1]);
	snprintf(row->cells[3], CELL_MAX, "%s", vmsig_error_name((int)record->outcome));
	snprintf(row->cells[4], CELL_MAX, "%s", record->tenant);
	snprintf(row->cells[5], CELL_MAX, "%s", record->endpoint);
	if (record->lease)
		snprintf(row->cells[6], CELL_MAX, "%" PRIu64, record->lease);
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++)
		details[i](record, row);
	if (record->detail[0])
		detail_add(row, "%s", record->detail);
	ctl_audit_text_clean(row->cells[4]);
	ctl_audit_text_clean(row->cells[5]);
	ctl_audit_text_clean(row->detail);
}

static void table_fit(struct ctl_audit_table *table, const struct table_row *row)
{
	for (size_t i = 0; i < AUDIT_COLUMNS; i++) {
		int width = (int)strlen(row->cells[i]);

		if (width > table->widths[i])
			table->widths[i] = width;
	}
}

static void row_print(const struct ctl_audit_table *table, const struct table_row *row)
{
	for (size_t i = 0; i < AUDIT_COLUMNS; i++)
		printf("%s%*s", i ? "  " : "",
			columns[i].right ? table->widths[i] : -table->widths[i],
			row->cells[i][0] ? row->cells[i] : "-");
	printf("%s%s\n", row->detail[0] ? "  " : "", row->detail);
}

void ctl_audit_table_print(
	struct ctl_audit_table *table, const struct ctl_audit_entry *entries, size_t n)
{
	struct table_row row = {.detail = "DETAIL"};
	bool first = table->widths[0] == 0;

	for (size_t i = 0; i < AUDIT_COLUMNS; i++) {
		snprintf(row.cells[i], CELL_MAX, "%s", columns[i].heading);
		if (first)
			table->widths[i] = columns[i].width;
	}
	for (size_t i = 0; i < n; i++) {
		struct table_row other;

		row_fill(&other, &entries[i]);
		table_fit(table, &other);
	}
	if (first)
		row_print(table, &row);
	for (size_t i = 0; i < n; i++) {
		row_fill(&row, &entries[i]);
		row_print(table, &row);
	}
}
