/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/pack.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What is still free lies before `at`. */
struct out {
	uint8_t *begin, *at;
};

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2 };

struct form {
	uint8_t wire; /* enum wire_type */
	uint8_t size; /* of the value in memory */
};

/* Of the types that our messages have; put_value() knows no other. */
static const struct form forms[] = {
	[PROTOBUF_C_TYPE_UINT32] = {WIRE_VARINT, sizeof(uint32_t)},
	[PROTOBUF_C_TYPE_UINT64] = {WIRE_VARINT, sizeof(uint64_t)},
	[PROTOBUF_C_TYPE_FIXED64] = {WIRE_64, sizeof(uint64_t)},
	[PROTOBUF_C_TYPE_BOOL] = {WIRE_VARINT, sizeof(protobuf_c_boolean)},
	[PROTOBUF_C_TYPE_ENUM] = {WIRE_VARINT, sizeof(int32_t)},
	[PROTOBUF_C_TYPE_STRING] = {WIRE_BYTES, sizeof(char *)},
	[PROTOBUF_C_TYPE_BYTES] = {WIRE_BYTES, sizeof(ProtobufCBinaryData)},
	[PROTOBUF_C_TYPE_MESSAGE] = {WIRE_BYTES, sizeof(ProtobufCMessage *)},
};

static bool put_bytes(struct out *out, const void *data, size_t len)
{
	if (len > (size_t)(out->at - out->begin))
		return false;
	out->at -= len;
	if (len)
		memcpy(out->at, data, len);
	return true;
}

static bool put_long_varint(struct out *out, uint64_t value)
{
	uint8_t *at;
	size_t len = 1;

	for (uint64_t rest = value >> 7; rest; rest >>= 7)
		len++;
	if (len > (size_t)(out->at - out->begin))
		return false;
	at = out->at -= len;
	for (; value > 0x7f; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at = (uint8_t)value;
	return true;
}

static inline bool put_varint(struct out *out, uint64_t value)
{
	if (value > 0x7f || out->at == out->begin)
		return put_long_varint(out, value);
	*--out->at = (uint8_t)value;
	return true;
}

static bool put_tag(struct out *out, const ProtobufCFieldDescriptor *field, enum wire_type wire)
{
	return put_varint(out, (uint64_t)field->id << 3 | wire);
}

static bool put_message(struct out *out, const ProtobufCMessage *message);

static bool put_nested(struct out *out, const ProtobufCMessage *message)
{
	const uint8_t *end = out->at;

	return put_message(out, message) && put_varint(out, (uint64_t)(end - out->at));
}

static bool put_text(struct out *out, const char *text)
{
	size_t len = strlen(text);

	return put_bytes(out, text, len) && put_varint(out, len);
}

static bool put_64(struct out *out, uint64_t value)
{
	value = htole64(value);
	return put_bytes(out, &value, sizeof(value));
}

/* No pointer in it is NULL. */
static bool put_value(struct out *out, ProtobufCType type, const void *value)
{
	const ProtobufCBinaryData *bytes = value;

	switch (type) {
	case PROTOBUF_C_TYPE_UINT32:
		return put_varint(out, *(const uint32_t *)value);
	case PROTOBUF_C_TYPE_UINT64:
		return put_varint(out, *(const uint64_t *)value);
	case PROTOBUF_C_TYPE_FIXED64:
		return put_64(out, *(const uint64_t *)value);
	case PROTOBUF_C_TYPE_BOOL:
		return put_varint(out, *(const protobuf_c_boolean *)value != 0);
	case PROTOBUF_C_TYPE_ENUM:
		return put_varint(out, (uint64_t)(int64_t) * (const int32_t *)value);
	case PROTOBUF_C_TYPE_STRING:
		return put_text(out, *(char *const *)value);
	case PROTOBUF_C_TYPE_BYTES:
		return put_bytes(out, bytes->data, bytes->len) && put_varint(out, bytes->len);
	case PROTOBUF_C_TYPE_MESSAGE:
		return put_nested(out, *(ProtobufCMessage *const *)value);
	default:
		return false;
	}
}

static const void *pointed_at(const void *value)
{
	return *(const void *const *)value;
}

/* Whether it is to be told: what is as without having been said is not. */
static bool is_said(const ProtobufCFieldDescriptor *field, const void *value)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return *(const uint64_t *)value != 0;
	case PROTOBUF_C_TYPE_STRING:
		return pointed_at(value) && **(char *const *)value;
	case PROTOBUF_C_TYPE_BYTES:
		return ((const ProtobufCBinaryData *)value)->len != 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		return pointed_at(value) != NULL;
	default:
		return *(const uint32_t *)value != 0;
	}
}

/* Of a oneof: what its case says, be it empty. */
static bool is_chosen(
	const ProtobufCFieldDescriptor *field, const void *value, const uint32_t *quantifier)
{
	bool points =
		field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING;

	return *quantifier == field->id &&
	       (!points || (pointed_at(value) && pointed_at(value) != field->default_value));
}

static bool put_list(
	struct out *out, const ProtobufCFieldDescriptor *field, const uint8_t *values, size_t n)
{
	const struct form *form = &forms[field->type];
	const uint8_t *end = out->at;
	bool is_packed = field->flags & PROTOBUF_C_FIELD_FLAG_PACKED;

	for (size_t i = n; i-- > 0;) {
		if (!put_value(out, field->type, values + i * form->size))
			return false;
		if (!is_packed && !put_tag(out, field, form->wire))
			return false;
	}
	return !is_packed || !n ||
	       (put_varint(out, (uint64_t)(end - out->at)) && put_tag(out, field, WIRE_BYTES));
}

static bool put_field(
	struct out *out, const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message)
{
	const uint8_t *base = (const uint8_t *)message;
	const void *value = base + field->offset, *quantifier = base + field->quantifier_offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return put_list(out, field, pointed_at(value), *(const size_t *)quantifier);
	if (field->label != PROTOBUF_C_LABEL_NONE)
		return false;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? !is_chosen(field, value, quantifier)
						       : !is_said(field, value))
		return true;
	return put_value(out, field->type, value) && put_tag(out, field, forms[field->type].wire);
}

static bool put_message(struct out *out, const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;

	if (message->n_unknown_fields)
		return false;
	for (unsigned i = type->n_fields; i-- > 0;)
		if (!put_field(out, &type->fields[i], message))
			return false;
	return true;
}

bool pack_backwards(const ProtobufCMessage *message, uint8_t *room, size_t size, size_t *ret_len)
{
	struct out out = {.begin = room, .at = room + size};

	if (!put_message(&out, message))
		return false;
	*ret_len = (size_t)(room + size - out.at);
	return true;
}

int packed_init(struct packed *packed, const ProtobufCMessage *message)
{
	packed->heap = NULL;
	if (pack_backwards(message, packed->room, sizeof(packed->room), &packed->len)) {
		packed->data = packed->room + sizeof(packed->room) - packed->len;
		return 0;
	}
	packed->len = protobuf_c_message_get_packed_size(message);
	packed->heap = malloc(packed->len ? packed->len : 1);
	if (!packed->heap)
		return -ENOMEM;
	protobuf_c_message_pack(message, packed->heap);
	packed->data = packed->heap;
	return 0;
}

void packed_deinit(struct packed *packed)
{
	free(packed->heap);
}
