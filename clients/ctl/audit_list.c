/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl audit ls`, `tail` and `show`: records in pages, as they come, or one of them whole. */
#include "clients/ctl/audit.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/ctl/admin.h"

#define FOLLOW_MS 500 /* between two looks */

int ctl_audit_page(struct ctl_audit_action *action, uint64_t after, uint32_t limit, bool newest,
	vmsig_audit_page **ret_page)
{
	int r = vmsig_admin_audit(action->admin, after, limit, newest, ret_page, -1);

	return r ? ctl_fail(r, "cannot read the audit log: %s",
			   vmsig_admin_last_error(action->admin))
		 : EXIT_OK;
}

bool ctl_audit_page_gap(const vmsig_audit_page *page, uint64_t after)
{
	return page->first > after + 1;
}

struct ctl_audit_entry ctl_audit_page_entry(const vmsig_audit_page *page, size_t i)
{
	const vmsig_audit_row *row = &page->rows[i];

	return ctl_audit_entry_of(row->id, row->body, row->body_len, row->hash);
}

/* ---- records that are asked for ---- */

static bool filtered(const struct ctl_audit_options *options)
{
	return options->endpoint || options->tenant || options->kind || options->since_ns ||
	       options->until_ns;
}

static bool entry_matches(
	const struct ctl_audit_options *options, const struct ctl_audit_entry *entry)
{
	const Vmsig__AuditRecord *record = entry->record;
	char kind[AUDIT_KIND_MAX];

	if (!filtered(options))
		return true;
	ctl_audit_entry_kind(entry, kind);
	return record && (!options->kind || fnmatch(options->kind, kind, 0) == 0) &&
	       (!options->endpoint || fnmatch(options->endpoint, record->endpoint, 0) == 0) &&
	       (!options->tenant || strcmp(options->tenant, record->tenant) == 0) &&
	       record->real_ns >= options->since_ns &&
	       (!options->until_ns || record->real_ns <= options->until_ns);
}

/* What the broker can look up; the rest is left to entry_matches(). */
static vmsig_audit_query query_of(const struct ctl_audit_options *options)
{
	vmsig_audit_query query = {.tenant = options->tenant,
		.from_ns = options->since_ns,
		.to_ns = options->until_ns};

	if (options->endpoint && !strpbrk(options->endpoint, "*?[\\"))
		query.endpoint = options->endpoint;
	if (options->kind)
		query.kinds = ctl_audit_kinds(options->kind);
	return query;
}

/* What goes through the log: where it is, what it has to do with a page's entries. */
struct audit_walk {
	struct ctl_audit_action *action;
	uint64_t after;
	int (*take)(struct audit_walk *walk, const struct ctl_audit_entry *entries, size_t n);
	struct table table;
	uint64_t left;   /* UINT64_MAX: no end */
	uint64_t *ring;  /* ids of the newest records that match */
	uint64_t ring_n; /* that were put in */
};

static int page_take(struct audit_walk *walk, const vmsig_audit_page *page)
{
	struct ctl_audit_entry *entries = calloc(page->count, sizeof(*entries));
	size_t n = 0;
	int code;

	if (!entries)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for %zu records", page->count);
	for (size_t i = 0; i < page->count && n < walk->left; i++) {
		entries[n] = ctl_audit_page_entry(page, i);
		if (entry_matches(&walk->action->options, &entries[n]))
			n++;
		else
			ctl_audit_entry_deinit(&entries[n]);
	}
	code = n ? walk->take(walk, entries, n) : EXIT_OK;
	if (walk->left != UINT64_MAX)
		walk->left -= n;
	for (size_t i = 0; i < n; i++)
		ctl_audit_entry_deinit(&entries[i]);
	free(entries);
	return code;
}

static int page_find(struct ctl_audit_action *action, const vmsig_audit_query *query,
	vmsig_audit_page **ret_page)
{
	int r = vmsig_admin_audit_find(action->admin, query, ret_page, -1);

	return r ? ctl_fail(r, "cannot read the audit log: %s",
			   vmsig_admin_last_error(action->admin))
		 : EXIT_OK;
}

/* Goes on to the end of the log, or until enough records were taken. */
static int walk_on(struct audit_walk *walk)
{
	vmsig_audit_query query = query_of(&walk->action->options);
	bool more = true;
	int code = EXIT_OK;

	if (!filtered(&walk->action->options) && walk->left < UINT32_MAX)
		query.limit = (uint32_t)walk->left;
	while (!code && walk->left && more) {
		vmsig_audit_page *page;

		query.after = walk->after;
		code = page_find(walk->action, &query, &page);
		if (code)
			break;
		if (page->count)
			code = page_take(walk, page);
		more = page->next != 0;
		if (more)
			walk->after = page->next;
		else if (page->count)
			walk->after = page->rows[page->count - 1].id;
		vmsig_audit_page_free(page);
	}
	return code;
}

static int take_print(struct audit_walk *walk, const struct ctl_audit_entry *entries, size_t n)
{
	int code = EXIT_OK;

	for (size_t i = 0; !code && i < n; i++) {
		if (walk->action->ctl->json)
			code = ctl_print_json(ctl_audit_entry_json(&entries[i]));
		else
			ctl_audit_table_add(&walk->table, &entries[i]);
	}
	return code || walk->action->ctl->json ? code : ctl_print_table(&walk->table);
}

int ctl_audit_ls(struct ctl_audit_action *action)
{
	struct audit_walk walk = {
		.action = action, .after = action->options.after, .take = take_print};
	int code;

	ctl_audit_table_init(&walk.table);
	walk.left = action->options.limit ? action->options.limit : UINT64_MAX;
	code = walk_on(&walk);
	table_deinit(&walk.table);
	return code;
}

/* ---- tail ---- */

static int take_note(struct audit_walk *walk, const struct ctl_audit_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		walk->ring[walk->ring_n++ % walk->action->options.lines] = entries[i].id;
	return EXIT_OK;
}

/* Nobody but the whole log knows where the newest N records begin that match. */
static int tail_start_filtered(struct ctl_audit_action *action, uint64_t *ret_after)
{
	uint64_t lines = action->options.lines;
	struct audit_walk walk = {.action = action, .take = take_note, .left = UINT64_MAX};
	int code;

	walk.ring = calloc(lines, sizeof(*walk.ring));
	if (!walk.ring)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for %" PRIu64 " records", lines);
	code = walk_on(&walk);
	if (!code && walk.ring_n > lines)
		*ret_after = walk.ring[walk.ring_n % lines] - 1;
	free(walk.ring);
	return code;
}

/* The id behind which the newest N records are. */
static int tail_start(struct ctl_audit_action *action, uint64_t *ret_after)
{
	uint64_t lines = action->options.lines;
	vmsig_audit_page *page;
	int code;

	*ret_after = 0;
	if (lines && filtered(&action->options))
		return tail_start_filtered(action, ret_after);
	code = ctl_audit_page(action, 0, 1, true, &page);
	if (code)
		return code;
	*ret_after = page->head > lines ? page->head - lines : 0;
	vmsig_audit_page_free(page);
	return EXIT_OK;
}

/* Ids go on over restarts of the broker. */
static int follow(struct audit_walk *walk)
{
	const struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000l};
	struct ctl_audit_action *action = walk->action;
	int code = walk_on(walk);

	while ((!code || code == EXIT_CONNECT) && !ctl_output_is_gone()) {
		if (!code)
			nanosleep(&pause, NULL);
		else if (ctl_admin_reconnect(action->ctl, &action->admin))
			break;
		code = walk_on(walk);
	}
	return ctl_output_is_gone() ? EXIT_OK : code;
}

int ctl_audit_tail(struct ctl_audit_action *action)
{
	struct audit_walk walk = {.action = action, .take = take_print, .left = UINT64_MAX};
	int code = tail_start(action, &walk.after);

	ctl_audit_table_init(&walk.table);
	if (!code)
		code = action->options.follow ? follow(&walk) : walk_on(&walk);
	table_deinit(&walk.table);
	return code;
}

/* ---- show ---- */

static int show_missing(const vmsig_audit_page *page, uint64_t id)
{
	(void)ctl_fail(VMSIG_ERR_BAD_REQUEST,
		"there is no record %" PRIu64 " in the log; it has %" PRIu64 " to %" PRIu64, id,
		page->first, page->head);
	return EXIT_NOT_FOUND;
}

int ctl_audit_show(struct ctl_audit_action *action)
{
	struct ctl_audit_entry entry;
	vmsig_audit_page *page;
	uint64_t id;
	int code;

	if (!text_number(action->args[0], &id) || id == 0) {
		(void)ctl_fail(VMSIG_ERR_BAD_REQUEST,
			"'%s' is no id of a record; see `vmsigctl audit ls`", action->args[0]);
		return EXIT_USAGE;
	}
	code = ctl_audit_page(action, id - 1, 1, false, &page);
	if (code)
		return code;
	if (page->count == 0 || page->rows[0].id != id) {
		code = show_missing(page, id);
		goto out;
	}
	entry = ctl_audit_page_entry(page, 0);
	if (action->ctl->json)
		code = ctl_print_json(ctl_audit_entry_json(&entry));
	else
		ctl_audit_entry_print(&entry);
	ctl_audit_entry_deinit(&entry);
out:
	vmsig_audit_page_free(page);
	return code;
}
