/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/planes/convoy.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "broker/planes/dialect.h"
#include "broker/planes/steward.h"
#include "proto/wire/identity.h"

/* Of one connection, without an answer. */
#define QUESTIONS_MAX 8 /* an administrator's */
#define QUESTIONS_TENANT_MAX 1

enum convoy_slot { CONVOY_QUESTIONS };

static const struct account_kind kind = {.owner = "connection",
	.slots = {[CONVOY_QUESTIONS] = {"questions about the fleet without an answer",
			  "the bound of questions", "wait for one of them"}}};

/* One that waits for etcd, or for the client's turn. */
struct convoy_asked {
	struct steward_survey base;
	struct convoy *convoy;
	struct convoy_asked *prev, *next;
	uint64_t request_id;
	struct charge charge;
	bool done;
};

static bool is_tenant(const struct convoy *convoy)
{
	return conn_tenant(convoy->conn)->role & (IDENTITY_SENSOR | IDENTITY_OPERATOR);
}

static struct account_actor actor_of(const struct convoy *convoy)
{
	return (struct account_actor){.tenant = conn_tenant(convoy->conn)->tenant.name,
		.uid = conn_uid(convoy->conn),
		.pid = (int32_t)conn_pid(convoy->conn)};
}

void convoy_begin(struct convoy *convoy, struct conn *conn)
{
	*convoy = (struct convoy){.conn = conn, .services = conn_user(conn)};
	account_init(&convoy->account, &kind, "");
	account_set_limit(&convoy->account, CONVOY_QUESTIONS,
		is_tenant(convoy) ? QUESTIONS_TENANT_MAX : QUESTIONS_MAX);
}

static void asked_drop(struct convoy_asked *asked)
{
	const struct services *services = asked->convoy->services;

	services->steward->fleet_forget(services->ctx, &asked->base);
	DL_DELETE(asked->convoy->asked, asked);
	charge_refund(&asked->charge);
	free(asked);
}

/* The answer is the client's work. */
static void on_surveyed(struct steward_survey *base, bool known)
{
	struct convoy_asked *asked = (struct convoy_asked *)(void *)base;

	asked->done = true;
	conn_wake(asked->convoy->conn, 0);
}

static int ask_all(struct convoy *convoy, uint64_t request_id)
{
	const struct services *services = convoy->services;
	const struct account_actor actor = actor_of(convoy);
	struct convoy_asked *asked = calloc(1, sizeof(*asked));
	struct account_refusal refusal;

	if (!asked)
		return dialect_error(convoy->conn, request_id, -ENOMEM, NULL);
	if (charge_take(&asked->charge, &convoy->account, CONVOY_QUESTIONS, 1, &actor, &refusal)) {
		free(asked);
		return dialect_refusal(convoy->conn, request_id, &refusal);
	}
	asked->base.done = on_surveyed;
	asked->convoy = convoy;
	asked->request_id = request_id;
	DL_APPEND(convoy->asked, asked);
	if (is_tenant(convoy))
		conn_act(convoy->conn, PATRON_SURVEY);
	services->steward->fleet_survey(services->ctx, &asked->base);
	return 0;
}

int convoy_query(struct convoy *convoy, uint64_t request_id, bool whole)
{
	const struct services *services = convoy->services;
	struct steward_fleet fleet;

	if (whole && !services->steward->fleet(services->ctx, &fleet))
		return ask_all(convoy, request_id);
	return convoy_view_send(convoy, request_id, false, NULL);
}

int convoy_answer(struct convoy *convoy)
{
	const struct services *services = convoy->services;
	struct convoy_asked *asked = convoy->asked;
	int r;

	while (asked && !asked->done)
		asked = asked->next;
	if (!asked)
		return 0;
	r = convoy_view_send(convoy, asked->request_id, true,
		services->steward->fleet_atlas(services->ctx, &asked->base));
	asked_drop(asked);
	/* Another one is another piece. */
	if (!r && convoy->asked)
		conn_wake(convoy->conn, 0);
	return r;
}

void convoy_end(struct convoy *convoy)
{
	/* One that is dropped is not the first any more, which the analyser does not see through.
	 */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	while (convoy->asked)
		asked_drop(convoy->asked);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	account_deinit(&convoy->account);
}
