/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_PACK_H
#define PROTO_WIRE_PACK_H

/*
 * Packs a message as protobuf-c does, byte for byte, from its end to its begin: what is nested is
 * there before its length is written, so that nothing is measured first. For what is sent and
 * recorded all the time. What it does not know (fields of a later generator, unknown fields) it
 * leaves to protobuf-c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* Into the last bytes of `room`; *ret_len says how many. false: they do not fit, or it has to be
 * protobuf-c; *ret_len is as it was. */
__attribute__((warn_unused_result)) bool pack_backwards(
	const ProtobufCMessage *message, uint8_t *room, size_t size, size_t *ret_len);

#define PACKED_ROOM                                                                                \
	8192u /* bytes of a message that needs no memory of its own: one with a page, and more */

/* A message's bytes. Not to be moved: `data` may point into it. */
struct packed {
	const uint8_t *data;
	size_t len;
	uint8_t *heap; /* what it needs beside its room */
	uint8_t room[PACKED_ROOM];
};

/* 0, and packed_deinit() frees; -ENOMEM. */
__attribute__((warn_unused_result)) int packed_init(
	struct packed *packed, const ProtobufCMessage *message);
void packed_deinit(struct packed *packed);

#endif
