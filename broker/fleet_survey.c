/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_survey.h"

#include <utlist.h>

#include "broker/fleet/atlas.h"

/* Numbers of requests from here on are of surveys: the fleet counts its own from 1. */
#define NUMBERS (1ull << 63)

/* ---- who asks ---- */

static void leave(struct steward_survey *asked)
{
	if (asked->list)
		DL_DELETE(*asked->list, asked);
	asked->list = NULL;
}

static void enter(struct steward_survey **list, struct steward_survey *asked)
{
	leave(asked);
	DL_APPEND(*list, asked);
	asked->list = list;
}

/* Whoever is told may forget others, and does not ask again. */
static void tell_known(struct fleet_survey *survey)
{
	struct steward_survey *asked;

	while ((asked = survey->served)) {
		enter(&survey->told, asked);
		asked->done(asked, true);
	}
}

static void tell_unknown(struct steward_survey **list)
{
	struct steward_survey *asked;

	while ((asked = *list)) {
		leave(asked);
		asked->done(asked, false);
	}
}

/* ---- reading ---- */

static void drop_latest(struct fleet_survey *survey)
{
	survey->latest = atlas_free(survey->latest);
}

static void go_on(struct fleet_survey *survey);

/* `known`: it is complete. */
static void finish(struct fleet_survey *survey, bool known)
{
	struct atlas *atlas = survey->atlas;

	survey->atlas = NULL;
	if (!known || !survey->served) {
		atlas_free(atlas);
		tell_unknown(&survey->served);
		return;
	}
	drop_latest(survey);
	survey->latest = atlas;
	tell_known(survey);
}

static void begin(struct fleet_survey *survey)
{
	while (survey->waiting)
		enter(&survey->served, survey->waiting);
	survey->atlas = atlas_new(survey->fleet);
	if (survey->atlas)
		go_on(survey);
	else
		tell_unknown(&survey->served);
}

static void begin_next(struct fleet_survey *survey)
{
	if (!survey->atlas && survey->waiting)
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
	asked->list = NULL;
	if (survey->over) {
		asked->done(asked, false);
		return;
	}
	enter(&survey->waiting, asked);
	begin_next(survey);
}

const struct atlas *fleet_survey_atlas(
	const struct fleet_survey *survey, const struct steward_survey *asked)
{
	return asked->list == &survey->told ? survey->latest : NULL;
}

void fleet_survey_forget(struct fleet_survey *survey, struct steward_survey *asked)
{
	leave(asked);
	if (!survey->told)
		drop_latest(survey);
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
	survey->atlas = atlas_free(survey->atlas);
	tell_unknown(&survey->served);
	tell_unknown(&survey->waiting);
	tell_unknown(&survey->told);
	drop_latest(survey);
}
