/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_ENVELOPE_H
#define PROTO_WIRE_ENVELOPE_H

/*
 * What all envelopes of vmsig.proto have in common: a request id and one body. Hello, error
 * and done have the same numbers in each of them, which envelope.c checks with the layout.
 */

#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

enum envelope_body { ENVELOPE_HELLO = 2, ENVELOPE_ERROR = 3, ENVELOPE_DONE = 4 };

struct envelope {
	ProtobufCMessage base;
	uint64_t request_id;
	int body_case;
	void *body;
};

/* Makes `envelope` a message of this type; the body is borrowed. */
void envelope_init(struct envelope *envelope, const ProtobufCMessageDescriptor *type,
	uint64_t request_id, int body_case, void *body);

#endif
