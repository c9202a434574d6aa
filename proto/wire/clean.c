/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/clean.h"

#include <string.h>

#include "proto/utf8.h"

static void clean_text(char *text)
{
	/* One that is empty may be the descriptor's, which nobody may write to. */
	if (text && *text)
		utf8_clean(text, strlen(text) + 1, text);
}

static void clean_one(const ProtobufCFieldDescriptor *field, void *value)
{
	if (!value)
		return;
	if (field->type == PROTOBUF_C_TYPE_STRING)
		clean_text(value);
	else
		clean_texts(value);
}

/* How many values the field has, and where they are. */
static size_t values_of(
	ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, void ***ret_values)
{
	char *member = (char *)message + field->offset;
	const char *quantifier = (const char *)message + field->quantifier_offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		*ret_values = *(void ***)(void *)member;
		return *(const size_t *)(const void *)quantifier;
	}
	*ret_values = (void **)(void *)member;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)(const void *)quantifier == field->id;
	return 1;
}

void clean_texts(ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;

	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		void **values;
		size_t n;

		if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		n = values_of(message, field, &values);
		for (size_t j = 0; j < n; j++)
			clean_one(field, values[j]);
	}
}
