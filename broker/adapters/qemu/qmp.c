/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/qmp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define REASON_MAX 256
#define NAME_MAX_LOGGED 64
#define KEEP_CAPACITY (64u << 10) /* an emptied input buffer above this is given back */

#define SIGN "vmsig-resume" /* id of the command after which a resumed connection is ours */

enum state { STATE_GREETING, STATE_NEGOTIATING, STATE_RESUMING, STATE_READY, STATE_FAILED };

struct bytes {
	char *data;
	size_t head; /* bytes before it are consumed; moved away when room is needed */
	size_t len;  /* from `head` */
	size_t capacity;
};

struct qmp_pending {
	uint64_t id;
	uint64_t deadline;
	char name[NAME_MAX_LOGGED];
};

/* Finds where a message ends without parsing it. */
struct scan {
	size_t pos;
	unsigned depth;
	unsigned values;
	bool in_string;
	bool escaped;
};

struct qmp {
	size_t max_message;
	uint64_t timeout;
	enum state state;
	bool silent;
	struct bytes in;
	struct bytes out;
	struct scan scan;
	uint64_t next_id;
	uint64_t greeting_deadline;
	struct qmp_pending pending[QMP_MAX_PENDING]; /* in order of sending */
	size_t npending;
	char reason[REASON_MAX];
};

static const char *bytes_at(const struct bytes *bytes)
{
	return bytes->head ? bytes->data + bytes->head : bytes->data;
}

static int bytes_grow(struct bytes *bytes, size_t len)
{
	size_t capacity = bytes->capacity ? bytes->capacity : 4096;
	char *grown;

	while (capacity - bytes->len < len)
		capacity *= 2;
	grown = realloc(bytes->data, capacity);
	if (!grown)
		return -ENOMEM;
	bytes->data = grown;
	bytes->capacity = capacity;
	return 0;
}

static int bytes_append(struct bytes *bytes, const void *data, size_t len)
{
	/* Once for each piece that comes, not for each message in it. */
	if (bytes->head)
		memmove(bytes->data, bytes_at(bytes), bytes->len);
	bytes->head = 0;
	if (bytes->capacity - bytes->len < len) {
		int r = bytes_grow(bytes, len);

		if (r)
			return r;
	}
	memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return 0;
}

static void bytes_drop(struct bytes *bytes, size_t len)
{
	bytes->head += len;
	bytes->len -= len;
	if (bytes->len)
		return;
	bytes->head = 0;
	if (bytes->capacity > KEEP_CAPACITY) {
		free(bytes->data);
		*bytes = (struct bytes){0};
	}
}

__attribute__((format(printf, 3, 4))) static int qmp_fail(
	struct qmp *qmp, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(qmp->reason, sizeof(qmp->reason), format, args);
	va_end(args);
	qmp->state = STATE_FAILED;
	return error;
}

/* Whatever it says: it is there. */
static void note_voice(struct qmp *qmp, uint64_t now_ms)
{
	if (!qmp->silent)
		return;
	qmp->silent = false;
	qmp->reason[0] = '\0';
	for (size_t i = 0; i < qmp->npending; i++)
		qmp->pending[i].deadline = now_ms + qmp->timeout;
}

int qmp_new(struct qmp **ret_qmp, const struct qmp_limits *limits, uint64_t now_ms)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		return -ENOMEM;
	qmp->max_message = limits->max_message ? limits->max_message : QMP_MAX_MESSAGE;
	qmp->timeout = limits->timeout_ms;
	qmp->greeting_deadline = now_ms + limits->timeout_ms;
	*ret_qmp = qmp;
	return 0;
}

int qmp_resume(struct qmp **ret_qmp, const struct qmp_limits *limits, uint64_t now_ms)
{
	static const char sign[] = "{\"execute\": \"query-status\", \"id\": \"" SIGN "\"}\n";
	int r = qmp_new(ret_qmp, limits, now_ms);

	if (r)
		return r;
	(*ret_qmp)->state = STATE_RESUMING;
	r = bytes_append(&(*ret_qmp)->out, sign, strlen(sign));
	if (r)
		*ret_qmp = qmp_free(*ret_qmp);
	return r;
}

struct qmp *qmp_free(struct qmp *qmp)
{
	if (!qmp)
		return NULL;
	free(qmp->in.data);
	free(qmp->out.data);
	free(qmp);
	return NULL;
}

int qmp_feed(struct qmp *qmp, const void *data, size_t len)
{
	return bytes_append(&qmp->in, data, len);
}

/* 1 when `c` ends a message, 0 to go on, VMSIG_ERR_PROTOCOL. */
static int scan_structure(struct qmp *qmp, char c)
{
	struct scan *scan = &qmp->scan;

	switch (c) {
	case '{':
	case '[':
		if (++scan->depth > QMP_MAX_DEPTH)
			return qmp_fail(qmp, VMSIG_ERR_PROTOCOL,
				"a QMP message is nested deeper than %d levels", QMP_MAX_DEPTH);
		__attribute__((fallthrough));
	case ',':
		if (++scan->values > QMP_MAX_VALUES)
			return qmp_fail(qmp, VMSIG_ERR_PROTOCOL,
				"a QMP message has more than %u values", QMP_MAX_VALUES);
		return 0;
	case '}':
	case ']':
		return --scan->depth == 0;
	case '"':
		scan->in_string = true;
		return 0;
	default:
		return 0;
	}
}

static int scan_byte(struct qmp *qmp, char c)
{
	struct scan *scan = &qmp->scan;

	if (scan->in_string) {
		if (scan->escaped)
			scan->escaped = false;
		else if (c == '\\')
			scan->escaped = true;
		else if (c == '"')
			scan->in_string = false;
		return 0;
	}
	if (scan->depth == 0 && c != '{')
		return qmp_fail(qmp, VMSIG_ERR_PROTOCOL,
			"the peer does not speak QMP: byte 0x%02x where a message should start",
			(unsigned char)c);
	return scan_structure(qmp, c);
}

static void skip_space(struct qmp *qmp)
{
	size_t n = 0;

	const char *in = bytes_at(&qmp->in);

	while (n < qmp->in.len && in[n] && strchr(" \t\r\n", in[n]))
		n++;
	bytes_drop(&qmp->in, n);
}

/* Length of the complete message at the start of the input. */
static int scan_message(struct qmp *qmp, size_t *ret_len)
{
	int r;

	if (qmp->scan.pos == 0)
		skip_space(qmp);
	while (qmp->scan.pos < qmp->in.len) {
		r = scan_byte(qmp, bytes_at(&qmp->in)[qmp->scan.pos++]);
		if (r > 1)
			return r;
		if (qmp->scan.pos > qmp->max_message)
			return qmp_fail(qmp, VMSIG_ERR_PROTOCOL,
				"a QMP message is longer than %zu bytes", qmp->max_message);
		if (r == 1) {
			*ret_len = qmp->scan.pos;
			return 0;
		}
	}
	return VMSIG_ERR_WOULD_BLOCK;
}

static int message_parse(struct qmp *qmp, size_t len, json_t **ret_root)
{
	json_error_t error;
	json_t *root = json_loadb(bytes_at(&qmp->in), len, JSON_REJECT_DUPLICATES, &error);

	/* QEMU prints unsigned 64-bit numbers, jansson holds signed ones. */
	if (!root && json_error_code(&error) == json_error_numeric_overflow)
		root = json_loadb(bytes_at(&qmp->in), len,
			JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
	if (!root && json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	if (!root)
		return qmp_fail(
			qmp, VMSIG_ERR_PROTOCOL, "a QMP message is not JSON: %s", error.text);
	bytes_drop(&qmp->in, len);
	qmp->scan = (struct scan){0};
	*ret_root = root;
	return 0;
}

static int queue_command(
	struct qmp *qmp, const char *name, json_t *arguments, uint64_t now_ms, uint64_t *ret_id)
{
	struct qmp_pending *pending;
	json_t *root;
	char *text;
	int r = -ENOMEM;

	if (qmp->npending == QMP_MAX_PENDING) {
		json_decref(arguments);
		return VMSIG_ERR_BUSY;
	}
	/* "o*" takes the reference of arguments, also when packing fails. */
	root = json_pack("{s:s, s:I, s:o*}", "execute", name, "id", (json_int_t)qmp->next_id + 1,
		"arguments", arguments);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (!text)
		return -ENOMEM;
	if (!bytes_append(&qmp->out, text, strlen(text))) {
		r = bytes_append(&qmp->out, "\n", 1);
		if (r)
			qmp->out.len -= strlen(text);
	}
	free(text);
	if (r)
		return r;
	pending = &qmp->pending[qmp->npending++];
	*pending = (struct qmp_pending){.id = ++qmp->next_id, .deadline = now_ms + qmp->timeout};
	snprintf(pending->name, sizeof(pending->name), "%s", name);
	*ret_id = pending->id;
	return 0;
}

static int take_greeting(struct qmp *qmp, json_t *root, uint64_t now_ms, struct qmp_message *m)
{
	uint64_t id;
	int r;

	if (!json_is_object(json_object_get(root, "QMP")))
		return qmp_fail(
			qmp, VMSIG_ERR_PROTOCOL, "the peer's first message is no QMP greeting");
	r = queue_command(qmp, "qmp_capabilities", NULL, now_ms, &id);
	if (r)
		return r;
	qmp->state = STATE_NEGOTIATING;
	m->kind = QMP_GREETING;
	return 0;
}

/* qapi/qapi-schema.json, "Client Library": seconds are -1 when QEMU could not tell. */
static uint64_t event_stamp(const json_t *stamp)
{
	json_int_t seconds = json_integer_value(json_object_get(stamp, "seconds"));
	json_int_t micros = json_integer_value(json_object_get(stamp, "microseconds"));

	if (seconds <= 0 || seconds > UINT32_MAX || micros < 0 || micros >= 1000000)
		return 0;
	return (uint64_t)seconds * 1000000 + (uint64_t)micros;
}

static int take_event(struct qmp *qmp, json_t *root, struct qmp_message *m)
{
	m->kind = QMP_EVENT;
	m->name = json_string_value(json_object_get(root, "event"));
	m->value = json_object_get(root, "data");
	m->stamp_us = event_stamp(json_object_get(root, "timestamp"));
	if (!m->name)
		return qmp_fail(qmp, VMSIG_ERR_PROTOCOL, "a QMP event without a name");
	return 0;
}

static bool pending_remove(struct qmp *qmp, uint64_t id)
{
	for (size_t i = 0; i < qmp->npending; i++) {
		if (qmp->pending[i].id != id)
			continue;
		memmove(&qmp->pending[i], &qmp->pending[i + 1],
			(--qmp->npending - i) * sizeof(qmp->pending[0]));
		return true;
	}
	return false;
}

/* 0, which no command has, when it is none of ours. Numbers are reals in a message that holds
 * one beyond 64 bits. */
static uint64_t reply_id(const json_t *id)
{
	double number = json_number_value(id);

	return number >= 1 && number <= (double)UINT32_MAX ? (uint64_t)number : 0;
}

static int take_stale(struct qmp *qmp, const json_t *root, struct qmp_message *m)
{
	const char *id = json_string_value(json_object_get(root, "id"));
	bool ours = id && strcmp(id, SIGN) == 0;

	m->kind = ours ? QMP_READY : QMP_STALE;
	if (ours)
		qmp->state = STATE_READY;
	return 0;
}

static int take_reply(struct qmp *qmp, json_t *root, struct qmp_message *m)
{
	json_t *error = json_object_get(root, "error");

	m->kind = QMP_REPLY;
	m->id = reply_id(json_object_get(root, "id"));
	m->value = json_object_get(root, "return");
	if (error) {
		m->name = json_string_value(json_object_get(error, "class"));
		m->detail = json_string_value(json_object_get(error, "desc"));
	}
	if (!m->value == !error || (error && (!m->name || !m->detail)))
		return qmp_fail(qmp, VMSIG_ERR_PROTOCOL,
			"a QMP message is neither an event nor a well-formed reply");
	if (!pending_remove(qmp, m->id))
		return qmp_fail(qmp, VMSIG_ERR_PROTOCOL, "a QMP reply to a command never sent%s%s",
			m->detail ? ": " : "", m->detail ? m->detail : "");
	if (qmp->state == STATE_READY)
		return 0;
	if (error)
		return qmp_fail(
			qmp, VMSIG_ERR_PROTOCOL, "QEMU refused qmp_capabilities: %s", m->detail);
	qmp->state = STATE_READY;
	m->kind = QMP_READY;
	return 0;
}

int qmp_next(struct qmp *qmp, uint64_t now_ms, struct qmp_message *ret_message)
{
	struct qmp_message m = {0};
	size_t len = 0;
	int r;

	if (qmp->state == STATE_FAILED)
		return VMSIG_ERR_PROTOCOL;
	r = scan_message(qmp, &len);
	if (r)
		return r;
	r = message_parse(qmp, len, &m.root);
	if (r)
		return r;
	note_voice(qmp, now_ms);
	if (qmp->state == STATE_GREETING)
		r = take_greeting(qmp, m.root, now_ms, &m);
	else if (json_object_get(m.root, "event"))
		r = take_event(qmp, m.root, &m);
	else if (qmp->state == STATE_RESUMING)
		r = take_stale(qmp, m.root, &m);
	else
		r = take_reply(qmp, m.root, &m);
	if (r) {
		qmp_message_clear(&m);
		return r;
	}
	*ret_message = m;
	return 0;
}

void qmp_message_clear(struct qmp_message *message)
{
	json_decref(message->root);
	*message = (struct qmp_message){0};
}

int qmp_command(
	struct qmp *qmp, const char *name, json_t *arguments, uint64_t now_ms, uint64_t *ret_id)
{
	if (qmp->state != STATE_READY) {
		json_decref(arguments);
		return VMSIG_ERR_NOT_READY;
	}
	return queue_command(qmp, name, arguments, now_ms, ret_id);
}

const void *qmp_output(const struct qmp *qmp, size_t *ret_len)
{
	*ret_len = qmp->out.len;
	return qmp->out.len ? bytes_at(&qmp->out) : NULL;
}

void qmp_output_consumed(struct qmp *qmp, size_t len)
{
	bytes_drop(&qmp->out, len);
}

uint64_t qmp_deadline(const struct qmp *qmp)
{
	if (qmp->state == STATE_FAILED || qmp->silent)
		return UINT64_MAX;
	if (qmp->state == STATE_GREETING || qmp->state == STATE_RESUMING)
		return qmp->greeting_deadline;
	return qmp->npending ? qmp->pending[0].deadline : UINT64_MAX;
}

int qmp_advance(struct qmp *qmp, uint64_t now_ms)
{
	if (now_ms < qmp_deadline(qmp))
		return 0;
	qmp->silent = true;
	if (qmp->state == STATE_GREETING)
		snprintf(qmp->reason, sizeof(qmp->reason),
			"connected, but no QMP greeting came: a QMP socket serves one client at a "
			"time, so give vmsigd a -qmp socket of its own");
	else if (qmp->state == STATE_RESUMING)
		snprintf(qmp->reason, sizeof(qmp->reason),
			"QEMU did not answer on the connection of the broker before within %llu ms",
			(unsigned long long)qmp->timeout);
	else
		snprintf(qmp->reason, sizeof(qmp->reason), "QEMU did not answer %s within %llu ms",
			qmp->pending[0].name, (unsigned long long)qmp->timeout);
	return VMSIG_ERR_TIMEOUT;
}

bool qmp_is_settled(const struct qmp *qmp)
{
	return qmp->state == STATE_READY && !qmp->silent && !qmp->in.len && !qmp->out.len;
}

bool qmp_is_silent(const struct qmp *qmp)
{
	return qmp->silent;
}

const char *qmp_reason(const struct qmp *qmp)
{
	return qmp->reason;
}
