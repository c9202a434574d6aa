/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX 2048 /* below PIPE_BUF, so that records of threads do not mix */

static atomic_int log_level = LOG_LEVEL_INFO;
static atomic_bool log_json;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

struct record {
	char text[RECORD_MAX];
	size_t len; /* room for the closing characters is always left */
};

static void put(struct record *record, char c)
{
	if (record->len < sizeof(record->text) - 4)
		record->text[record->len++] = c;
}

static void put_text(struct record *record, const char *text)
{
	for (; *text; text++)
		put(record, *text);
}

/* JSON's escapes; logfmt readers take the same inside quotes. Bytes that are not ASCII go
 * as they are when they may be UTF-8, and are harmless to terminals either way. */
static void put_quoted(struct record *record, const char *text)
{
	char hex[8];

	put(record, '"');
	for (; text && *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			put(record, '\\');
			put(record, (char)c);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(hex, sizeof(hex), "\\u%04x", c);
			put_text(record, hex);
		} else {
			put(record, (char)c);
		}
	}
	put(record, '"');
}

static void put_key(struct record *record, const char *key, bool json)
{
	if (json) {
		if (record->len > 1)
			put(record, ',');
		put_quoted(record, key);
		put(record, ':');
	} else {
		if (record->len)
			put(record, ' ');
		put_text(record, key);
		put(record, '=');
	}
}

static void put_field(struct record *record, const struct log_field *field, bool json)
{
	char number[32];

	put_key(record, field->key, json);
	switch (field->type) {
	case LOG_FIELD_STR:
		put_quoted(record, field->str);
		break;
	case LOG_FIELD_INT:
		snprintf(number, sizeof(number), "%" PRId64, field->num);
		put_text(record, number);
		break;
	case LOG_FIELD_HEX:
		snprintf(number, sizeof(number), json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64,
			field->hex);
		put_text(record, number);
		break;
	case LOG_FIELD_END:
		break;
	}
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
	put_key(record, "time", json);
	put_quoted(record, text);
}

void log_setup(enum log_level level, bool json)
{
	atomic_store(&log_level, (int)level);
	atomic_store(&log_json, json);
}

void log_record(enum log_level level, const char *message, const struct log_field *fields)
{
	struct record record = {.len = 0};
	bool json = atomic_load(&log_json);
	int saved = errno;
	ssize_t n;

	if ((int)level > atomic_load(&log_level))
		return;
	if (json)
		put(&record, '{');
	put_time(&record, json);
	put_field(&record, &LOG_STR("level", level_names[level]), json);
	put_field(&record, &LOG_STR("msg", message), json);
	for (; fields->type != LOG_FIELD_END; fields++)
		put_field(&record, fields, json);
	if (json)
		record.text[record.len++] = '}';
	record.text[record.len++] = '\n';
	do
		n = write(STDERR_FILENO, record.text, record.len);
	while (n < 0 && errno == EINTR);
	/* A log that nobody reads any more must not stop the broker. */
	errno = saved;
}
