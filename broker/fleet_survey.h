/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_SURVEY_H
#define BROKER_FLEET_SURVEY_H

/*
 * Reads all guests of the fleet out of etcd (fleet/atlas.h) for who asks for them. One reading at a
 * time: who comes while there is one waits for the next, so that nobody gets what is older than the
 * question, and several who look cost as much as one.
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

	uint64_t number; /* of the request whose answer is awaited */
	struct atlas *atlas;
	struct steward_survey *served, *waiting; /* by this reading, and by the next one */
	bool over;
};

/* It is answered once, perhaps before this returns, unless it is forgotten. */
void fleet_survey_ask(struct fleet_survey *survey, struct steward_survey *asked);
void fleet_survey_forget(struct fleet_survey *survey, struct steward_survey *asked);
/* Whether the answer is one to this. */
bool fleet_survey_takes(const struct fleet_survey *survey, const struct txn_answer *answer);
void fleet_survey_take(struct fleet_survey *survey, const struct txn_answer *answer);
/* Nothing is asked any more; all who wait are told so. */
void fleet_survey_end(struct fleet_survey *survey);

#endif
