/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_LOG_WRITER_H
#define BROKER_LOG_WRITER_H

/*
 * The log's way to standard error once the broker serves: a ring of LOG_WRITER_BYTES and a
 * thread that empties it, because whoever reads the log decides how long a write takes. Records
 * keep their order. Those that find the ring full are counted and lost; the next record that
 * fits is preceded by one that tells the count.
 *
 * Standard error may be shared with other processes, so it stays as it is (no O_NONBLOCK).
 * Before log_writer_start() and after a log_writer_stop() that got everything out, records are
 * written at once: what goes wrong at the start is on standard error before the exit.
 */

#include <stddef.h>

#define LOG_WRITER_BYTES (1u << 20) /* 5,000 records of 200 bytes */
#define LOG_WRITER_PARTING_MS 1000  /* for a reader that is slow, at the end */

/* Writes the record that tells of `lost` others to `text`; returns its length. */
typedef size_t (*log_writer_lost_fn)(char *text, size_t size, unsigned long lost);

/* Processes that are forked later must not log. 0 or -errno: records are written at once. */
__attribute__((warn_unused_result)) int log_writer_start(log_writer_lost_fn lost);
/* Waits for what is queued, but not for a reader that does not read; then records are dropped. */
void log_writer_stop(void);

/* One record, at most PIPE_BUF bytes. */
void log_writer_put(const char *text, size_t len);

/* Records that were lost since it was started. */
unsigned long log_writer_lost(void);

#endif
