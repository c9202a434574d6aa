/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/dialect.h"

#include <stdio.h>

#include "broker/boot_clock.h"
#include "broker/planes/services.h"
#include "broker/policy/account.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_error.h"

#define PROTOCOL_VERSION 1

/* Nobody who has not said hello makes the broker work: the message, Hello, its text, and a few
 * unknown fields of a newer client. */
static const struct unpack_budget hello_budget = {.parts = 16, .bytes = 4096};

static const struct dialect *dialect_of(const struct conn *conn)
{
	return conn_plane(conn)->dialect;
}

/* ---- how long requests take ---- */

static void note_asked(struct plane_client *client, uint64_t request_id)
{
	if (dialect_of(client->conn)->duration)
		client->timed[request_id % DIALECT_TIMED] = (struct dialect_timed){
			.request_id = request_id, .since_ns = boot_clock_ns()};
}

static void note_answered(struct conn *conn, uint64_t request_id)
{
	struct plane_client *client = conn_plane_state(conn);
	const struct dialect *dialect = dialect_of(conn);
	struct dialect_timed *timed;

	if (!request_id || !client || !dialect->duration)
		return;
	timed = &client->timed[request_id % DIALECT_TIMED];
	if (timed->request_id == request_id && timed->since_ns)
		histogram_add(
			dialect->duration(conn_user(conn)), boot_clock_ns() - timed->since_ns);
	timed->since_ns = 0;
}

/* ---- answers ---- */

int dialect_send(struct conn *conn, uint64_t request_id, int body_case, void *body)
{
	struct envelope message;

	note_answered(conn, request_id);
	envelope_init(&message, dialect_of(conn)->message, request_id, body_case, body);
	return conn_send(conn, &message, NULL, 0);
}

int dialect_error(struct conn *conn, uint64_t request_id, int error, const char *detail)
{
	struct services *services = conn_user(conn);
	Vmsig__Error body = VMSIG__ERROR__INIT;

	if (request_id) {
		metrics_errors_note(&services->counts.refusals, error);
		conn_act(conn, PATRON_REFUSAL);
	}
	body.code = (uint32_t)(error > 0 ? error : VMSIG_ERR_NO_MEMORY);
	body.detail = (char *)(uintptr_t)(detail && detail[0] ? detail
							      : vmsig_error_text((int)body.code));
	return dialect_send(conn, request_id, ENVELOPE_ERROR, &body);
}

int dialect_done(struct conn *conn, uint64_t request_id)
{
	Vmsig__Done body = VMSIG__DONE__INIT;

	return dialect_send(conn, request_id, ENVELOPE_DONE, &body);
}

int dialect_answer(struct conn *conn, uint64_t request_id, int error, const char *detail)
{
	return error ? dialect_error(conn, request_id, error, detail)
		     : dialect_done(conn, request_id);
}

int dialect_refusal(struct conn *conn, uint64_t request_id, const struct account_refusal *refusal)
{
	char detail[ACCOUNT_TEXT_MAX + 1];

	conn_log_refusal(conn, refusal);
	account_refusal_text(refusal, detail, sizeof(detail));
	return dialect_error(conn, request_id, VMSIG_ERR_QUOTA, detail);
}

void dialect_farewell(struct conn *conn, int error, const char *detail)
{
	(void)!dialect_error(conn, 0, error, detail);
}

int dialect_cut_off(struct conn *conn, const char *why)
{
	conn_close(conn, VMSIG_ERR_PROTOCOL, why);
	return 0;
}

/* ---- what may come when ---- */

enum kind { KIND_HELLO, KIND_KNOWN, KIND_UNKNOWN, KINDS };

/* Why the connection ends with it; NULL: it may come. */
static const char *const cut_offs[KINDS][2] = {
	[KIND_HELLO] = {[true] = "Hello was said before; it opens a connection once"},
	[KIND_KNOWN] = {[false] = "the first request must be Hello"},
	[KIND_UNKNOWN] = {[false] = "the first request must be Hello"},
};

static int answer_hello(void *state, void *message)
{
	const struct envelope *request = message;
	const Vmsig__Hello *hello = request->body;
	struct plane_client *client = state;
	Vmsig__Hello body = VMSIG__HELLO__INIT;
	char software[] = "vmsigd/" VMSIG_VERSION;

	if (hello->version != PROTOCOL_VERSION)
		return dialect_error(client->conn, request->request_id, VMSIG_ERR_UNSUPPORTED,
			"this broker speaks version 1; say hello with it");
	client->greeted = true;
	if (dialect_of(client->conn)->greet)
		dialect_of(client->conn)->greet(client, hello->features);
	body.version = PROTOCOL_VERSION;
	body.features = dialect_of(client->conn)->features;
	body.software = software;
	return dialect_send(client->conn, request->request_id, ENVELOPE_HELLO, &body);
}

static int answer_unknown(void *state, void *message)
{
	const struct envelope *request = message;
	struct plane_client *client = state;

	return dialect_error(client->conn, request->request_id, VMSIG_ERR_UNSUPPORTED,
		"this broker does not know the request; a newer one may");
}

/* The plane's rule for it, or one of these. */
static const struct request_rule *rule_of(
	const struct dialect *dialect, size_t body_case, enum kind *ret_kind)
{
	static const struct request_rule hello = {answer_hello, true};
	static const struct request_rule unknown = {answer_unknown, true};

	*ret_kind = KIND_HELLO;
	if (body_case == ENVELOPE_HELLO)
		return &hello;
	*ret_kind = KIND_KNOWN;
	if (body_case < dialect->nrules && dialect->rules[body_case].handle)
		return &dialect->rules[body_case];
	*ret_kind = KIND_UNKNOWN;
	return &unknown;
}

/* A descriptor that belongs to the request would go to the next one. */
static int turn_down(struct conn *conn, const struct envelope *request, int error, const char *why)
{
	return conn_has_fds(conn) ? dialect_cut_off(conn, why)
				  : dialect_error(conn, request->request_id, error, why);
}

static int may_ask(struct conn *conn, const struct request_rule *rule, const char **why)
{
	if (!rule->roles || rule->roles & (uint32_t)conn_tenant(conn)->role)
		return 0;
	*why = "the role of this certificate does not allow the request";
	return VMSIG_ERR_FORBIDDEN;
}

static int dispatch(struct plane_client *client, struct envelope *request)
{
	struct conn *conn = client->conn;
	const struct dialect *dialect = dialect_of(conn);
	struct account_refusal refusal;
	enum kind kind;
	const struct request_rule *rule = rule_of(dialect, (size_t)request->body_case, &kind);
	const char *why = cut_offs[kind][client->greeted];
	int r;

	if (why)
		return dialect_cut_off(conn, why);
	r = may_ask(conn, rule, &why);
	if (!r && kind == KIND_KNOWN && dialect->check)
		r = dialect->check(client, &why);
	if (r)
		return turn_down(conn, request, r, why);
	if (rule->answered && conn_may_answer(conn, &refusal))
		return dialect_refusal(conn, request->request_id, &refusal);
	if (rule->answered && kind != KIND_UNKNOWN && !request->request_id)
		return dialect_error(conn, 0, VMSIG_ERR_BAD_REQUEST,
			"request_id is 0, which is for events; choose another");
	note_asked(client, request->request_id);
	return rule->handle(client, request);
}

/* ---- frames ---- */

/* The rest of the frame cannot be trusted to say what belongs to it: with descriptors waiting,
 * a later request could be handed this one's. */
static int refuse(
	struct conn *conn, const uint8_t *data, size_t len, const struct unpack_budget *budget)
{
	char detail[160];

	snprintf(detail, sizeof(detail),
		"the request has more than %zu parts or needs more than %zu bytes in the broker; "
		"send it in several",
		budget->parts, budget->bytes + len);
	if (conn_has_fds(conn))
		return dialect_cut_off(conn, detail);
	return dialect_error(conn, unpack_request_id(data, len), VMSIG_ERR_BAD_REQUEST, detail);
}

int dialect_frame(struct conn *conn, void *state, const uint8_t *data, size_t len)
{
	struct plane_client *client = state;
	const struct dialect *dialect = dialect_of(conn);
	const struct unpack_budget *budget = client->greeted ? &dialect->budget : &hello_budget;
	ProtobufCMessage *message;
	int r = unpack_message(&message, dialect->request, budget, data, len);

	if (r == VMSIG_ERR_BAD_REQUEST)
		return client->greeted
			       ? refuse(conn, data, len, budget)
			       : dialect_cut_off(conn, "the first request must be Hello, alone");
	if (r == VMSIG_ERR_PROTOCOL)
		return dialect_cut_off(conn, "the frame is no message of this plane");
	if (r)
		return dialect_error(conn, unpack_request_id(data, len), r, NULL);
	r = dispatch(client, (struct envelope *)(void *)message);
	unpack_free(message);
	return r;
}
