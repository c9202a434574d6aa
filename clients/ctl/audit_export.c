/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl audit export`: all records as they are stored, for `audit verify` and archives
 * elsewhere, as JSON or as an SQLite database. */
#include "clients/ctl/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/audit_sqlite.h"

/* Where the export is: what the next record goes on from. */
struct export_place {
	struct ctl_audit_sqlite *sqlite; /* NULL: JSON */
	uint64_t after;
	uint8_t previous[AUDITCHAIN_HASH];
};

static int entry_export(const struct export_place *place, const struct ctl_audit_entry *entry)
{
	return place->sqlite ? ctl_audit_sqlite_add(place->sqlite, entry, place->previous)
			     : ctl_print_json(ctl_audit_entry_export(entry, place->previous));
}

static int page_export(const vmsig_audit_page *page, struct export_place *place)
{
	int code = EXIT_OK;

	for (size_t i = 0; !code && i < page->count; i++) {
		struct ctl_audit_entry entry = ctl_audit_page_entry(page, i);

		code = entry_export(place, &entry);
		ctl_audit_entry_deinit(&entry);
		place->after = page->rows[i].id;
		memcpy(place->previous, page->rows[i].hash, AUDITCHAIN_HASH);
	}
	return code;
}

/* The hash of the record that the export goes on from; one that retention has dropped is
 * replaced by the last of these. */
static int export_start(struct ctl_audit_action *action, struct export_place *place)
{
	vmsig_audit_page *page;
	uint64_t after = place->after;
	int code = ctl_audit_page(action, after ? after - 1 : 0, 1, false, &page);

	if (code)
		return code;
	if (page->first > after) {
		place->after = page->first ? page->first - 1 : 0;
		memcpy(place->previous, page->anchor, AUDITCHAIN_HASH);
	} else if (page->count && page->rows[0].id == after) {
		memcpy(place->previous, page->rows[0].hash, AUDITCHAIN_HASH);
	}
	vmsig_audit_page_free(page);
	return EXIT_OK;
}

static int export_all(struct ctl_audit_action *action, struct export_place *place)
{
	int code = export_start(action, place);

	while (!code) {
		vmsig_audit_page *page;
		bool end;

		code = ctl_audit_page(action, place->after, 0, false, &page);
		if (code)
			break;
		end = page->count == 0;
		if (!end && ctl_audit_page_gap(page, place->after))
			code = ctl_fail(VMSIG_ERR_BUSY,
				"retention has dropped records meanwhile; export again");
		else
			code = page_export(page, place);
		vmsig_audit_page_free(page);
		if (end)
			break;
	}
	return code;
}

static int sqlite_told(const struct ctl *ctl, const struct export_place *place, const char *path)
{
	uint64_t records = ctl_audit_sqlite_count(place->sqlite);

	if (ctl->json)
		return ctl_print_json(json_pack("{s:s, s:I, s:I}", "file", path, "records",
			(json_int_t)records, "last", (json_int_t)place->after));
	printf("%" PRIu64 " records, the newest is %" PRIu64 ": %s\n", records, place->after, path);
	return EXIT_OK;
}

static int export_sqlite(struct ctl_audit_action *action, struct export_place *place)
{
	const char *path = action->options.sqlite;
	int code = ctl_audit_sqlite_new(&place->sqlite, path);

	if (code)
		return code;
	code = export_all(action, place);
	if (!code)
		code = ctl_audit_sqlite_finish(place->sqlite);
	if (!code)
		code = sqlite_told(action->ctl, place, path);
	place->sqlite = ctl_audit_sqlite_free(place->sqlite);
	return code;
}

int ctl_audit_export(struct ctl_audit_action *action)
{
	struct export_place place = {.after = action->options.after};

	return action->options.sqlite ? export_sqlite(action, &place) : export_all(action, &place);
}
