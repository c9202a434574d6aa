/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_VALUE_H
#define CLIENTS_COMMON_VALUE_H

/* JSON values as all tools print them. NULL without memory, which json_pack() passes on. */

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "vmsig/vmsig_write.h"

/* "0x..." */
json_t *value_hex(uint64_t number);
/* What is no UTF-8 is no JSON string: ? for each byte above ASCII of a text that is none. */
json_t *value_text(const char *text);
/* Two digits a byte. */
json_t *value_bytes(const unsigned char *bytes, size_t len);
json_t *value_ranges(const vmsig_lease_range *ranges, size_t nranges);

#endif
