/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/message.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Numbers that people and jq read: what has all bits set is "no bound". */
static json_t *number_json(uint64_t value)
{
	return value == UINT64_MAX ? json_null() : json_integer((json_int_t)value);
}

static json_t *enum_json(const ProtobufCEnumDescriptor *type, int value)
{
	const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);
	char name[48];

	snprintf(name, sizeof(name), "%s", found ? found->name : "unknown");
	for (char *c = name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return json_string(name);
}

static json_t *text_json(const char *text)
{
	json_t *json = json_string(text ? text : "");

	/* What is not UTF-8 comes from nobody who means well. */
	return json ? json : json_string("?");
}

static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *value)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)value);
	case PROTOBUF_C_TYPE_ENUM:
		return enum_json(field->descriptor, *(const int *)value);
	case PROTOBUF_C_TYPE_STRING:
		return text_json(*(char *const *)value);
	case PROTOBUF_C_TYPE_MESSAGE:
		return ctl_message_json(*(ProtobufCMessage *const *)value);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return number_json(*(const uint32_t *)value);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return number_json(*(const uint64_t *)value);
	default:
		return json_null();
	}
}

static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_ENUM:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return sizeof(uint64_t);
	default:
		return sizeof(void *);
	}
}

static json_t *list_json(const ProtobufCFieldDescriptor *field, const char *values, size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, value_json(field, values + i * size_of(field->type)));
	return array;
}

json_t *ctl_message_json(const ProtobufCMessage *message)
{
	json_t *json;

	if (!message)
		return json_null();
	json = json_object();
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *value = (const char *)message + field->offset;

		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			json_object_set_new(json, field->name,
				list_json(field, *(char *const *)(const void *)value,
					*(const size_t *)(const void *)((const char *)message +
									field->quantifier_offset)));
		else
			json_object_set_new(json, field->name, value_json(field, value));
	}
	return json;
}
