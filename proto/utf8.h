/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_UTF8_H
#define PROTO_UTF8_H

/*
 * Text that somebody less trusted has written, for people, logs and terminals. What names endpoints
 * and tenants is checked where it comes in; this is for sentences.
 */

#include <stdbool.h>
#include <stddef.h>

#define UTF8_MAX 4u /* bytes of a character */

/* Bytes of the well-formed character at `text`, which ends with NUL (RFC 3629); 0: there is none.
 */
size_t utf8_length(const unsigned char *text);
/* Whether the character of `len` bytes is of C0 or C1 or DEL: some of them drive terminals. */
bool utf8_is_control(const unsigned char *text, size_t len);
/* As much of `text` as fits into `size` bytes with the NUL, characters whole; '?' instead of
 * controls and of bytes that are no characters. `to` may be `text`: it never gets longer. */
void utf8_clean(char *to, size_t size, const char *text);

#endif
