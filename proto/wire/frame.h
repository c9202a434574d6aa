/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_FRAME_H
#define PROTO_WIRE_FRAME_H

/*
 * A frame on the decrypted stream: 4-byte big-endian length, then that many bytes. Pure.
 */

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 4u

void frame_header(uint8_t header[FRAME_HEADER], uint32_t len);

/* The payload of the frame at the start of `data`, borrowed. 0; VMSIG_ERR_WOULD_BLOCK: it is
 * not complete; VMSIG_ERR_PROTOCOL: it announces more than `frame_max` bytes. */
__attribute__((warn_unused_result)) int frame_parse(const uint8_t *data, size_t len,
	size_t frame_max, const uint8_t **ret_payload, size_t *ret_len);

/* Bytes that are missing of the frame at the start of `data`, or of its header. */
size_t frame_missing(const uint8_t *data, size_t len);

#endif
