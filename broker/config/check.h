/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_CHECK_H
#define BROKER_CONFIG_CHECK_H

/*
 * What `vmsigd --check` does beyond reading the configuration: looks at the files that it
 * names. Changes nothing.
 */

#include <stddef.h>
#include <stdio.h>

#include "broker/config/config.h"

/* Writes a line for everything that would keep the broker from starting or an endpoint from
 * being served: "FILE: what; what to do". Returns how many. A QEMU that does not run yet is
 * no problem. */
size_t check_config(const struct config *config, FILE *out);

/* Writes a line for everything that does nothing as things are, but may come true later, or that is
 * seldom meant: "FILE: warning: what; what to do". */
void check_warn(const struct config *config, FILE *out);

/* A pattern of the tenant, or of its write rules, that names none of the configuration's endpoints
 * that it may; NULL: there is none, or where some are discovered it cannot be told. */
const char *check_idle_pattern(const struct config *config, const struct grant_tenant *tenant);

/* Less of the audit log than that is worth a warning: an operator at its full default rate fills
 * the default size in 17 minutes, and nobody writes at that rate for long. */
#define CHECK_HISTORY_S 600u
/* How many seconds of history the audit log keeps at least: when every operator records as much
 * as it may. UINT64_MAX: nobody may write. */
uint64_t check_audit_history(const struct config *config);

#endif
