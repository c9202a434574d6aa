/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl audit verify`: recomputes the chain of hashes, and says where it breaks. */
#include "clients/ctl/audit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 5 /* retention may drop records while they are verified: from the start then */

struct head {
	uint64_t id; /* 0: none */
	uint8_t hash[AUDITCHAIN_HASH];
};

/* "ID:HEX" */
static bool head_parse(const char *text, struct head *ret_head)
{
	const char *colon = strchr(text, ':');
	size_t len = 0;
	char id[24];

	if (!colon || (size_t)(colon - text) >= sizeof(id))
		return false;
	snprintf(id, sizeof(id), "%.*s", (int)(colon - text), text);
	return text_number(id, &ret_head->id) && ret_head->id != 0 &&
	       text_hex_parse(colon + 1, AUDITCHAIN_HASH, ret_head->hash, &len) &&
	       len == AUDITCHAIN_HASH;
}

/* ---- the broker's log ---- */

/* One attempt. */
struct survey {
	struct ctl_audit_action *action;
	struct auditchain *chain;
	const struct head *noted;
	struct ctl_audit_verdict *verdict;
	uint64_t after;
	struct head broker; /* of the first page: how far the attempt goes */
	bool begun, done;
	bool again; /* retention has dropped what comes next */
};

static void survey_begin(struct survey *survey, const vmsig_audit_page *page)
{
	survey->begun = true;
	survey->broker.id = page->head;
	memcpy(survey->broker.hash, page->head_hash, AUDITCHAIN_HASH);
	survey->verdict->first = page->first ? page->first : 1;
	auditchain_start(survey->chain, survey->verdict->first - 1, page->anchor);
	auditchain_note(survey->chain, survey->noted->id, survey->noted->hash);
}

static int survey_row(struct survey *survey, const vmsig_audit_row *row)
{
	int r = ctl_audit_verdict_add(
		survey->verdict, survey->chain, row->id, row->body, row->body_len, row->hash);

	survey->after = row->id;
	return r ? ctl_fail(r, "%s", auditchain_error(survey->chain)) : EXIT_OK;
}

static int survey_page(struct survey *survey)
{
	vmsig_audit_page *page;
	int code = ctl_audit_page(survey->action, survey->after, 0, false, &page);

	if (code)
		return code;
	if (!survey->begun)
		survey_begin(survey, page);
	else
		survey->again = ctl_audit_page_gap(page, survey->after);
	survey->done = survey->again || page->count == 0;
	for (size_t i = 0; !code && !survey->done && i < page->count; i++) {
		code = survey_row(survey, &page->rows[i]);
		survey->done = survey->verdict->broken || survey->after >= survey->broker.id;
	}
	vmsig_audit_page_free(page);
	return code;
}

/* A running broker remembers its head, so that it finds also what no chain shows. */
static void verdict_compare(struct ctl_audit_verdict *verdict, const struct head *broker)
{
	if (verdict->head < broker->id)
		ctl_audit_break(verdict, verdict->head + 1,
			"record %" PRIu64 " is missing: the broker has appended records up to "
			"%" PRIu64 ", and the newest were cut off while it ran",
			verdict->head + 1, broker->id);
	else if (memcmp(verdict->head_hash, broker->hash, AUDITCHAIN_HASH) != 0)
		ctl_audit_break(verdict, broker->id,
			"record %" PRIu64 " has another hash than the broker remembers: it, or "
			"one before it, was replaced while the broker ran",
			broker->id);
}

static int verdict_finish(struct ctl_audit_verdict *verdict, struct auditchain *chain)
{
	int r = ctl_audit_verdict_finish(verdict, chain);

	return r ? ctl_fail(r, "%s", auditchain_error(chain)) : EXIT_OK;
}

static int verify_log(struct ctl_audit_action *action, struct auditchain *chain,
	const struct head *noted, struct ctl_audit_verdict *ret_verdict, bool *ret_again)
{
	struct survey survey = {
		.action = action, .chain = chain, .noted = noted, .verdict = ret_verdict};
	int code = EXIT_OK;

	while (!code && !survey.done)
		code = survey_page(&survey);
	*ret_again = survey.again;
	if (code || survey.again || ret_verdict->broken)
		return code;
	code = verdict_finish(ret_verdict, chain);
	if (!code && !ret_verdict->broken)
		verdict_compare(ret_verdict, &survey.broker);
	return code;
}

static int verify_file(struct ctl_audit_action *action, struct auditchain *chain,
	const struct head *noted, struct ctl_audit_verdict *ret_verdict)
{
	int code =
		ctl_audit_import(action->options.file, chain, noted->id, noted->hash, ret_verdict);

	if (code || ret_verdict->broken)
		return code;
	return verdict_finish(ret_verdict, chain);
}

static int verify_once(struct ctl_audit_action *action, const struct head *noted,
	struct ctl_audit_verdict *ret_verdict, bool *ret_again)
{
	struct auditchain chain;
	int r = auditchain_init(&chain), code;

	*ret_again = false;
	memset(ret_verdict, 0, sizeof(*ret_verdict));
	if (r)
		return ctl_fail(VMSIG_ERR_INTERNAL, "OpenSSL has no SHA-256");
	if (action->options.file)
		code = verify_file(action, &chain, noted, ret_verdict);
	else
		code = verify_log(action, &chain, noted, ret_verdict, ret_again);
	auditchain_deinit(&chain);
	return code;
}

/* ---- the verdict ---- */

static int print_broken(const struct ctl *ctl, const struct ctl_audit_verdict *verdict)
{
	json_t *json;

	if (ctl->json) {
		json = json_pack("{s:b, s:s}", "intact", 0, "error", verdict->error);
		if (verdict->culprit)
			json_object_set_new(
				json, "record", json_integer((json_int_t)verdict->culprit));
		(void)ctl_print_json(json);
	}
	/* Other bytes are there than the chain tells to expect. */
	ctl_fail_with(
		VMSIG_ERR_COMPARE_FAILED, NULL, "the audit log is not intact: %s", verdict->error);
	return EXIT_BROKEN;
}

static int print_intact(const struct ctl *ctl, const struct ctl_audit_verdict *verdict)
{
	char *hash = text_hex(verdict->head_hash, AUDITCHAIN_HASH);
	int code = EXIT_OK;

	if (!hash)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for the head");
	if (ctl->json)
		code = ctl_print_json(json_pack("{s:b, s:I, s:I, s:I, s:I, s:o}", "intact", 1,
			"records", (json_int_t)verdict->records, "first",
			(json_int_t)verdict->first, "last", (json_int_t)verdict->head, "lost",
			(json_int_t)verdict->lost, "head",
			json_sprintf("%" PRIu64 ":%s", verdict->head, hash)));
	else
		printf("intact   %" PRIu64 " records, %" PRIu64 " to %" PRIu64 "\n"
		       "head     %" PRIu64 ":%s\n",
			verdict->records, verdict->first, verdict->head, verdict->head, hash);
	if (verdict->lost)
		ctl_note("record %" PRIu64 " says that the broker's state had lost records: "
			 "power was lost, it was damaged or restored from a backup, or another "
			 "state_dir was configured; see `vmsigctl audit show %" PRIu64 "`",
			verdict->lost, verdict->lost);
	free(hash);
	return code;
}

int ctl_audit_verify(struct ctl_audit_action *action)
{
	struct ctl_audit_verdict verdict;
	struct head noted = {0};
	bool again = true;
	int code = EXIT_OK;

	if (action->options.head && !head_parse(action->options.head, &noted)) {
		(void)ctl_fail(VMSIG_ERR_BAD_REQUEST,
			"'%s' is no head; one is ID:HEX, as `vmsigctl audit verify` prints it",
			action->options.head);
		return EXIT_USAGE;
	}
	for (unsigned i = 0; !code && again && i < TRIES; i++)
		code = verify_once(action, &noted, &verdict, &again);
	if (code)
		return code;
	if (again)
		return ctl_fail(VMSIG_ERR_BUSY,
			"retention drops records faster than they can be verified; try again");
	return verdict.broken ? print_broken(action->ctl, &verdict)
			      : print_intact(action->ctl, &verdict);
}
