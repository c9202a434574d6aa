/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "broker/log_writer.h"
#include "proto/utf8.h"

#define RECORD_MAX 2048 /* below PIPE_BUF, so that records of threads do not mix */

static atomic_int log_level = LOG_LEVEL_INFO;
static atomic_bool log_json;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

#define CLOSING_MAX 3 /* a quote, a brace, a newline: room for them is always left */

struct record {
	char text[RECORD_MAX];
	size_t len;
	bool full; /* something did not fit: nothing follows it */
};

static void put_bytes(struct record *record, const char *bytes, size_t n)
{
	if (record->len + n > sizeof(record->text) - CLOSING_MAX)
		record->full = true;
	if (record->full)
		return;
	memcpy(record->text + record->len, bytes, n);
	record->len += n;
}

static void put_text(struct record *record, const char *text)
{
	put_bytes(record, text, strlen(text));
}

static void put_closing(struct record *record, char c)
{
	record->text[record->len++] = c;
}

/* One character, whole or not at all. Returns how many bytes of `text` it took. */
static size_t put_character(struct record *record, const unsigned char *text)
{
	size_t len = utf8_length(text);
	char escape[8];

	if (!len) {
		put_text(record, "\\ufffd");
		return 1;
	}
	if (*text == '"' || *text == '\\') {
		snprintf(escape, sizeof(escape), "\\%c", *text);
		put_text(record, escape);
	} else if (utf8_is_control(text, len)) {
		snprintf(escape, sizeof(escape), "\\u%04x", text[len - 1]);
		put_text(record, escape);
	} else {
		put_bytes(record, (const char *)text, len);
	}
	return len;
}

/* JSON's escapes; logfmt readers take the same inside quotes. A text that does not fit is
 * cut. Whether there is one now. */
static bool put_quoted(struct record *record, const char *text)
{
	put_bytes(record, "\"", 1);
	if (record->full)
		return false;
	while (text && *text && !record->full)
		text += put_character(record, (const unsigned char *)text);
	put_closing(record, '"');
	return true;
}

static void put_key(struct record *record, const char *key, bool json)
{
	if (json) {
		put_text(record, record->len > 1 ? ",\"" : "\"");
		put_text(record, key);
		put_text(record, "\":");
	} else {
		put_text(record, record->len ? " " : "");
		put_text(record, key);
		put_text(record, "=");
	}
}

static bool put_value(struct record *record, const struct log_field *field, bool json)
{
	char number[32];

	if (field->type == LOG_FIELD_STR)
		return put_quoted(record, field->str);
	if (field->type == LOG_FIELD_INT)
		snprintf(number, sizeof(number), "%" PRId64, field->num);
	else
		snprintf(number, sizeof(number), json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64,
			field->hex);
	put_text(record, number);
	return !record->full;
}

static void put_field(struct record *record, const struct log_field *field, bool json)
{
	size_t start = record->len;

	if (record->full)
		return;
	put_key(record, field->key, json);
	if (!put_value(record, field, json))
		record->len = start;
}

static void put_time(struct record *record, bool json)
{
	struct timespec now;
	struct tm tm;
	char date[32], text[48];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%03ldZ", date, now.tv_nsec / 1000000);
	put_field(record, &LOG_STR("time", text), json);
}

void log_setup(enum log_level level, bool json)
{
	atomic_store(&log_level, (int)level);
	atomic_store(&log_json, json);
}

static void put_record(struct record *record, enum log_level level, const char *message,
	const struct log_field *fields)
{
	bool json = atomic_load(&log_json);

	if (json)
		put_text(record, "{");
	put_time(record, json);
	put_field(record, &LOG_STR("level", level_names[level]), json);
	put_field(record, &LOG_STR("msg", message), json);
	for (; fields->type != LOG_FIELD_END; fields++)
		put_field(record, fields, json);
	if (json)
		put_closing(record, '}');
	put_closing(record, '\n');
}

void log_record(enum log_level level, const char *message, const struct log_field *fields)
{
	struct record record = {.len = 0};
	int saved = errno;

	if ((int)level > atomic_load(&log_level))
		return;
	put_record(&record, level, message, fields);
	log_writer_put(record.text, record.len);
	errno = saved;
}

/* ---- not waiting for the reader ---- */

static size_t format_lost(char *text, size_t size, unsigned long lost)
{
	const struct log_field fields[] = {LOG_INT("count", lost), {.type = LOG_FIELD_END}};
	struct record record = {.len = 0};

	put_record(&record, LOG_LEVEL_WARNING, "records were lost: the log was not read", fields);
	memcpy(text, record.text, record.len < size ? record.len : size);
	return record.len < size ? record.len : size;
}

void log_start(void)
{
	int r = log_writer_start(format_lost);

	if (r)
		log_warning("no thread for the log: whoever reads it slowly stops the broker",
			LOG_STR("error", strerror(-r)));
}

void log_stop(void)
{
	log_writer_stop();
}

uint64_t log_lost(void)
{
	return log_writer_lost();
}
