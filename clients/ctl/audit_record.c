/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/audit_record.h"

#include <ctype.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_error.h"

struct ctl_audit_entry ctl_audit_entry_of(
	uint64_t id, const uint8_t *body, size_t body_len, const uint8_t hash[AUDITCHAIN_HASH])
{
	return (struct ctl_audit_entry){
		.id = id,
		.body = body,
		.body_len = body_len,
		.hash = hash,
		.record = vmsig__audit_record__unpack(NULL, body_len, body),
	};
}

void ctl_audit_entry_deinit(struct ctl_audit_entry *entry)
{
	if (entry->record)
		vmsig__audit_record__free_unpacked(entry->record, NULL);
	entry->record = NULL;
}

/* ---- kinds ---- */

static void kind_name(const ProtobufCEnumValue *value, char ret_name[static AUDIT_KIND_MAX])
{
	snprintf(ret_name, AUDIT_KIND_MAX, "%s", value->name);
	for (char *c = ret_name; *c; c++)
		*c = *c == '_' ? '-' : (char)tolower((unsigned char)*c);
}

void ctl_audit_entry_kind(const struct ctl_audit_entry *entry, char ret_name[static AUDIT_KIND_MAX])
{
	const ProtobufCEnumValue *value;

	if (!entry->record) {
		snprintf(ret_name, AUDIT_KIND_MAX, "damaged");
		return;
	}
	value = protobuf_c_enum_descriptor_get_value(
		&vmsig__audit_record__kind__descriptor, (int)entry->record->kind);
	if (value)
		kind_name(value, ret_name);
	else
		snprintf(ret_name, AUDIT_KIND_MAX, "kind-%d", (int)entry->record->kind);
}

uint64_t ctl_audit_kinds(const char *glob)
{
	const ProtobufCEnumDescriptor *kinds = &vmsig__audit_record__kind__descriptor;
	char name[AUDIT_KIND_MAX];
	uint64_t bits = 0;

	for (unsigned i = 0; i < kinds->n_values; i++) {
		kind_name(&kinds->values[i], name);
		if (kinds->values[i].value != 0 && fnmatch(glob, name, 0) == 0)
			bits |= 1ull << (kinds->values[i].value & 63);
	}
	return bits;
}

void ctl_audit_kind_names(char *text, size_t size)
{
	const ProtobufCEnumDescriptor *kinds = &vmsig__audit_record__kind__descriptor;
	char name[AUDIT_KIND_MAX];
	size_t len = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < kinds->n_values && len < size; i++) {
		kind_name(&kinds->values[i], name);
		if (kinds->values[i].value != 0)
			len += (size_t)snprintf(
				text + len, size - len, "%s%s", len ? ", " : "", name);
	}
}

/* ---- JSON: driven by the message's descriptor, so that a new field is shown as well ---- */

static json_t *json_number(uint64_t value)
{
	return value <= INT64_MAX ? json_integer((json_int_t)value) : value_hex(value);
}

static json_t *json_ranges(const Vmsig__AuditRecord *record)
{
	json_t *array = json_array();

	for (size_t i = 0; i < record->n_ranges; i++)
		json_array_append_new(
			array, json_pack("{s:o, s:o}", "start", value_hex(record->ranges[i]->start),
				       "last", value_hex(record->ranges[i]->last)));
	return array;
}

/* NULL: the member has no value. */
static json_t *json_member(const ProtobufCFieldDescriptor *field, const Vmsig__AuditRecord *record)
{
	const void *member = (const char *)record + field->offset;
	const ProtobufCBinaryData *bytes = member;
	char *const *text = member;
	const uint64_t *wide = member;
	const uint32_t *narrow = member;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return (*text)[0] ? value_text(*text) : NULL;
	case PROTOBUF_C_TYPE_BYTES:
		return bytes->len ? value_bytes(bytes->data, bytes->len) : NULL;
	case PROTOBUF_C_TYPE_FIXED64:
		return *wide ? value_hex(*wide) : NULL;
	case PROTOBUF_C_TYPE_UINT64:
		return *wide ? json_number(*wide) : NULL;
	case PROTOBUF_C_TYPE_UINT32:
		return *narrow ? json_number(*narrow) : NULL;
	case PROTOBUF_C_TYPE_MESSAGE:
		return record->n_ranges ? json_ranges(record) : NULL;
	default:
		return NULL;
	}
}

static json_t *json_time(const Vmsig__AuditRecord *record)
{
	char text[TEXT_TIME_MAX];

	text_time(record->real_ns, 9, text);
	return json_string(text);
}

static json_t *json_boot(const Vmsig__AuditRecord *record)
{
	return json_number(record->boot_ns);
}

static json_t *json_outcome(const Vmsig__AuditRecord *record)
{
	return json_string(vmsig_error_name((int)record->outcome));
}

/* 0 is root when there is somebody, and nothing otherwise. */
static json_t *json_uid(const Vmsig__AuditRecord *record)
{
	return record->tenant[0] ? json_number(record->uid) : NULL;
}

static json_t *json_none(const Vmsig__AuditRecord *record)
{
	return NULL;
}

/* Members that are not shown as their type says. */
static const struct {
	const char *field, *key;
	json_t *(*make)(const Vmsig__AuditRecord *record);
} specials[] = {
	{"id", NULL, json_none}, /* that of the row is shown, and verifying compares */
	{"kind", NULL, json_none},
	{"real_ns", "time", json_time},
	{"boot_ns", "boot_ns", json_boot},
	{"uid", "uid", json_uid},
	{"outcome", "outcome", json_outcome},
};

static void json_add_member(
	json_t *json, const ProtobufCFieldDescriptor *field, const Vmsig__AuditRecord *record)
{
	const char *key = field->name;
	json_t *value;
	size_t i = 0;

	while (i < sizeof(specials) / sizeof(specials[0]) && strcmp(specials[i].field, key) != 0)
		i++;
	if (i < sizeof(specials) / sizeof(specials[0])) {
		value = specials[i].make(record);
		key = specials[i].key;
	} else {
		value = json_member(field, record);
	}
	if (value)
		json_object_set_new(json, key, value);
}

static json_t *json_entry(const struct ctl_audit_entry *entry)
{
	const ProtobufCMessageDescriptor *message = &vmsig__audit_record__descriptor;
	json_t *json = json_object();
	char kind[AUDIT_KIND_MAX];

	ctl_audit_entry_kind(entry, kind);
	json_object_set_new(json, "id", json_number(entry->id));
	json_object_set_new(json, "kind", json_string(kind));
	for (unsigned i = 0; entry->record && i < message->n_fields; i++)
		json_add_member(json, &message->fields[i], entry->record);
	return json;
}

json_t *ctl_audit_entry_json(const struct ctl_audit_entry *entry)
{
	json_t *json = json_entry(entry);

	json_object_set_new(json, "hash", value_bytes(entry->hash, AUDITCHAIN_HASH));
	return json;
}

json_t *ctl_audit_entry_export(
	const struct ctl_audit_entry *entry, const uint8_t previous[static AUDITCHAIN_HASH])
{
	json_t *json = ctl_audit_entry_json(entry);

	if (json_object_set_new(json, "previous", value_bytes(previous, AUDITCHAIN_HASH)) ||
		json_object_set_new(json, "body", value_bytes(entry->body, entry->body_len))) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* ---- lines ---- */

static void print_member(const char *key, const json_t *value)
{
	const json_t *range;
	size_t i;

	if (json_is_integer(value)) {
		printf("%-10s  %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
	} else if (json_is_array(value)) {
		json_array_foreach (value, i, range) {
			printf("%-10s  %s-%s\n", i ? "" : key,
				json_string_value(json_object_get(range, "start")),
				json_string_value(json_object_get(range, "last")));
		}
	} else {
		char *text = strdup(json_string_value(value));

		if (!text)
			return;
		text_clean(text);
		printf("%-10s  %s\n", key, text);
		free(text);
	}
}

void ctl_audit_entry_print(const struct ctl_audit_entry *entry)
{
	json_t *json = ctl_audit_entry_json(entry), *value;
	const char *key;

	json_object_foreach (json, key, value) {
		print_member(key, value);
	}
	json_decref(json);
}
