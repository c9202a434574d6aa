/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_TEXT_H
#define CLIENTS_CTL_TEXT_H

/*
 * What people type and read: numbers, durations, bytes in hexadecimal. The parsers take the
 * whole of `text` and leave their result alone when it is none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

/* An unsigned number, 0x... or decimal. */
bool ctl_number(const char *text, uint64_t *ret_number);
/* Milliseconds of 500ms, 5s, 2min or 1h; a number alone is seconds. At most a day. */
bool ctl_duration(const char *text, uint32_t *ret_ms);
/* GPA+LEN, of at least one byte. */
bool ctl_range(const char *text, vmsig_lease_range *ret_range);

/* Two digits a byte, 1 to `max` bytes into `ret_bytes`. */
bool ctl_hex_parse(const char *text, size_t max, unsigned char *ret_bytes, size_t *ret_len);
/* Allocated; NULL without memory. */
char *ctl_hex_text(const unsigned char *bytes, size_t len);
/* Rows of address, bytes and characters to standard output. */
void ctl_hex_print(uint64_t addr, const unsigned char *bytes, size_t len);

#endif
