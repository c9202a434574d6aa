/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every envelope that a peer can send, from hostile bytes. The first byte picks which one.
 * What unpacks must pack, and unpack again to something that packs to the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/vmsig.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Order is part of the corpus: append. */
static const ProtobufCMessageDescriptor *const envelopes[] = {
	&vmsig__ctx_request__descriptor,
	&vmsig__ctx_message__descriptor,
};

static uint8_t *repack(const ProtobufCMessage *message, size_t *ret_len)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(len ? len : 1);

	if (!bytes || protobuf_c_message_pack(message, bytes) != len)
		abort();
	*ret_len = len;
	return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *descriptor;
	ProtobufCMessage *first;
	ProtobufCMessage *second;
	uint8_t *a;
	uint8_t *b;
	size_t a_len;
	size_t b_len;

	if (size == 0)
		return 0;
	descriptor = envelopes[data[0] % (sizeof(envelopes) / sizeof(envelopes[0]))];
	first = protobuf_c_message_unpack(descriptor, NULL, size - 1, data + 1);
	if (!first)
		return 0;
	a = repack(first, &a_len);
	second = protobuf_c_message_unpack(descriptor, NULL, a_len, a);
	if (!second)
		abort();
	b = repack(second, &b_len);
	if (a_len != b_len || memcmp(a, b, a_len) != 0)
		abort();
	free(a);
	free(b);
	protobuf_c_message_free_unpacked(first, NULL);
	protobuf_c_message_free_unpacked(second, NULL);
	return 0;
}
