/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The desk's life, its turn, and its transaction, which it owns: whoever else stores something
 * has it ended first (store_set_owner). After a commit that failed there is one moment for the
 * next try, for all that is owed.
 */
#include "broker/write/state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/error_text.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

#define LEDGER_KEEP_S 3600 /* answers of ended leases */
#define RETAIN_STEP                                                                                \
	(256u << 10) /* bytes of new records after which the log's size is looked at               \
		      */

uint64_t desk_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint8_t *desk_scratch(struct desk *desk, size_t size)
{
	uint8_t *grown;

	if (size <= desk->scratch_size)
		return desk->scratch;
	grown = realloc(desk->scratch, size);
	if (!grown)
		return NULL;
	desk->scratch = grown;
	desk->scratch_size = size;
	return grown;
}

/* ---- transactions ---- */

void desk_note(struct desk *desk, int r)
{
	if (r && !desk->failed)
		desk->failed = r;
}

void desk_append(struct desk *desk, Vmsig__AuditRecord *record)
{
	uint64_t before = audit_appended(desk->audit);
	int r = store_begin(desk->env.store);

	if (!r)
		r = audit_append(desk->audit, record);
	desk_note(desk, r);
	/* That it is asked to go is not the holder's doing. */
	if (record->kind != VMSIG__AUDIT_RECORD__KIND__NOTICE)
		account_charge(desk, record->tenant, audit_appended(desk->audit) - before);
}

bool desk_is_stuck(const struct desk *desk)
{
	return desk->retry_ns && desk_now() < desk->retry_ns;
}

/* Said once, and again now and then: it is tried four times a second. */
static void complain(struct desk *desk, int error)
{
	uint64_t now_ns = desk_now();

	if (desk->failing && now_ns - desk->complained_ns < DESK_COMPLAIN_NS)
		return;
	desk->complained_ns = now_ns;
	log_error("what operators do cannot be recorded; nothing is granted or written meanwhile",
		LOG_STR("error", error_text(error)),
		LOG_STR("store", store_error(desk->env.store)));
}

static void settled(struct desk *desk, int result)
{
	if (!result && desk->failing)
		log_info("what operators do can be recorded again");
	desk->failing = result != 0;
	desk->retry_ns = result ? desk_now() + DESK_RETRY_NS : 0;
	ends_recorded(desk, result);
	commands_recorded(desk, result);
}

int desk_commit(struct desk *desk)
{
	int r = desk->failed;

	desk->failed = 0;
	if (!r)
		r = durable_failed(desk);
	if (!r)
		r = store_commit(desk->env.store);
	if (!r) {
		audit_committed(desk->audit);
	} else {
		complain(desk, r);
		store_rollback(desk->env.store);
		audit_rolled_back(desk->audit);
	}
	settled(desk, r);
	return r;
}

/* Only records of refusals are open between turns; what fails is logged. */
static void flush(struct desk *desk)
{
	if (store_is_open(desk->env.store) || desk->failed)
		(void)!desk_commit(desk);
}

/* The transaction of intents is begun and ended in one step. */
static void on_flush(void *arg)
{
	struct desk *desk = arg;

	assert(!desk->intended);
	flush(desk);
}

void desk_settle(struct desk *desk)
{
	commands_record(desk);
	flush(desk);
}

/* ---- operators ---- */

struct desk_operator *desk_operator_find(struct desk *desk, uint64_t session)
{
	struct desk_operator *op = NULL;

	if (session)
		HASH_FIND(hh, desk->operators, &session, sizeof(session), op);
	return op;
}

int desk_operator_open(struct desk *desk, struct desk_operator *op)
{
	if (desk->closing)
		return VMSIG_ERR_SHUTTING_DOWN;
	op->session = ++desk->last_session;
	HASH_ADD(hh, desk->operators, session, sizeof(op->session), op);
	return op->hh.tbl ? 0 : -ENOMEM;
}

void desk_operator_close(struct desk *desk, struct desk_operator *op)
{
	while (op->own)
		command_charge(op->own, 0);
	HASH_DEL(desk->operators, op);
	lease_disconnect(desk->engine, desk_now(), op->session);
}

/* ---- the turn ---- */

/* The oldest records go as fast as new ones come, a step a turn. */
static void retain(struct desk *desk)
{
	const struct config_audit *config = &desk->env.config->audit;
	uint64_t appended = audit_appended(desk->audit);
	int r;

	if (!desk->over && appended - desk->retained < RETAIN_STEP)
		return;
	desk->retained = appended;
	r = audit_prune(desk->audit, config->size_max, config->age_max_ms, &desk->over);
	/* The next ones are a while away: the log says it once a minute, desk_prune(). */
	if (r)
		desk->over = false;
}

void desk_turn(struct desk *desk)
{
	bool more;

	/* A checkpoint ends: whoever began a transaction now would stand still with the loop. */
	if (store_is_held(desk->env.store) && !desk->closing)
		return;
	/* Leases wait for a restarted broker, whatever time closing takes. */
	if (!desk->closing)
		lease_advance(desk->engine, desk_now());
	do {
		more = lessor_turn(desk);
		more |= commands_turn(desk);
		/* Recorded results let leases end. */
	} while (more || lease_has_actions(desk->engine));
	refusals_turn(desk, false);
	flush(desk);
	retain(desk);
	desk_check_closed(desk);
}

/* When there is something to record, and it may be tried. */
static uint64_t record_due(const struct desk *desk)
{
	uint64_t due = desk->nowed ? 0 : desk->record_ns ? desk->record_ns : UINT64_MAX;

	return due < desk->retry_ns ? desk->retry_ns : due;
}

uint64_t desk_delay(const struct desk *desk)
{
	/* Leases wait for a restarted broker. */
	uint64_t due = desk->closing ? UINT64_MAX : lease_deadline(desk->engine);
	uint64_t now_ns = desk_now(), record = record_due(desk);

	/* Its end wakes the loop. */
	if (store_is_held(desk->env.store) && !desk->closing)
		return UINT64_MAX;
	if (desk->ready)
		return 0;
	if (record < due)
		due = record;
	if (desk->refusals_ns && desk->refusals_ns < due)
		due = desk->refusals_ns;
	return due == UINT64_MAX ? UINT64_MAX : due > now_ns ? due - now_ns : 0;
}

void desk_prune(struct desk *desk)
{
	const struct config_audit *config = &desk->env.config->audit;
	uint64_t now_s = (uint64_t)time(NULL);
	bool more = true;
	int r;

	sites_forget(desk);
	r = audit_prune(desk->audit, config->size_max, config->age_max_ms, &desk->over);
	if (!r && now_s > LEDGER_KEEP_S)
		r = ledger_prune(desk->ledger, now_s - LEDGER_KEEP_S, &more);
	if (r)
		log_warning("old records cannot be dropped", LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(desk->env.store)));
}

/* ---- life ---- */

/* What is gone cannot be proven any more, but that it is gone can. */
static void record_loss(struct desk *desk)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	struct audit_loss loss;
	struct audit_head head;

	if (!audit_lost(desk->audit, &loss))
		return;
	audit_head(desk->audit, &head);
	log_error("the audit log has lost records: power was lost, or the state was damaged or "
		  "restored from a backup",
		LOG_INT("had", loss.id), LOG_INT("has", head.id));
	record.kind = VMSIG__AUDIT_RECORD__KIND__LOST;
	record.pruned = loss.id;
	record.anchor = (ProtobufCBinaryData){.data = loss.hash, .len = AUDIT_HASH};
	desk_append(desk, &record);
}

static int open_parts(struct desk *desk)
{
	Vmsig__AuditRecord record = VMSIG__AUDIT_RECORD__INIT;
	char version[] = VMSIG_VERSION;
	int r = audit_new(&desk->audit, desk->env.store);

	if (!r)
		record_loss(desk);
	if (!r)
		r = ledger_new(&desk->ledger, desk->env.store);
	if (!r)
		r = lessor_init(desk);
	if (r)
		return r;
	recover_open_marks(desk);
	record.kind = VMSIG__AUDIT_RECORD__KIND__START;
	record.version = version;
	desk_append(desk, &record);
	/* What was written under leases that are over by now was written before. */
	recover_writes(desk);
	r = lessor_restore(desk);
	if (!r)
		r = desk_commit(desk);
	if (!r)
		recover_done(desk);
	return r;
}

int desk_new(struct desk **ret_desk, const struct desk_env *env, char *error, size_t error_size)
{
	struct desk *desk = calloc(1, sizeof(*desk));
	int r = desk ? 0 : -ENOMEM;

	if (!r) {
		desk->env = *env;
		desk->state_dir = strdup(env->config->state_dir);
		r = desk->state_dir ? open_parts(desk) : -ENOMEM;
	}
	if (r) {
		snprintf(error, error_size, "cannot open the leases and the audit log: %s (%s)",
			error_text(r), store_error(env->store));
		desk_free(desk);
		store_rollback(env->store);
		return r;
	}
	store_set_owner(env->store, on_flush, desk);
	durable_init(desk);
	*ret_desk = desk;
	return 0;
}

void desk_check_closed(struct desk *desk)
{
	void (*closed)(void *arg) = desk->closed;

	if (!closed || desk->all)
		return;
	desk->closed = NULL;
	closed(desk->closed_arg);
}

void desk_close(struct desk *desk, void (*closed)(void *arg), void *arg)
{
	desk->closing = true;
	desk->closed = closed;
	desk->closed_arg = arg;
	durable_drop(desk);
	refusals_turn(desk, true);
	desk_settle(desk);
	desk_check_closed(desk);
}

static void free_tables(struct desk *desk)
{
	struct site *site, *next_site;

	/* HASH_ITER takes the next one before, which the analyser does not see through. */
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc) */
	HASH_ITER (hh, desk->sites, site, next_site)
		site_free(desk, site);
	while (desk->tallies)
		replay_forget(desk, desk->tallies->lease);
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	budgets_free(desk);
	refusals_free(desk);
	accounts_free(desk);
}

struct desk *desk_free(struct desk *desk)
{
	struct lane *lane;

	if (!desk)
		return NULL;
	store_set_owner(desk->env.store, NULL, NULL);
	durable_drop(desk);
	for (lane = desk->lanes; lane; lane = lane->hh.next)
		lane->owner = NULL;
	while (desk->all)
		command_free(desk->all);
	free_tables(desk);
	if (desk->engine)
		lease_engine_free(desk->engine);
	if (desk->leases)
		desk->leases->ops->free(desk->leases);
	ledger_free(desk->ledger);
	audit_free(desk->audit);
	free(desk->notices);
	free(desk->owed);
	marks_close(desk->marks);
	free(desk->state_dir);
	free(desk->scratch);
	free(desk);
	return NULL;
}
