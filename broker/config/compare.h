/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_COMPARE_H
#define BROKER_CONFIG_COMPARE_H

/*
 * What is different between two configurations, for whoever reloads: endpoints, tenants, sockets,
 * limits, other settings. By the tables of fields, so that a new key is never forgotten here.
 * Pure; takes n log n.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/config.h"

enum compare_section {
	COMPARE_ENDPOINTS,
	COMPARE_TENANTS, /* named "ROLE/NAME" */
	COMPARE_LISTEN,  /* "ctx", "write", "admin" */
	COMPARE_LIMITS,  /* by key */
	COMPARE_SETTINGS,
	COMPARE_SECTIONS
};
enum compare_kind { COMPARE_ADDED, COMPARE_REMOVED, COMPARE_CHANGED, COMPARE_KINDS };

struct compare_change {
	enum compare_section section;
	enum compare_kind kind;
	bool warns; /* it waits for the next start, or names nothing: `detail` says so */
	char name[96];
	char detail[160]; /* "64 -> 128"; "" where there is no more to say */
};

/* Those that are told one by one; all are counted. */
#define COMPARE_CHANGES_MAX 512u

struct compare_result {
	struct compare_change *changes;
	size_t nchanges;
	uint32_t counts[COMPARE_SECTIONS][COMPARE_KINDS];
};

/* compare_deinit() in any case. -ENOMEM. */
__attribute__((warn_unused_result)) int compare_configs(
	struct compare_result *ret_result, const struct config *old, const struct config *config);
void compare_deinit(struct compare_result *result);
bool compare_is_empty(const struct compare_result *result);
/* "endpoints", ...; "added", ...; static. */
const char *compare_section_name(enum compare_section section);
const char *compare_kind_name(enum compare_kind kind);

#endif
