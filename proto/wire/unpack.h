/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_UNPACK_H
#define PROTO_WIRE_UNPACK_H

/*
 * Unpacks a message from a peer within a budget. Two bytes on the wire can be an element of a
 * list or an unknown field, each with allocations of its own: what a frame costs is not what
 * it weighs. The budget counts the work, also of what is unpacked only to be thrown away. What is
 * far over it is not unpacked at all: its fields are counted first, up to the budget.
 *
 * A message and all that is in it is one piece of memory, or a few: parts are not freed by
 * themselves, and protobuf-c's own free_unpacked() is not for it.
 */

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#define UNPACK_FIELDS 4u /* of a part, on the average; the densest honest one has three */

struct unpack_budget {
	size_t parts; /* allocations: a message, a text, a list or an unknown field each */
	size_t bytes; /* of memory, beside one byte for each of the frame */
};

/* 0, and the message is freed by unpack_free(); VMSIG_ERR_PROTOCOL: it is none of this type;
 * VMSIG_ERR_BAD_REQUEST: it is over the budget; -ENOMEM. */
__attribute__((warn_unused_result)) int unpack_message(ProtobufCMessage **ret_message,
	const ProtobufCMessageDescriptor *type, const struct unpack_budget *budget,
	const uint8_t *data, size_t len);

/* Who wants to keep the message when its first owner frees it, and frees it as well. */
void unpack_ref(void *message);
/* What somebody pays for who has it kept: the bytes that it was unpacked from, and what it holds
 * beyond twice as many and a little: unknown fields, what was said again, lists of nothing. */
size_t unpack_charge(void *message);
/* With all that is in it, once the last one does it; NULL is fine. */
void unpack_free(void *message);

/* The request id of an envelope that could not be unpacked, if it stands first, where every
 * encoder puts it; 0 otherwise. */
uint64_t unpack_request_id(const uint8_t *data, size_t len);

#endif
