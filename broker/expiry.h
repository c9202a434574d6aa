/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_EXPIRY_H
#define BROKER_EXPIRY_H

/*
 * What of the broker's keys ends soon: its certificate, its authority's, the revocation list. Said
 * in the log at the start, at a reload and once a day from EXPIRY_WARN_DAYS on; and for whoever
 * asks how the broker does. The broker only warns: it does not have the authority's key. Who has,
 * runs `vmsigctl pki renew` from a timer, and reloads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/tls.h"

#define EXPIRY_WARN_DAYS 30
#define EXPIRY_TEXT_MAX 160
#define EXPIRY_WARNINGS_MAX 3u

struct metrics;

struct expiry {
	struct tls_dates dates;
	char warnings[EXPIRY_WARNINGS_MAX][EXPIRY_TEXT_MAX];
	size_t nwarnings;
	int64_t told_s; /* when the log was told last */
};

/* Looks at the dates, which may be new ones. */
void expiry_look(struct expiry *expiry, const struct tls_dates *dates, int64_t now_s);
/* The dates, for whoever watches them; one that there is none of is left out. */
void expiry_metrics(const struct expiry *expiry, struct metrics *metrics);
/* Whether the log is to be told today; once a day. */
bool expiry_is_due(struct expiry *expiry, int64_t now_s);

#endif
