/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/equal.h"
#include "broker/config/keys.h"
#include "broker/config/scalar.h"

#define PATH_ROOM 160 /* of "tenants/9999/write/1023/endpoints/4095" */

struct explain {
	const struct config *config;
	const struct decode_lines *lines;
	struct selector_subject subject;
	const struct config_endpoint *endpoint; /* NULL: it is not in the configuration */
};

/* ---- values and their lines ---- */

/* Of an element of a list; one that would not fit is nowhere in the file. */
static void path_join(char at[static PATH_ROOM], const char *path, const char *list, size_t index)
{
	if (snprintf(at, PATH_ROOM, "%s/%s/%zu", path, list, index) >= PATH_ROOM)
		at[0] = '\0';
}

/* 0: a default. */
static json_t *line_json(const struct explain *explain, const char *path)
{
	unsigned line = decode_line_of(explain->lines, path);

	return line ? json_integer(line) : json_null();
}

static void value_text(const struct decode_field *field, const void *object, char *buf, size_t size)
{
	const struct decode_choice *choice = field->choices;

	if (field->type != DECODE_ENUM) {
		scalar_format(field->type, equal_number(object, field), buf, size);
		return;
	}
	while (choice->name && choice->value != (int)equal_number(object, field))
		choice++;
	snprintf(buf, size, "%s", choice->name ? choice->name : "?");
}

static bool is_setting(const struct decode_field *field)
{
	return field->type >= DECODE_UINT32 && field->type <= DECODE_ENUM && !field->required;
}

/* Numbers and choices of a table, of nested ones too. */
static void settings_add(const struct explain *explain, json_t *settings,
	const struct decode_field *fields, const void *object, const char *path, const char *prefix)
{
	for (; fields->key; fields++) {
		char below[PATH_ROOM], key[64], value[64];

		snprintf(below, sizeof(below), "%s/%s", path, fields->key);
		snprintf(key, sizeof(key), "%s%s", prefix, fields->key);
		if (fields->type == DECODE_MAP) {
			strncat(key, ".", sizeof(key) - strlen(key) - 1);
			settings_add(explain, settings, fields->fields, object, below, key);
		}
		if (!is_setting(fields))
			continue;
		value_text(fields, object, value, sizeof(value));
		json_array_append_new(settings, json_pack("{s:s, s:s, s:o}", "key", key, "value",
							value, "line", line_json(explain, below)));
	}
}

static const struct decode_field *table_of(const struct decode_field *fields, const char *key)
{
	while (strcmp(fields->key, key) != 0)
		fields++;
	return fields->fields;
}

/* The selector that fits first, and its line; NULL: none does. */
static json_t *match_json(
	const struct explain *explain, char *const *selectors, size_t n, const char *path)
{
	size_t i = selector_find(selectors, n, &explain->subject);
	char at[PATH_ROOM];

	if (i == n)
		return NULL;
	path_join(at, path, "endpoints", i);
	return json_pack("{s:s, s:o}", "selector", selectors[i], "line", line_json(explain, at));
}

/* ---- writing ---- */

static const char *why_not(
	const struct explain *explain, const struct grant_tenant *tenant, bool matches)
{
	if (tenant->role != IDENTITY_OPERATOR)
		return "only operators write";
	if (!explain->config->write.given)
		return "there is no listen.write, so nobody writes";
	if (!tenant->nrules)
		return "there is no 'write' rule";
	if (!matches)
		return "no 'write' rule names the endpoint";
	if (explain->endpoint && !explain->endpoint->writable)
		return "the endpoint is not writable: yes";
	return NULL;
}

static json_t *ranges_json(
	const struct explain *explain, const struct grant_rule *rule, const char *path)
{
	json_t *ranges = json_array();

	for (size_t i = 0; i < rule->nranges; i++) {
		char at[PATH_ROOM], text[64];

		path_join(at, path, "ranges", i);
		snprintf(text, sizeof(text), "0x%llx+0x%llx",
			(unsigned long long)rule->ranges[i].gpa,
			(unsigned long long)rule->ranges[i].len);
		json_array_append_new(ranges,
			json_pack("{s:s, s:o}", "range", text, "line", line_json(explain, at)));
	}
	return ranges;
}

static json_t *write_json(
	const struct explain *explain, const struct grant_tenant *tenant, const char *path)
{
	const struct grant_rule *rule = grant_write_rule(tenant, &explain->subject);
	const char *why = why_not(explain, tenant, rule != NULL);
	json_t *write = json_pack("{s:b}", "allowed", why == NULL), *settings;
	char at[PATH_ROOM];

	if (why)
		json_object_set_new(write, "why", json_string(why));
	if (!rule)
		return write;
	path_join(at, path, "write", (size_t)(rule - tenant->rules));
	json_object_set_new(write, "line", line_json(explain, at));
	json_object_set_new(
		write, "match", match_json(explain, rule->endpoints, rule->nendpoints, at));
	json_object_set_new(write, "ranges", ranges_json(explain, rule, at));
	settings = json_array();
	settings_add(explain, settings, table_of(table_of(keys_config, "tenants"), "write"), rule,
		at, "");
	json_object_set_new(write, "settings", settings);
	return write;
}

/* ---- an entry of the policy ---- */

static json_t *role_json(
	const struct explain *explain, const struct grant_tenant *tenant, bool *ret_sees)
{
	json_t *role, *match, *settings = json_array();
	char path[PATH_ROOM];

	snprintf(path, sizeof(path), "tenants/%zu", (size_t)(tenant - explain->config->tenants));
	match = match_json(explain, tenant->tenant.endpoints, tenant->tenant.nendpoints, path);
	*ret_sees = match != NULL;
	role = json_pack("{s:s, s:s, s:o, s:b}", "role",
		identity_role_name((enum identity_role)tenant->role), "tenant", tenant->tenant.name,
		"line", line_json(explain, path), "sees", *ret_sees);
	if (!match) {
		json_decref(settings);
		return role;
	}
	json_object_set_new(role, "match", match);
	settings_add(explain, settings, table_of(keys_config, "tenants"), tenant, path, "");
	json_object_set_new(role, "settings", settings);
	json_object_set_new(role, "write", write_json(explain, tenant, path));
	return role;
}

static bool is_meant(const struct grant_tenant *tenant, const char *who)
{
	const char *role = identity_role_name((enum identity_role)tenant->role);
	const char *slash = strchr(who, '/');
	size_t len = slash ? (size_t)(slash - who) : 0;

	if (slash && (strlen(role) != len || strncmp(role, who, len) != 0))
		return false;
	return strcmp(slash ? slash + 1 : who, tenant->tenant.name) == 0;
}

static json_t *endpoint_json(const struct explain *explain)
{
	const struct config_endpoint *endpoint = explain->endpoint;
	json_t *json = json_pack(
		       "{s:s, s:b}", "name", explain->subject.name, "configured", endpoint != NULL),
	       *labels = json_array();
	char path[PATH_ROOM];

	for (size_t i = 0; i < explain->subject.nlabels; i++)
		json_array_append_new(labels, json_string(explain->subject.labels[i]));
	json_object_set_new(json, "labels", labels);
	if (!endpoint)
		return json;
	snprintf(path, sizeof(path), "endpoints/%zu",
		(size_t)(endpoint - explain->config->endpoints));
	json_object_set_new(json, "line", line_json(explain, path));
	json_object_set_new(json, "writable", json_boolean(endpoint->writable));
	return json;
}

json_t *explain_json(const struct config *config, const struct decode_lines *lines, const char *who,
	const char *endpoint, bool *ret_granted)
{
	struct explain explain = {.config = config,
		.lines = lines,
		.subject = selector_named(endpoint),
		.endpoint = config_endpoint_find(config, endpoint)};
	json_t *roles = json_array();

	*ret_granted = false;
	if (explain.endpoint)
		explain.subject = config_endpoint_subject(explain.endpoint);
	for (size_t i = 0; i < config->ntenants; i++) {
		bool sees;

		if (!is_meant(&config->tenants[i], who))
			continue;
		json_array_append_new(roles, role_json(&explain, &config->tenants[i], &sees));
		*ret_granted |= sees;
	}
	return json_pack("{s:s, s:s, s:b, s:o, s:o}", "file", config->file, "who", who, "granted",
		*ret_granted, "endpoint", endpoint_json(&explain), "roles", roles);
}

/* ---- for people ---- */

static const char *string_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static void line_print(FILE *out, const json_t *json)
{
	const json_t *line = json_object_get(json, "line");

	if (json_is_integer(line))
		fprintf(out, " (line %d)", (int)json_integer_value(line));
	else
		fputs(" (default)", out);
}

static void match_print(FILE *out, const json_t *json)
{
	const json_t *match = json_object_get(json, "match");

	fprintf(out, "'%s'", string_of(match, "selector"));
	line_print(out, match);
	fputc('\n', out);
}

static void settings_print(FILE *out, const json_t *settings, const char *indent)
{
	for (size_t i = 0; i < json_array_size(settings); i++) {
		const json_t *setting = json_array_get(settings, i);

		fprintf(out, "%s%s: %s", indent, string_of(setting, "key"),
			string_of(setting, "value"));
		line_print(out, setting);
		fputc('\n', out);
	}
}

static void write_print(FILE *out, const json_t *write)
{
	const json_t *ranges = json_object_get(write, "ranges");

	if (!json_is_true(json_object_get(write, "allowed"))) {
		fprintf(out, "  may not write it: %s\n", string_of(write, "why"));
		return;
	}
	fputs("  may write it, by the rule", out);
	line_print(out, write);
	fputs(" for ", out);
	match_print(out, write);
	for (size_t i = 0; i < json_array_size(ranges); i++) {
		const json_t *range = json_array_get(ranges, i);

		fprintf(out, "    range %s", string_of(range, "range"));
		line_print(out, range);
		fputc('\n', out);
	}
	if (!json_array_size(ranges))
		fputs("    all of it\n", out);
	settings_print(out, json_object_get(write, "settings"), "    ");
}

static void role_print(FILE *out, const json_t *role)
{
	fprintf(out, "%s %s", string_of(role, "role"), string_of(role, "tenant"));
	line_print(out, role);
	fputc('\n', out);
	if (!json_is_true(json_object_get(role, "sees"))) {
		fputs("  does not see it: none of its 'endpoints' matches\n", out);
		return;
	}
	fputs("  sees it, by ", out);
	match_print(out, role);
	settings_print(out, json_object_get(role, "settings"), "  ");
	write_print(out, json_object_get(role, "write"));
}

void explain_print(const json_t *explained, FILE *out)
{
	const json_t *endpoint = json_object_get(explained, "endpoint");
	const json_t *labels = json_object_get(endpoint, "labels");
	const json_t *roles = json_object_get(explained, "roles");

	fprintf(out, "%s\nendpoint %s", string_of(explained, "file"), string_of(endpoint, "name"));
	if (json_is_true(json_object_get(endpoint, "configured")))
		line_print(out, endpoint);
	else
		fputs(" is not in the configuration; one of that name without labels", out);
	for (size_t i = 0; i < json_array_size(labels); i++)
		fprintf(out, "%s%s", i ? ", " : ", labels ",
			json_string_value(json_array_get(labels, i)));
	fputc('\n', out);
	for (size_t i = 0; i < json_array_size(roles); i++)
		role_print(out, json_array_get(roles, i));
	if (!json_array_size(roles))
		fprintf(out,
			"nobody is named '%s' in the policy, and who is not named is granted "
			"nothing\n",
			string_of(explained, "who"));
}
