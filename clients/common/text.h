/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_TEXT_H
#define CLIENTS_COMMON_TEXT_H

/*
 * What people type and read: numbers, durations, bytes in hexadecimal. The parsers take the
 * whole of `text` and leave their result alone when it is none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

/* An unsigned number, 0x... or decimal. */
bool text_number(const char *text, uint64_t *ret_number);
/* An unsigned number of `width` bytes (1, 2, 4 or 8), as the guest's CPU stores it. */
bool text_word(const char *text, unsigned width, unsigned char *ret_bytes);
/* Milliseconds of 500ms, 5s, 2min or 1h; a number alone is seconds. At most a day. */
bool text_duration(const char *text, uint32_t *ret_ms);
/* GPA+LEN, of at least one byte. */
bool text_range(const char *text, vmsig_lease_range *ret_range);

/* Behind a noun that is counted: "1 byte", "2 bytes". */
static inline const char *text_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

#define TEXT_TIME_MAX 48
/* A moment of CLOCK_REALTIME: ISO 8601 in UTC, with this many digits behind the second. */
void text_time(uint64_t real_ns, int digits, char ret_text[static TEXT_TIME_MAX]);
void text_time_now(int digits, char ret_text[static TEXT_TIME_MAX]);

/* Two digits a byte, 1 to `max` bytes into `ret_bytes`. */
bool text_hex_parse(const char *text, size_t max, unsigned char *ret_bytes, size_t *ret_len);
/* What is searched for: hex:DIGITS, str:TEXT, or the text itself. */
bool text_pattern(const char *text, size_t max, unsigned char *ret_bytes, size_t *ret_len);
/* Allocated; NULL without memory. */
char *text_hex(const unsigned char *bytes, size_t len);
/* Replaces what a terminal would obey, and what is not ASCII, by question marks. */
void text_clean(char *text);
/* Rows of address, bytes and characters to standard output. */
void text_hex_print(uint64_t addr, const unsigned char *bytes, size_t len);

#endif
