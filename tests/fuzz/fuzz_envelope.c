/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every envelope that a peer can send, and the audit record, from hostile bytes. The first byte
 * picks which one. What unpacks must pack to the size it announces. It need not unpack again:
 * protobuf-c accepts an unknown field 0 in an overlong encoding and packs it as an invalid one.
 * Nothing here repacks what it received. Our own packer comes to the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire/pack.h"
#include "proto/wire/unpack.h"
#include "proto/wire/vmsig.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Order is part of the corpus: append. */
static const ProtobufCMessageDescriptor *const envelopes[] = {
	&vmsig__ctx_request__descriptor,
	&vmsig__ctx_message__descriptor,
	&vmsig__write_request__descriptor,
	&vmsig__write_message__descriptor,
	&vmsig__admin_request__descriptor,
	&vmsig__admin_message__descriptor,
	&vmsig__audit_record__descriptor,
};

/* Small enough that inputs of the corpus meet its end. */
static const struct unpack_budget budget = {.parts = 256, .bytes = 16384};

static void check_packer(const ProtobufCMessage *message, const uint8_t *packed, size_t len)
{
	struct packed ours;

	if (packed_init(&ours, message))
		return;
	if (ours.len != len || (len && memcmp(ours.data, packed, len) != 0))
		abort();
	packed_deinit(&ours);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *descriptor;
	ProtobufCMessage *message;
	uint8_t *packed;
	size_t len;

	if (size == 0)
		return 0;
	descriptor = envelopes[data[0] % (sizeof(envelopes) / sizeof(envelopes[0]))];
	if (unpack_message(&message, descriptor, &budget, data + 1, size - 1))
		return 0;
	len = protobuf_c_message_get_packed_size(message);
	packed = malloc(len ? len : 1);
	if (!packed || protobuf_c_message_pack(message, packed) != len)
		abort();
	check_packer(message, packed, len);
	free(packed);
	unpack_free(message);
	return 0;
}
