/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/envelope.h"

#include <assert.h>
#include <stddef.h>

#include "proto/wire/vmsig.pb-c.h"

#define CHECK_LAYOUT(type)                                                                         \
	static_assert(                                                                             \
		sizeof(type) == sizeof(struct envelope) &&                                         \
			offsetof(type, request_id) == offsetof(struct envelope, request_id) &&     \
			offsetof(type, body_case) == offsetof(struct envelope, body_case) &&       \
			offsetof(type, hello) == offsetof(struct envelope, body),                  \
		"an envelope is a request id and one body")
CHECK_LAYOUT(Vmsig__CtxRequest);
CHECK_LAYOUT(Vmsig__CtxMessage);
CHECK_LAYOUT(Vmsig__WriteRequest);
CHECK_LAYOUT(Vmsig__WriteMessage);
CHECK_LAYOUT(Vmsig__AdminRequest);
CHECK_LAYOUT(Vmsig__AdminMessage);

#define CHECK_NUMBERS(NAME)                                                                        \
	static_assert((int)VMSIG__##NAME##_REQUEST__BODY_HELLO == ENVELOPE_HELLO &&                \
			      (int)VMSIG__##NAME##_MESSAGE__BODY_HELLO == ENVELOPE_HELLO &&        \
			      (int)VMSIG__##NAME##_MESSAGE__BODY_ERROR == ENVELOPE_ERROR &&        \
			      (int)VMSIG__##NAME##_MESSAGE__BODY_DONE == ENVELOPE_DONE,            \
		"what is common has the same number on every plane")
CHECK_NUMBERS(CTX);
CHECK_NUMBERS(WRITE);
CHECK_NUMBERS(ADMIN);

void envelope_init(struct envelope *envelope, const ProtobufCMessageDescriptor *type,
	uint64_t request_id, int body_case, void *body)
{
	protobuf_c_message_init(type, envelope);
	envelope->request_id = request_id;
	envelope->body_case = body_case;
	envelope->body = body;
}
