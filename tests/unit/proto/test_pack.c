/* SPDX-License-Identifier: Apache-2.0 */
/* What is packed is what protobuf-c packs, whatever is in the message; and what does not fit, or is
 * none of ours, is left to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/pack.h"
#include "proto/wire/vmsig.pb-c.h"

#define ROUNDS 300u
#define LEVELS 5u
#define LIST_MAX 3u
#define MEMORY (1u << 20)

/* Everything that a message of a round points at. */
static uint8_t memory[MEMORY];
static size_t used;
static uint64_t seed;

static const ProtobufCMessageDescriptor *const types[] = {
	&vmsig__ctx_request__descriptor,
	&vmsig__ctx_message__descriptor,
	&vmsig__write_request__descriptor,
	&vmsig__write_message__descriptor,
	&vmsig__admin_request__descriptor,
	&vmsig__admin_message__descriptor,
	&vmsig__audit_record__descriptor,
	&vmsig__hosted__descriptor,
	&vmsig__status__descriptor,
};

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static size_t below(size_t n)
{
	return (size_t)(any() >> 16) % n;
}

static void *take(size_t size)
{
	void *at = memory + used;

	used += (size + 15) / 16 * 16;
	assert_true(used <= sizeof(memory));
	memset(at, 0, size);
	return at;
}

/* Of each length on the wire about as many. */
static uint64_t any_number(void)
{
	return below(4) ? any() >> below(64) : 0;
}

static char *any_text(void)
{
	size_t len = below(below(8) ? 4 : 300);
	char *text = take(len + 1);

	memset(text, 'a' + (int)below(26), len);
	return text;
}

static ProtobufCMessage *any_message(const ProtobufCMessageDescriptor *type, unsigned levels);

static void any_value(const ProtobufCFieldDescriptor *field, void *value, unsigned levels)
{
	ProtobufCBinaryData *bytes = value;

	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_ENUM:
		*(uint32_t *)value = (uint32_t)any_number();
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)value = (protobuf_c_boolean)below(2);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		*(uint64_t *)value = any_number();
		break;
	case PROTOBUF_C_TYPE_STRING:
		*(char **)value = any_text();
		break;
	case PROTOBUF_C_TYPE_BYTES:
		bytes->data = (uint8_t *)any_text();
		bytes->len = strlen((char *)bytes->data);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		*(ProtobufCMessage **)value =
			any_message(field->descriptor, levels ? levels - 1 : 0);
		break;
	default:
		fail_msg("%s has a type that no message had", field->name);
	}
}

static void any_list(const ProtobufCFieldDescriptor *field, size_t *n, void **list, unsigned levels)
{
	static const size_t stride = sizeof(ProtobufCBinaryData); /* the largest one's */
	size_t size =
		field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING
			? sizeof(void *)
			: sizeof(uint64_t);

	*n = levels ? below(LIST_MAX + 1) : 0;
	*list = take((*n + 1) * stride);
	for (size_t i = 0; i < *n; i++)
		any_value(field, (uint8_t *)*list + i * size, levels);
}

static void any_field(
	ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, unsigned levels)
{
	uint8_t *base = (uint8_t *)message;
	bool one_of = field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
	void *quantifier = base + field->quantifier_offset, *value = base + field->offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		any_list(field, quantifier, value, levels);
		return;
	}
	/* Of a oneof each is as likely as the others: the last one chosen stays. */
	if (field->type == PROTOBUF_C_TYPE_MESSAGE ? !levels || below(3) : below(2))
		return;
	any_value(field, value, levels);
	if (one_of)
		*(uint32_t *)quantifier = field->id;
}

static ProtobufCMessage *any_message(const ProtobufCMessageDescriptor *type, unsigned levels)
{
	ProtobufCMessage *message = take(type->sizeof_message);

	protobuf_c_message_init(type, message);
	for (unsigned i = 0; i < type->n_fields; i++)
		any_field(message, &type->fields[i], levels);
	return message;
}

static void compare(const ProtobufCMessage *message)
{
	static uint8_t room[MEMORY], theirs[MEMORY];
	size_t len = protobuf_c_message_pack(message, theirs), ours = 0;
	struct packed packed;

	/* As much room as it needs, and a byte less. */
	assert_true(pack_backwards(message, room, len, &ours));
	assert_int_equal(ours, len);
	assert_memory_equal(room, theirs, len);
	if (len)
		assert_false(pack_backwards(message, room, len - 1, &ours));
	assert_int_equal(packed_init(&packed, message), 0);
	assert_int_equal(packed.len, len);
	assert_memory_equal(packed.data, theirs, len);
	packed_deinit(&packed);
}

static void all_messages_are_the_same_bytes(void **state)
{
	seed = 0x9e3779b97f4a7c15;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		for (unsigned round = 0; round < ROUNDS; round++) {
			used = 0;
			compare(any_message(types[i], LEVELS));
		}
	}
}

static void an_empty_message_has_no_bytes(void **state)
{
	Vmsig__Done done = VMSIG__DONE__INIT;

	compare(&done.base);
}

/* An enum that a newer peer has said is a negative number here. */
static void negative_enums_have_ten_bytes(void **state)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.kind = (Vmsig__AuditRecord__Kind)-1;
	compare(&record.base);
}

static void what_is_large_has_memory(void **state)
{
	static uint8_t bytes[3 * PACKED_ROOM];
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;

	record.old_bytes = (ProtobufCBinaryData){.data = bytes, .len = sizeof(bytes)};
	compare(&record.base);
}

static void unknown_fields_are_kept(void **state)
{
	static uint8_t data[] = {1};
	ProtobufCMessageUnknownField unknown = {
		.tag = 1000, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .len = 1, .data = data};
	Vmsig__Done done = VMSIG__DONE__INIT;
	uint8_t room[64];
	struct packed packed;
	size_t len = 0;

	done.base.n_unknown_fields = 1;
	done.base.unknown_fields = &unknown;
	assert_false(pack_backwards(&done.base, room, sizeof(room), &len));
	assert_int_equal(packed_init(&packed, &done.base), 0);
	assert_int_equal(packed.len, vmsig__done__pack(&done, room));
	assert_memory_equal(packed.data, room, packed.len);
	packed_deinit(&packed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_messages_are_the_same_bytes),
		cmocka_unit_test(an_empty_message_has_no_bytes),
		cmocka_unit_test(negative_enums_have_ten_bytes),
		cmocka_unit_test(what_is_large_has_memory),
		cmocka_unit_test(unknown_fields_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
