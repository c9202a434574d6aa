/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/write/notice.h"

#include <stdlib.h>

#include "broker/write/operator.h"
#include "proto/mishap.h"

struct notice *notice_new(
	struct desk *desk, enum lease_action_kind kind, const struct lease_view *lease)
{
	struct notice *notice = MISHAP("notice-memory") ? NULL : malloc(sizeof(*notice));

	if (!notice)
		return NULL;
	*notice = (struct notice){.kind = kind,
		.lease = lease->id,
		.token = lease->token,
		.endpoint = lease->endpoint,
		.session = lease->session,
		.told = lease->told,
		.reason = lease->reason};
	if (kind != LEASE_ACT_GRANTED)
		return notice;
	HASH_ADD(hh, desk->grants, lease, sizeof(notice->lease), notice);
	if (notice->hh.tbl)
		return notice;
	free(notice);
	return NULL;
}

const struct notice *notice_of_grant(const struct desk *desk, uint64_t lease)
{
	struct notice *notice = NULL;

	HASH_FIND(hh, desk->grants, &lease, sizeof(lease), notice);
	return notice;
}

/* Of one that is over only its name, the endpoint and the reason are left. */
static void view_of(struct desk *desk, const struct notice *notice, struct lease_view *view)
{
	if (notice->kind != LEASE_ACT_GRANTED && notice->kind != LEASE_ACT_NOTICE) {
		*view = (struct lease_view){.id = notice->lease,
			.endpoint = notice->endpoint,
			.reason = notice->reason};
		return;
	}
	if (!lease_find(desk->engine, notice->lease, view))
		*view = (struct lease_view){0};
}

static void tell_granted(struct desk *desk, struct desk_operator *op, const struct lease_view *view)
{
	lease_told(desk->engine, view->id);
	desk->env.events->granted(op->client, view);
}

void notice_tell(struct desk *desk, const struct notice *notice)
{
	const struct desk_events *events = desk->env.events;
	struct desk_operator *op = operator_find(desk, notice->session);
	struct lease_view view;

	view_of(desk, notice, &view);
	/* One that has ended meanwhile is told by the notice of its end. */
	if (!op || !view.id)
		return;
	if (notice->kind == LEASE_ACT_GRANTED)
		tell_granted(desk, op, &view);
	else if (notice->kind == LEASE_ACT_NOTICE)
		events->notice(op->client, &view);
	else if (notice->kind == LEASE_ACT_ENDED)
		events->ended(op->client, &view);
	else if (notice->kind == LEASE_ACT_REFUSED)
		events->refused(op->client, &view);
}

void notice_free(struct desk *desk, struct notice *notice)
{
	/* Such a one is in there, which the analyser does not see. */
	/* NOLINTBEGIN(clang-analyzer-core.NullDereference) */
	if (notice->kind == LEASE_ACT_GRANTED)
		HASH_DEL(desk->grants, notice);
	/* NOLINTEND(clang-analyzer-core.NullDereference) */
	free(notice);
}

void notices_free(struct desk *desk, struct notice *notices)
{
	struct notice *notice, *next;

	DL_FOREACH_SAFE (notices, notice, next)
		notice_free(desk, notice);
}
