/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/unpack.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "vmsig/vmsig_error.h"

#define REQUEST_ID_TAG 0x08 /* field 1, varint */
#define VARINT_MAX 10u      /* bytes of a uint64 */
#define DEPTH_MAX 8u        /* levels of messages that are counted; ours have fewer */

#define USUAL_ROOM 2048u /* bytes that a small request holds beside its data: two blocks */

/* gcc says it by one name, clang, which builds the fuzzers, by another. */
#if defined(__SANITIZE_ADDRESS__)
#define PARTS_APART
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PARTS_APART
#endif
#endif

#ifdef PARTS_APART
#define FIRST_ROOM 0u /* each part has a block of its own, whose end is looked after */
#define BLOCK_MAX 1u
#else
#define FIRST_ROOM 512u       /* of structures that a small request has, beside its data */
#define BLOCK_MAX (64u << 10) /* up to this the next block is twice as large */
#endif

/* Of a message's memory. The first one begins with the message itself, and has what is known of it;
 * the others follow, newest first. */
struct unpack_block {
	struct unpack_block *next;
	size_t used, size; /* of the data, bytes */
	size_t refs;       /* of the message */
	size_t len;        /* of what it was unpacked from */
	size_t held;       /* bytes of all blocks of the message */
	alignas(max_align_t) uint8_t data[];
};

struct unpack_account {
	size_t parts, bytes; /* left */
	bool exceeded, no_memory;
	size_t next_size; /* of a block */
	size_t held;      /* bytes of all of them */
	struct unpack_block *first, *current;
};

static void blocks_free(struct unpack_block *block)
{
	while (block) {
		struct unpack_block *next = block->next;

		free(block);
		block = next;
	}
}

static struct unpack_block *block_add(struct unpack_account *account, size_t need)
{
	size_t size = need > account->next_size ? need : account->next_size;
	struct unpack_block *block = malloc(sizeof(*block) + size);

	if (!block)
		return NULL;
	*block = (struct unpack_block){.size = size};
	if (account->first) {
		block->next = account->first->next;
		account->first->next = block;
	} else {
		account->first = block;
	}
	account->current = block;
	account->held += size;
	account->next_size = 2 * size < BLOCK_MAX ? 2 * size : BLOCK_MAX;
	return block;
}

/* What is freed again is not given back: it was work, and memory goes with the message. */
static void *charged_alloc(void *state, size_t size)
{
	struct unpack_account *account = state;
	struct unpack_block *block = account->current;
	size_t need;
	void *memory;

	if (!account->parts || size > account->bytes) {
		account->exceeded = true;
		return NULL;
	}
	account->parts--;
	account->bytes -= size;
	need = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (!block || need > block->size - block->used)
		block = block_add(account, need);
	if (!block) {
		account->no_memory = true;
		return NULL;
	}
	memory = block->data + block->used;
	block->used += need;
	return memory;
}

static void charged_free(void *state, void *memory)
{
}

/* ---- counting ---- */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct count {
	size_t parts, fields; /* left */
};

struct field {
	uint32_t number;
	enum wire_type type;
	const uint8_t *data; /* BYTES */
	size_t len;
};

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; *at < end && shift < 7 * VARINT_MAX; shift += 7) {
		uint8_t byte = *(*at)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

static bool skip(const uint8_t **at, const uint8_t *end, uint64_t len)
{
	if (len > (uint64_t)(end - *at))
		return false;
	*at += len;
	return true;
}

/* false: the message is over, or is none. */
static bool next_field(const uint8_t **at, const uint8_t *end, struct field *ret_field)
{
	uint64_t tag, value;

	if (!read_varint(at, end, &tag))
		return false;
	*ret_field = (struct field){.number = (uint32_t)(tag >> 3), .type = tag & 7};
	switch (ret_field->type) {
	case WIRE_VARINT:
		return read_varint(at, end, &value);
	case WIRE_64:
		return skip(at, end, sizeof(uint64_t));
	case WIRE_32:
		return skip(at, end, sizeof(uint32_t));
	case WIRE_BYTES:
		if (!read_varint(at, end, &value))
			return false;
		ret_field->data = *at;
		ret_field->len = (size_t)value;
		return skip(at, end, value);
	default:
		return false;
	}
}

/* A level of the message that is counted. */
struct level {
	const ProtobufCMessageDescriptor *type;
	const uint8_t *at, *end;
};

static bool charge(size_t *left)
{
	if (!*left)
		return false;
	--*left;
	return true;
}

/* An unknown field has memory of its own; so has a message, in which *ret_type looks further. */
static bool count_field(struct count *count, const ProtobufCMessageDescriptor *type,
	const struct field *field, const ProtobufCMessageDescriptor **ret_type)
{
	const ProtobufCFieldDescriptor *known =
		protobuf_c_message_descriptor_get_field(type, field->number);
	bool nested = known && known->type == PROTOBUF_C_TYPE_MESSAGE && field->type == WIRE_BYTES;

	*ret_type = nested ? known->descriptor : NULL;
	return charge(&count->fields) && ((known && !nested) || charge(&count->parts));
}

/* Whether unpacking may be tried. What is no message is for the parser to find. */
static bool is_within(const ProtobufCMessageDescriptor *type, const struct unpack_budget *budget,
	const uint8_t *data, size_t len)
{
	struct count count = {budget->parts, budget->parts * UNPACK_FIELDS};
	struct level levels[DEPTH_MAX] = {{type, data, data + len}};
	size_t depth = 0;

	for (;;) {
		struct level *level = &levels[depth];
		const ProtobufCMessageDescriptor *inner;
		struct field field;

		if (!next_field(&level->at, level->end, &field)) {
			if (!depth--)
				return true;
			continue;
		}
		if (!count_field(&count, level->type, &field, &inner))
			return false;
		if (inner && depth + 1 < DEPTH_MAX)
			levels[++depth] = (struct level){inner, field.data, field.data + field.len};
	}
}

/* ---- unpacking ---- */

int unpack_message(ProtobufCMessage **ret_message, const ProtobufCMessageDescriptor *type,
	const struct unpack_budget *budget, const uint8_t *data, size_t len)
{
	struct unpack_account account = {.parts = budget->parts,
		.bytes = budget->bytes + len,
		.next_size = FIRST_ROOM ? FIRST_ROOM + len : 0};
	ProtobufCAllocator allocator = {charged_alloc, charged_free, &account};
	ProtobufCMessage *message;

	/* Each field has two bytes at least. */
	if (len / 2 > budget->parts && !is_within(type, budget, data, len))
		return VMSIG_ERR_BAD_REQUEST;
	message = protobuf_c_message_unpack(type, &allocator, len, data);
	if (!message) {
		blocks_free(account.first);
		return account.exceeded    ? VMSIG_ERR_BAD_REQUEST
		       : account.no_memory ? -ENOMEM
					   : VMSIG_ERR_PROTOCOL;
	}
	/* It is what protobuf-c needs memory for first. */
	assert((void *)message == (void *)account.first->data);
	account.first->refs = 1;
	account.first->len = len;
	account.first->held = account.held;
	*ret_message = message;
	return 0;
}

static struct unpack_block *block_of(void *message)
{
	return (struct unpack_block *)(void *)((uint8_t *)message -
					       offsetof(struct unpack_block, data));
}

void unpack_ref(void *message)
{
	block_of(message)->refs++;
}

size_t unpack_charge(void *message)
{
	const struct unpack_block *block = block_of(message);
	size_t usual = 2 * block->len + USUAL_ROOM;

	return block->len + (block->held > usual ? block->held - usual : 0);
}

void unpack_free(void *message)
{
	if (message && --block_of(message)->refs == 0)
		blocks_free(block_of(message));
}

uint64_t unpack_request_id(const uint8_t *data, size_t len)
{
	uint64_t id = 0;

	if (!len || data[0] != REQUEST_ID_TAG)
		return 0;
	for (size_t i = 1; i < len && i <= VARINT_MAX; i++) {
		id |= (uint64_t)(data[i] & 0x7f) << 7 * (i - 1);
		if (!(data[i] & 0x80))
			return id;
	}
	return 0;
}
