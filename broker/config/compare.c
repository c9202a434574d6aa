/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/compare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/check.h"
#include "broker/config/decode.h"
#include "broker/config/equal.h"
#include "broker/config/keys.h"
#include "broker/config/scalar.h"

#define FROM_THE_START "from the next start on"

/* ---- what changed ---- */

static int note(struct compare_result *result, enum compare_section section, enum compare_kind kind,
	bool warns, const char *name, const char *detail)
{
	struct compare_change *change;

	result->counts[section][kind]++;
	if (result->nchanges == COMPARE_CHANGES_MAX)
		return 0;
	if (!result->changes)
		result->changes = calloc(COMPARE_CHANGES_MAX, sizeof(*result->changes));
	if (!result->changes)
		return -ENOMEM;
	change = &result->changes[result->nchanges++];
	change->section = section;
	change->kind = kind;
	change->warns = warns;
	snprintf(change->name, sizeof(change->name), "%s", name);
	snprintf(change->detail, sizeof(change->detail), "%s", detail);
	return 0;
}

/* Its texts, as far as they fit. */
static void list_text(const struct decode_field *field, const void *object, char *buf, size_t size)
{
	size_t n = equal_count(object, field), len = 0;

	snprintf(buf, size, "none");
	for (size_t i = 0; i < n && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? " " : "",
			equal_text_of(object, field, i));
}

static void value_text(const struct decode_field *field, const void *object, char *buf, size_t size)
{
	if (equal_is_text_list(field->type)) {
		list_text(field, object, buf, size);
	} else if (equal_is_text(field->type)) {
		const char *text = equal_text(object, field->offset);

		snprintf(buf, size, "%s", text ? text : "none");
	} else if (field->type == DECODE_ENUM) {
		const struct decode_choice *choice = field->choices;

		while (choice->name && choice->value != (int)equal_number(object, field))
			choice++;
		snprintf(buf, size, "%s", choice->name ? choice->name : "?");
	} else {
		scalar_format(field->type, equal_number(object, field), buf, size);
	}
}

/* What of a setting is read at the start alone, by the begin of its name; NULL: nothing. */
static const char *part_of_start(const char *name)
{
	static const char all[] = "";
	static const struct {
		const char *begin, *part;
	} settings[] = {{"state_dir", all}, {"audit.size", "the size of its steps "},
		{"sandbox.", all}, {"fleet.ca", NULL}, {"fleet.cert", NULL}, {"fleet.key", NULL},
		{"fleet.", all}};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (strncmp(name, settings[i].begin, strlen(settings[i].begin)) == 0)
			return settings[i].part;
	}
	return NULL;
}

static int note_setting(struct compare_result *result, enum compare_section section,
	const char *name, const struct decode_field *field, const void *old, const void *new)
{
	const char *part = part_of_start(name);
	char from[48], to[48], later[64] = "", detail[176];

	if (equal_value(field, old, new))
		return 0;
	value_text(field, old, from, sizeof(from));
	value_text(field, new, to, sizeof(to));
	if (part)
		snprintf(later, sizeof(later), "; %s" FROM_THE_START, part);
	snprintf(detail, sizeof(detail), "%s -> %s%s", from, to, later);
	return note(result, section, COMPARE_CHANGED, part != NULL, name, detail);
}

/* The sections of the file that are no lists. */
static int compare_map(struct compare_result *result, enum compare_section section,
	const char *prefix, const struct decode_field *fields, const struct config *old,
	const struct config *new)
{
	int r = 0;

	for (; !r && fields->key; fields++) {
		char name[96];

		snprintf(name, sizeof(name), "%s.%s", prefix, fields->key);
		if (fields->type == DECODE_MAP)
			r = compare_map(result, section, name, fields->fields, old, new);
		else
			r = note_setting(result, section, name, fields, old, new);
	}
	return r;
}

/* The threads and processes of the write plane are made at the start. */
static int note_socket(
	struct compare_result *result, const char *name, const struct config_listen *new)
{
	bool later = strcmp(name, "write") == 0;
	char detail[160];

	snprintf(detail, sizeof(detail), "%.64s%s", new->path,
		later ? "; bulk data, and stopping guests around writes, " FROM_THE_START : "");
	return note(result, COMPARE_LISTEN, COMPARE_ADDED, later, name, detail);
}

static int compare_listen(struct compare_result *result, const char *name,
	const struct config_listen *old, const struct config_listen *new)
{
	char detail[160];

	if (new->given && !old->given)
		return note_socket(result, name, new);
	if (old->given && !new->given)
		return note(result, COMPARE_LISTEN, COMPARE_REMOVED, false, name, old->path);
	if (!new->given || (strcmp(old->path, new->path) == 0 && old->mode == new->mode))
		return 0;
	snprintf(detail, sizeof(detail), "%.64s mode %o -> %.64s mode %o", old->path, old->mode,
		new->path, new->mode);
	return note(result, COMPARE_LISTEN, COMPARE_CHANGED, false, name, detail);
}

static int compare_sockets(
	struct compare_result *result, const struct config *old, const struct config *new)
{
	int r = compare_listen(result, "ctx", &old->ctx, &new->ctx);

	if (!r)
		r = compare_listen(result, "write", &old->write, &new->write);
	return r ? r : compare_listen(result, "admin", &old->admin, &new->admin);
}

static int compare_settings(
	struct compare_result *result, const struct config *old, const struct config *new)
{
	const struct decode_field *field = keys_config;
	int r = 0;

	for (; !r && field->key; field++) {
		if (strcmp(field->key, "discover") == 0 && !equal_value(field, old, new))
			r = note(result, COMPARE_SETTINGS, COMPARE_CHANGED, false, field->key,
				"looked for as it says now");
		else if (strcmp(field->key, "listen") == 0)
			r = compare_sockets(result, old, new);
		else if (strcmp(field->key, "limits") == 0)
			r = compare_map(
				result, COMPARE_LIMITS, field->key, field->fields, old, new);
		else if (field->type == DECODE_MAP)
			r = compare_map(
				result, COMPARE_SETTINGS, field->key, field->fields, old, new);
		else if (field->type != DECODE_LIST)
			r = note_setting(result, COMPARE_SETTINGS, field->key, field, old, new);
	}
	return r;
}

/* ---- lists by name ---- */

static int compare_endpoints(
	struct compare_result *result, const struct config *old, const struct config *new)
{
	size_t i = 0, j = 0;
	int r = 0;

	while (!r && (i < old->nendpoints || j < new->nendpoints)) {
		const struct config_endpoint *a = i < old->nendpoints ? old->by_name[i] : NULL;
		const struct config_endpoint *b = j < new->nendpoints ? new->by_name[j] : NULL;
		int order = a && b ? strcmp(a->name, b->name) : a ? -1 : 1;

		if (a && order < 0)
			r = note(result, COMPARE_ENDPOINTS, COMPARE_REMOVED, false, a->name, "");
		else if (b && order > 0)
			r = note(result, COMPARE_ENDPOINTS, COMPARE_ADDED, false, b->name, "");
		else if (a && b && !config_endpoint_equal(a, b))
			r = note(result, COMPARE_ENDPOINTS, COMPARE_CHANGED, false, a->name,
				"starts anew, in another epoch");
		i += order <= 0;
		j += order >= 0;
	}
	return r;
}

static const struct decode_field *tenant_fields(void)
{
	const struct decode_field *field = keys_config;

	while (strcmp(field->key, "tenants") != 0)
		field++;
	return field->fields;
}

/* `new`: the configuration that it is in now; NULL: it is gone. */
static int note_tenant(struct compare_result *result, enum compare_kind kind,
	const struct config *new, const struct grant_tenant *tenant, const char *keys)
{
	const char *idle = new ? check_idle_pattern(new, tenant) : NULL;
	char name[96], detail[160];

	snprintf(detail, sizeof(detail), "%.64s", keys);
	if (idle)
		snprintf(detail, sizeof(detail), "%.64s%s'%.60s' names no endpoint", keys,
			keys[0] ? "; " : "", idle);

	snprintf(name, sizeof(name), "%s/%s", identity_role_name((enum identity_role)tenant->role),
		tenant->tenant.name);
	return note(result, COMPARE_TENANTS, kind, idle != NULL, name, detail);
}

/* The keys that are different. */
static int note_tenant_change(struct compare_result *result, const struct config *new,
	const struct grant_tenant *a, const struct grant_tenant *b)
{
	char keys[160] = "";

	for (const struct decode_field *field = tenant_fields(); field->key; field++) {
		size_t len = strlen(keys);

		if (!equal_value(field, a, b))
			snprintf(keys + len, sizeof(keys) - len, "%s%s", len ? ", " : "",
				field->key);
	}
	return keys[0] ? note_tenant(result, COMPARE_CHANGED, new, b, keys) : 0;
}

static int compare_tenants(
	struct compare_result *result, const struct config *old, const struct config *new)
{
	size_t i = 0, j = 0;
	int r = 0;

	while (!r && (i < old->ntenants || j < new->ntenants)) {
		const struct grant_tenant *a = i < old->ntenants ? old->by_identity[i] : NULL;
		const struct grant_tenant *b = j < new->ntenants ? new->by_identity[j] : NULL;
		int order = a && b ? grant_order(a->role, a->tenant.name, b) : a ? -1 : 1;

		if (a && order < 0)
			r = note_tenant(result, COMPARE_REMOVED, NULL, a, "");
		else if (b && order > 0)
			r = note_tenant(result, COMPARE_ADDED, new, b, "");
		else if (a && b)
			r = note_tenant_change(result, new, a, b);
		i += order <= 0;
		j += order >= 0;
	}
	return r;
}

/* ---- the whole ---- */

int compare_configs(
	struct compare_result *ret_result, const struct config *old, const struct config *config)
{
	int r;

	*ret_result = (struct compare_result){0};
	r = compare_endpoints(ret_result, old, config);
	if (!r)
		r = compare_tenants(ret_result, old, config);
	return r ? r : compare_settings(ret_result, old, config);
}

void compare_deinit(struct compare_result *result)
{
	free(result->changes);
	*result = (struct compare_result){0};
}

bool compare_is_empty(const struct compare_result *result)
{
	return result->nchanges == 0;
}

const char *compare_kind_name(enum compare_kind kind)
{
	static const char *const names[COMPARE_KINDS] = {
		[COMPARE_ADDED] = "added",
		[COMPARE_REMOVED] = "removed",
		[COMPARE_CHANGED] = "changed",
	};

	return names[kind];
}

const char *compare_section_name(enum compare_section section)
{
	static const char *const names[COMPARE_SECTIONS] = {
		[COMPARE_ENDPOINTS] = "endpoints",
		[COMPARE_TENANTS] = "tenants",
		[COMPARE_LISTEN] = "listen",
		[COMPARE_LIMITS] = "limits",
		[COMPARE_SETTINGS] = "settings",
	};

	return names[section];
}
