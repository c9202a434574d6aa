/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_survey.h"

#include <utlist.h>

#include "broker/fleet/atlas.h"

/* Numbers of requests from here on are of surveys: the fleet counts its own from 1. */
#define NUMBERS (1ull << 63)
/* Who is answered by one reading: an answer may have all of a large fleet in it, a millisecond or
 * two of the loop, and those of a reading are given in one turn. */
#define ANSWERS_MAX 4u

static void go_on(struct fleet_survey *survey);

/* Whoever is told may forget others, and does not ask again. */
static void answer_all(struct fleet_survey *survey, const struct atlas *atlas)
{
	struct steward_survey *asked;

	while ((asked = survey->served)) {
		DL_DELETE(survey->served, asked);
		asked->done(asked, atlas);
	}
}

/* `known`: it is complete. */
static void finish(struct fleet_survey *survey, bool known)
{
	struct atlas *atlas = survey->atlas;

	survey->atlas = NULL;
	answer_all(survey, known ? atlas : NULL);
	atlas_free(atlas);
}

static void begin(struct fleet_survey *survey)
{
	for (unsigned n = 0; survey->waiting && n < ANSWERS_MAX; n++) {
		struct steward_survey *asked = survey->waiting;

		DL_DELETE(survey->waiting, asked);
		DL_APPEND(survey->served, asked);
	}
	survey->atlas = atlas_new(survey->fleet);
	if (survey->atlas)
		go_on(survey);
	else
		answer_all(survey, NULL);
}

static void begin_next(struct fleet_survey *survey)
{
	while (!survey->atlas && survey->waiting)
		begin(survey);
}

static void go_on(struct fleet_survey *survey)
{
	struct txn_request request;

	atlas_ask(survey->atlas, &request);
	request.number = survey->number = NUMBERS | (survey->number + 1);
	request.timeout_ms = survey->timeout_ms;
	if (etcd_send(survey->etcd, &request))
		finish(survey, false);
}

void fleet_survey_ask(struct fleet_survey *survey, struct steward_survey *asked)
{
	if (survey->over) {
		asked->done(asked, NULL);
		return;
	}
	DL_APPEND(survey->waiting, asked);
	begin_next(survey);
}

void fleet_survey_forget(struct fleet_survey *survey, struct steward_survey *asked)
{
	const struct steward_survey *one;

	DL_FOREACH (survey->served, one) {
		if (one != asked)
			continue;
		DL_DELETE(survey->served, asked);
		return;
	}
	DL_DELETE(survey->waiting, asked);
}

bool fleet_survey_takes(const struct fleet_survey *survey, const struct txn_answer *answer)
{
	return answer->number & NUMBERS;
}

void fleet_survey_take(struct fleet_survey *survey, const struct txn_answer *answer)
{
	enum atlas_progress progress;

	if (!survey->atlas || answer->number != survey->number)
		return;
	/* Nobody wants it any more. */
	progress = survey->served ? atlas_take(survey->atlas, answer) : ATLAS_FAILED;
	if (progress == ATLAS_GOES_ON)
		go_on(survey);
	else
		finish(survey, progress == ATLAS_COMPLETE);
	begin_next(survey);
}

void fleet_survey_end(struct fleet_survey *survey)
{
	survey->over = true;
	finish(survey, false);
	survey->served = survey->waiting;
	survey->waiting = NULL;
	answer_all(survey, NULL);
}
