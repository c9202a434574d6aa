/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_SCALAR_H
#define BROKER_CONFIG_SCALAR_H

/*
 * Values as people write them: sizes, durations, modes. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/decode_type.h"

/* Parses the whole of `text` as a value of a numeric type. VMSIG_ERR_BAD_REQUEST also when
 * it does not fit 64 bits. *ret_example is always set: how such a value is written. */
__attribute__((warn_unused_result)) int scalar_parse(
	enum decode_type type, const char *text, uint64_t *ret_value, const char **ret_example);
/* The inverse, for messages. */
void scalar_format(enum decode_type type, uint64_t value, char *buf, size_t size);

bool scalar_is_name(const char *text);

#endif
