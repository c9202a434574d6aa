/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verifies an export: lines of JSON, each with a record as it is stored and, for readers,
 * decoded. The record is decoded again, so that the readable part cannot say anything else
 * than the proven one.
 */
#include "clients/ctl/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line's members that prove something. */
struct line {
	uint64_t id;
	uint8_t hash[AUDITCHAIN_HASH], previous[AUDITCHAIN_HASH];
	uint8_t *body;
	size_t body_len;
};

static bool member_hash(const json_t *json, const char *key, uint8_t *ret_hash)
{
	const char *text = json_string_value(json_object_get(json, key));
	size_t len = 0;

	return text && text_hex_parse(text, AUDITCHAIN_HASH, ret_hash, &len) &&
	       len == AUDITCHAIN_HASH;
}

/* The caller frees ret_line->body. */
static bool line_parse(const json_t *json, struct line *ret_line)
{
	const json_t *id = json_object_get(json, "id");
	const char *body = json_string_value(json_object_get(json, "body"));

	if (!json_is_integer(id) || json_integer_value(id) < 1 || !body)
		return false;
	ret_line->id = (uint64_t)json_integer_value(id);
	ret_line->body = malloc(strlen(body) + 1);
	return ret_line->body &&
	       text_hex_parse(body, strlen(body), ret_line->body, &ret_line->body_len) &&
	       member_hash(json, "hash", ret_line->hash) &&
	       member_hash(json, "previous", ret_line->previous);
}

/* The first member that does not say what the record says; NULL: none. */
static const char *line_lie(json_t *json, const struct line *line, json_t *truth)
{
	const char *key;
	json_t *value;

	json_object_foreach (json, key, value) {
		if (!json_equal(value, json_object_get(truth, key)))
			return key;
	}
	return NULL;
}

struct import {
	struct auditchain *chain;
	uint64_t noted;
	const uint8_t *noted_hash;
	struct ctl_audit_verdict *verdict;
	uint64_t lines;
	uint8_t previous[AUDITCHAIN_HASH];
};

static int line_compare(struct import *import, json_t *json, const struct line *line)
{
	struct ctl_audit_entry entry =
		ctl_audit_entry_of(line->id, line->body, line->body_len, line->hash);
	json_t *truth = ctl_audit_entry_export(&entry, import->previous);
	const char *lie;

	ctl_audit_entry_deinit(&entry);
	if (!truth)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "no memory for line %" PRIu64, import->lines);
	lie = line_lie(json, line, truth);
	if (lie)
		ctl_audit_break(import->verdict, line->id,
			"record %" PRIu64 " does not say what line %" PRIu64
			" has under \"%s\": the line was edited",
			line->id, import->lines, lie);
	json_decref(truth);
	return EXIT_OK;
}

static int line_add(struct import *import, json_t *json, const struct line *line)
{
	struct auditchain *chain = import->chain;
	int r;

	if (import->lines == 1) {
		if (line->id > 1)
			memcpy(import->previous, line->previous, AUDITCHAIN_HASH);
		auditchain_start(chain, line->id - 1, line->previous);
		auditchain_note(chain, import->noted, import->noted_hash);
		import->verdict->first = line->id;
	}
	r = ctl_audit_verdict_add(
		import->verdict, chain, line->id, line->body, line->body_len, line->hash);
	if (r)
		return ctl_fail(r, "%s", auditchain_error(chain));
	if (import->verdict->broken)
		return EXIT_OK;
	r = line_compare(import, json, line);
	memcpy(import->previous, line->hash, AUDITCHAIN_HASH);
	return r;
}

static int line_import(struct import *import, const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct line line = {0};
	int code = EXIT_OK;

	import->lines++;
	if (line_parse(json, &line))
		code = line_add(import, json, &line);
	else
		ctl_audit_break(import->verdict, 0,
			"line %" PRIu64 " is not a record as `vmsigctl audit export` writes it",
			import->lines);
	free(line.body);
	json_decref(json);
	return code;
}

int ctl_audit_import(const char *path, struct auditchain *chain, uint64_t noted,
	const uint8_t noted_hash[static AUDITCHAIN_HASH], struct ctl_audit_verdict *ret_verdict)
{
	struct import import = {
		.chain = chain, .noted = noted, .noted_hash = noted_hash, .verdict = ret_verdict};
	FILE *file = strcmp(path, "-") ? fopen(path, "re") : stdin;
	size_t size = 0;
	char *text = NULL;
	int code = EXIT_OK;
	ssize_t len;

	if (!file)
		return ctl_fail(VMSIG_ERR_IO, "cannot open %s: %s", path, strerror(errno));
	errno = 0;
	while (!code && !ret_verdict->broken && (len = getline(&text, &size, file)) >= 0)
		code = line_import(&import, text, (size_t)len);
	if (!code && ferror(file))
		code = ctl_fail(VMSIG_ERR_IO, "cannot read %s: %s", path, strerror(errno));
	else if (!code && import.lines == 0)
		code = ctl_fail(VMSIG_ERR_BAD_REQUEST, "%s has no record",
			file == stdin ? "the standard input" : path);
	free(text);
	if (file != stdin)
		fclose(file);
	return code;
}
