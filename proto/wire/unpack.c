/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/unpack.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "vmsig/vmsig_error.h"

#define REQUEST_ID_TAG 0x08 /* field 1, varint */
#define VARINT_MAX 10u      /* bytes of a uint64 */

struct unpack_account {
	size_t parts, bytes; /* left */
	bool exceeded, no_memory;
};

/* What is freed again is not given back: it was work. */
static void *charged_alloc(void *state, size_t size)
{
	struct unpack_account *account = state;
	void *memory;

	if (!account->parts || size > account->bytes) {
		account->exceeded = true;
		return NULL;
	}
	account->parts--;
	account->bytes -= size;
	memory = malloc(size);
	account->no_memory |= !memory;
	return memory;
}

static void charged_free(void *state, void *memory)
{
	free(memory);
}

int unpack_message(ProtobufCMessage **ret_message, const ProtobufCMessageDescriptor *type,
	const struct unpack_budget *budget, const uint8_t *data, size_t len)
{
	struct unpack_account account = {.parts = budget->parts, .bytes = budget->bytes + len};
	ProtobufCAllocator allocator = {charged_alloc, charged_free, &account};
	ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, len, data);

	if (!message)
		return account.exceeded    ? VMSIG_ERR_BAD_REQUEST
		       : account.no_memory ? -ENOMEM
					   : VMSIG_ERR_PROTOCOL;
	*ret_message = message;
	return 0;
}

void unpack_free(ProtobufCMessage *message)
{
	ProtobufCAllocator allocator = {charged_alloc, charged_free, NULL};

	protobuf_c_message_free_unpacked(message, &allocator);
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
