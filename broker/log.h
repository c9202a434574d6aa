/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_LOG_H
#define BROKER_LOG_H

/*
 * vmsigd's structured log on standard error: one line a record, logfmt
 * (level=info msg="..." key=value ...) or JSON. Called from the loop thread and from pool
 * threads. Between log_start() and log_stop() it never waits: records that the log's reader does
 * not take in time are counted and lost. Only the shell logs: proto/, lease/, core/ return errors
 * instead. Never pass secrets.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_field {
	const char *key;
	enum { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_HEX } type;
	union {
		const char *str; /* NULL is written as an empty string; anything is escaped */
		int64_t num;
		uint64_t hex;
	};
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .str = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .num = (int64_t)(v)})
#define LOG_HEX(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_HEX, .hex = (v)})

void log_setup(enum log_level level, bool json);
/* From here on, and until here, records go to standard error from a thread of the log's own.
 * Processes that are forked in between must not log. log_stop() gets out what it can within
 * LOG_WRITER_PARTING_MS; what is logged later is written at once, if that did not take longer. */
void log_start(void);
void log_stop(void);
void log_record(enum log_level level, const char *message, const struct log_field *fields);

/* The first element is there so that a record without fields has no stray comma. */
#define log_at(level, message, ...)                                                                \
	log_record((level), (message),                                                             \
		(const struct log_field[]){                                                        \
			{.type = LOG_FIELD_END}, ##__VA_ARGS__, {.type = LOG_FIELD_END}} +         \
			1)
#define log_error(message, ...) log_at(LOG_LEVEL_ERROR, message, ##__VA_ARGS__)
#define log_warning(message, ...) log_at(LOG_LEVEL_WARNING, message, ##__VA_ARGS__)
#define log_info(message, ...) log_at(LOG_LEVEL_INFO, message, ##__VA_ARGS__)
#define log_debug(message, ...) log_at(LOG_LEVEL_DEBUG, message, ##__VA_ARGS__)

/* Records that were lost since the start. */
uint64_t log_lost(void);

#endif
