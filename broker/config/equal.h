/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_EQUAL_H
#define BROKER_CONFIG_EQUAL_H

/*
 * Values of decoded structs, looked at by the table of their fields, so that a new key is never
 * forgotten. Pure.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/config/decode.h"

/* Whether two structs of the table have the same values, */
bool equal_structs(const struct decode_field *fields, const void *a, const void *b);
/* or one field of theirs. */
bool equal_value(const struct decode_field *field, const void *a, const void *b);

/* One text, and no list. */
bool equal_is_text(enum decode_type type);
/* Of such a field; NULL: it was not given. */
const char *equal_text(const void *object, size_t offset);
/* Several. */
bool equal_is_text_list(enum decode_type type);
/* Of such a field, or of any other list: how many; and one of them. */
size_t equal_count(const void *object, const struct decode_field *field);
const char *equal_text_of(const void *object, const struct decode_field *field, size_t index);
/* Of a field of a number, an enumeration or a bool. */
uint64_t equal_number(const void *object, const struct decode_field *field);

#endif
