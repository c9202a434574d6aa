/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl audit export`: all records as they are stored, for `audit verify` and archives
 * elsewhere. */
#include "clients/ctl/audit.h"

#include <string.h>

static int page_export(const vmsig_audit_page *page, uint64_t *after, uint8_t *previous)
{
	int code = EXIT_OK;

	for (size_t i = 0; !code && i < page->count; i++) {
		struct ctl_audit_entry entry = ctl_audit_page_entry(page, i);

		code = ctl_print_json(ctl_audit_entry_export(&entry, previous));
		ctl_audit_entry_deinit(&entry);
		*after = page->rows[i].id;
		memcpy(previous, page->rows[i].hash, AUDITCHAIN_HASH);
	}
	return code;
}

/* The hash of the record that the export goes on from; one that retention has dropped is
 * replaced by the last of these. */
static int export_start(struct ctl_audit_action *action, uint64_t *after, uint8_t *ret_previous)
{
	vmsig_audit_page *page;
	int code = ctl_audit_page(action, *after ? *after - 1 : 0, 1, false, &page);

	if (code)
		return code;
	if (page->first > *after) {
		*after = page->first ? page->first - 1 : 0;
		memcpy(ret_previous, page->anchor, AUDITCHAIN_HASH);
	} else if (page->count && page->rows[0].id == *after) {
		memcpy(ret_previous, page->rows[0].hash, AUDITCHAIN_HASH);
	}
	vmsig_audit_page_free(page);
	return EXIT_OK;
}

int ctl_audit_export(struct ctl_audit_action *action)
{
	uint64_t after = action->options.after;
	uint8_t previous[AUDITCHAIN_HASH] = {0};
	int code = export_start(action, &after, previous);

	while (!code) {
		vmsig_audit_page *page;
		bool end;

		code = ctl_audit_page(action, after, 0, false, &page);
		if (code)
			break;
		end = page->count == 0;
		if (!end && ctl_audit_page_gap(page, after))
			code = ctl_fail(VMSIG_ERR_BUSY,
				"retention has dropped records meanwhile; export again");
		else
			code = page_export(page, &after, previous);
		vmsig_audit_page_free(page);
		if (end)
			break;
	}
	return code;
}
