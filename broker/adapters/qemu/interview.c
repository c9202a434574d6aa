/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/interview.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_MAX (64u << 10) /* bytes; an event with the state of a device has some hundred */
#define PATIENCE 4u             /* time-outs, of one that talks and does not answer */

static void finish(struct interview *interview, const char *why)
{
	if (interview->over)
		return;
	interview->over = true;
	interview->done(interview->arg, interview, why);
}

/* ---- answers ---- */

/* "": it is none, or no text that somebody could type. */
static void take_name(struct interview *interview, const json_t *name)
{
	const char *text = json_string_value(name);
	size_t len = text ? strlen(text) : 0;

	if (len && len < sizeof(interview->name) && len == json_string_length(name))
		snprintf(interview->name, sizeof(interview->name), "%s", text);
}

/* 8-4-4-4-12 hexadecimal digits; all zeroes is what QEMU says that was not given one. */
static void take_uuid(struct interview *interview, const json_t *uuid)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	const char *text = json_string_value(uuid);
	bool any = false;

	if (!text || json_string_length(uuid) != sizeof(form) - 1)
		return;
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i])
			return;
		any |= text[i] != '-' && text[i] != '0';
	}
	for (size_t i = 0; any && i < sizeof(form); i++)
		interview->uuid[i] = (char)tolower((unsigned char)text[i]);
}

/* Nothing that was read is lost, and the rest is for who takes it up. Or QEMU is hung up on,
 * whoever has a copy of its connection still. */
static void hand_on(struct interview *interview)
{
	int fd = -1;

	link_hurry(&interview->link);
	if (!interview->broken && link_settle(&interview->link))
		fd = fcntl(link_fd(&interview->link), F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		kept_return(&interview->kept, fd);
	else
		(void)shutdown(link_fd(&interview->link), SHUT_RDWR);
}

static void on_answered(uv_timer_t *timer)
{
	struct interview *interview = timer->data;

	if (interview->resumed)
		hand_on(interview);
	finish(interview, NULL);
}

static void on_message(void *arg, struct qmp_message *message)
{
	struct interview *interview = arg;

	interview->silent = false;
	interview->broken |= message->kind == QMP_EVENT;
	if (message->kind != QMP_REPLY || interview->over)
		return;
	if (message->id == interview->name_id) {
		take_name(interview, json_object_get(message->value, "name"));
		interview->name_id = 0;
	} else if (message->id == interview->uuid_id) {
		take_uuid(interview, json_object_get(message->value, "UUID"));
		interview->uuid_id = 0;
	}
	/* Not from within what is still being read. */
	if (!interview->name_id && !interview->uuid_id)
		(void)uv_timer_start(&interview->patience, on_answered, 0, 0);
}

/* ---- the connection ---- */

static void on_ready(void *arg, pid_t pid)
{
	struct interview *interview = arg;
	int r = link_command(&interview->link, "query-name", NULL, &interview->name_id);

	interview->silent = false;
	if (!r)
		r = link_command(&interview->link, "query-uuid", NULL, &interview->uuid_id);
	if (r)
		finish(interview, "out of memory");
}

static void on_silent(void *arg, const char *reason)
{
	struct interview *interview = arg;

	interview->silent = true;
	if (!interview->over)
		interview->waits(interview->arg, interview, reason);
}

static void on_voice(void *arg)
{
}

static void on_down(void *arg, const char *reason)
{
	finish(arg, reason);
}

static void on_patience(uv_timer_t *timer)
{
	struct interview *interview = timer->data;
	char why[160];

	if (interview->silent)
		return;
	snprintf(why, sizeof(why), "QEMU talks at %.64s, and does not say what it is called",
		interview->link.path);
	finish(interview, why);
}

int interview_start(struct interview *interview, const struct interview_wanted *wanted, int place)
{
	uint64_t patience_ms = PATIENCE * wanted->timeout_ms;
	int r, fd = kept_take(&interview->kept, place);

	interview->link = (struct link){.loop = wanted->loop,
		.share = wanted->share,
		.path = wanted->path,
		.timeout_ms = wanted->timeout_ms,
		.max_message = MESSAGE_MAX,
		.arg = interview,
		.on_ready = on_ready,
		.on_message = on_message,
		.on_silent = on_silent,
		.on_voice = on_voice,
		.on_down = on_down};
	interview->resumed = fd >= 0;
	r = fd >= 0 ? link_resume(&interview->link, place, fd) : link_open(&interview->link, place);
	if (r)
		return r;
	interview->name_id = interview->uuid_id = UINT64_MAX;    /* not asked yet */
	(void)uv_timer_init(wanted->loop, &interview->patience); /* cannot fail */
	interview->patience.data = interview;
	(void)uv_timer_start(&interview->patience, on_patience, patience_ms, patience_ms);
	return 0;
}

/* ---- its end ---- */

static void handle_closed(struct interview *interview)
{
	if (--interview->handles == 0)
		interview->closed(interview->arg, interview);
}

static void on_link_closed(void *arg)
{
	handle_closed(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
	handle_closed(handle->data);
}

void interview_end(struct interview *interview)
{
	interview->over = true;
	interview->handles = 1;
	link_close(&interview->link);
	if (interview->link.closing) {
		interview->handles++;
		interview->link.on_closed = on_link_closed;
	}
	uv_close((uv_handle_t *)&interview->patience, on_timer_closed);
}
