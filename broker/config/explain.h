/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_EXPLAIN_H
#define BROKER_CONFIG_EXPLAIN_H

/*
 * What the policy of a configuration gives somebody on an endpoint, and which line says so: for
 * `vmsigd --explain`, which decides with the code that the broker decides with.
 */

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "broker/config/config.h"
#include "broker/config/decode.h"

/* `who` is a tenant's name, in all of its roles, or ROLE/NAME. *ret_granted: whether any of them
 * may see the endpoint. NULL without memory. */
json_t *explain_json(const struct config *config, const struct decode_lines *lines, const char *who,
	const char *endpoint, bool *ret_granted);
/* The same for people. */
void explain_print(const json_t *explained, FILE *out);

#endif
