/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_SURVEY_H
#define BROKER_FLEET_SURVEY_H

/*
 * Reads all guests of the fleet out of etcd (fleet/atlas.h) for who asks for them. One reading at a
 * time: who comes while there is one waits for the next, so that nobody gets what is older than the
 * question, and several who look cost as much as one.
 *
 * An answer may have all of a large fleet in it, a millisecond or two of the loop, so each asker
 * makes its own, in its own turn and share; what was read last is kept for as long as somebody
 * still has to.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/etcd/etcd.h"
#include "broker/planes/steward.h"

struct atlas;

/* Zeroed but for the first ones. */
struct fleet_survey {
	struct etcd *etcd;
	const char *fleet;
	uint64_t timeout_ms; /* of each page */

	uint64_t number;              /* of the request whose answer is awaited */
	struct atlas *atlas, *latest; /* being read, and complete */
	/* By this reading, by the next one, and those that were told. */
	struct steward_survey *served, *waiting, *told;
	bool over;
};

/* It is told, perhaps before this returns, unless it is forgotten. */
void fleet_survey_ask(struct fleet_survey *survey, struct steward_survey *asked);
/* NULL: it was not told that they are known. */
const struct atlas *fleet_survey_atlas(
	const struct fleet_survey *survey, const struct steward_survey *asked);
void fleet_survey_forget(struct fleet_survey *survey, struct steward_survey *asked);
/* Whether the answer is one to this. */
bool fleet_survey_takes(const struct fleet_survey *survey, const struct txn_answer *answer);
void fleet_survey_take(struct fleet_survey *survey, const struct txn_answer *answer);
/* Nothing is asked any more; all who wait are told so. */
void fleet_survey_end(struct fleet_survey *survey);

#endif
