/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_REFUSAL_H
#define BROKER_WRITE_REFUSAL_H

/*
 * Refusals in the audit log: the first few of a kind at once, the ones like it that follow as
 * one counted record every REFUSAL_WINDOW_NS. A client that is refused a thousand times a second
 * costs the log as much as one that is refused twice.
 */

#include "broker/write/state.h"

/* Those that are alike. */
struct refusal_key {
	char tenant[LEASE_NAME_MAX + 1];
	char endpoint[64]; /* "": any */
	uint32_t kind, outcome;
};

struct refusal {
	struct refusal_key key;
	uint64_t until_ns; /* then the repeats are recorded, or it is forgotten */
	uint32_t shown;    /* recorded one by one */
	uint64_t repeats;  /* since the last record */
	uint32_t uid, pid; /* of the last of them */
	char serial[IDENTITY_SERIAL_MAX + 1];
	char detail[DETAIL_MAX + 1];
	UT_hash_handle hh;
};

/* Records the refusal, or counts it if it is like one that was recorded. May shorten the
 * record's ranges. */
void refusal_record(struct desk *desk, Vmsig__AuditRecord *record);
/* Records what was counted, if it is time, or `all`. */
void refusals_turn(struct desk *desk, bool all);
void refusals_free(struct desk *desk);

#endif
