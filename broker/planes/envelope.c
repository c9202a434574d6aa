/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/envelope.h"

#include <stdio.h>

#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define PROTOCOL_VERSION 1

/* Nobody who has not said hello makes the broker work: the message, Hello, its text, and a few
 * unknown fields of a newer client. */
static const struct unpack_budget hello_budget = {.parts = 16, .bytes = 4096};

int envelope_send(struct conn *conn, const struct dialect *dialect, uint64_t request_id,
	int body_case, void *body)
{
	struct envelope message;

	envelope_init(&message, dialect->message, request_id, body_case, body);
	return conn_send(conn, &message, NULL, 0);
}

int envelope_error(struct conn *conn, const struct dialect *dialect, uint64_t request_id, int error,
	const char *detail)
{
	Vmsig__Error body = VMSIG__ERROR__INIT;

	body.code = (uint32_t)(error > 0 ? error : VMSIG_ERR_NO_MEMORY);
	body.detail = (char *)(uintptr_t)(detail && detail[0] ? detail
							      : vmsig_error_text((int)body.code));
	return envelope_send(conn, dialect, request_id, ENVELOPE_ERROR, &body);
}

int envelope_done(struct conn *conn, const struct dialect *dialect, uint64_t request_id)
{
	Vmsig__Done body = VMSIG__DONE__INIT;

	return envelope_send(conn, dialect, request_id, ENVELOPE_DONE, &body);
}

int envelope_cut_off(struct conn *conn, const char *why)
{
	conn_close(conn, VMSIG_ERR_PROTOCOL, why);
	return 0;
}

static int answer_hello(struct conn *conn, const struct dialect *dialect, bool *greeted,
	const struct envelope *request)
{
	const Vmsig__Hello *hello = request->body;
	Vmsig__Hello body = VMSIG__HELLO__INIT;
	char software[] = "vmsigd/" VMSIG_VERSION;

	if (*greeted)
		return envelope_cut_off(conn, "Hello was said before; it opens a connection once");
	if (hello->version != PROTOCOL_VERSION)
		return envelope_error(conn, dialect, request->request_id, VMSIG_ERR_UNSUPPORTED,
			"this broker speaks version 1; say hello with it");
	*greeted = true;
	body.version = PROTOCOL_VERSION;
	body.software = software;
	return envelope_send(conn, dialect, request->request_id, ENVELOPE_HELLO, &body);
}

/* A descriptor that belongs to the request would go to the next one. */
static int turn_down(struct conn *conn, const struct dialect *dialect,
	const struct envelope *request, int error, const char *why)
{
	return conn_has_fds(conn) ? envelope_cut_off(conn, why)
				  : envelope_error(conn, dialect, request->request_id, error, why);
}

static int dispatch(struct conn *conn, const struct dialect *dialect, bool *greeted, void *client,
	struct envelope *request)
{
	size_t kind = (size_t)request->body_case;
	const struct request_rule *rule = kind < dialect->nrules && dialect->rules[kind].handle
						  ? &dialect->rules[kind]
						  : NULL;
	bool is_hello = kind == ENVELOPE_HELLO;
	const char *why = NULL;
	int r;

	if (!*greeted && !is_hello)
		return envelope_cut_off(conn, "the first request must be Hello");
	r = rule && dialect->check ? dialect->check(client, &why) : 0;
	if (r)
		return turn_down(conn, dialect, request, r, why);
	if ((!rule || rule->answered) &&
		!conn_may_answer(conn, conn_tenant(conn)->tenant.quota.pending))
		return envelope_error(conn, dialect, request->request_id, VMSIG_ERR_QUOTA,
			"too many answers are unread; read them before asking again");
	if (!rule && !is_hello)
		return envelope_error(conn, dialect, request->request_id, VMSIG_ERR_UNSUPPORTED,
			"this broker does not know the request; a newer one may");
	if ((is_hello || rule->answered) && !request->request_id)
		return envelope_error(conn, dialect, 0, VMSIG_ERR_BAD_REQUEST,
			"request_id is 0, which is for events; choose another");
	return is_hello ? answer_hello(conn, dialect, greeted, request)
			: rule->handle(client, request);
}

/* The rest of the frame cannot be trusted to say what belongs to it: with descriptors waiting,
 * a later request could be handed this one's. */
static int refuse(struct conn *conn, const struct dialect *dialect, const uint8_t *data, size_t len,
	const struct unpack_budget *budget)
{
	char detail[160];

	snprintf(detail, sizeof(detail),
		"the request has more than %zu parts or needs more than %zu bytes in the broker; "
		"send it in several",
		budget->parts, budget->bytes + len);
	if (conn_has_fds(conn))
		return envelope_cut_off(conn, detail);
	return envelope_error(
		conn, dialect, unpack_request_id(data, len), VMSIG_ERR_BAD_REQUEST, detail);
}

int envelope_receive(struct conn *conn, const struct dialect *dialect, bool *greeted, void *client,
	const uint8_t *data, size_t len)
{
	const struct unpack_budget *budget = *greeted ? &dialect->budget : &hello_budget;
	ProtobufCMessage *message;
	int r = unpack_message(&message, dialect->request, budget, data, len);

	if (r == VMSIG_ERR_BAD_REQUEST)
		return *greeted ? refuse(conn, dialect, data, len, budget)
				: envelope_cut_off(conn, "the first request must be Hello, alone");
	if (r == VMSIG_ERR_PROTOCOL)
		return envelope_cut_off(conn, "the frame is no message of this plane");
	if (r)
		return envelope_error(conn, dialect, unpack_request_id(data, len), r, NULL);
	r = dispatch(conn, dialect, greeted, client, (struct envelope *)(void *)message);
	unpack_free(message);
	return r;
}
