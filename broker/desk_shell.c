/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/desk_shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "broker/error_text.h"
#include "broker/fleet_shell.h"
#include "broker/log.h"
#include "broker/net/closer.h"
#include "broker/store/store.h"
#include "broker/syncer.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define RECLAIM_NS (250ull * NS_PER_MS) /* between two looks for room */
#define LEASES_OF_ORIGIN 20u            /* bits: leases of one process of a broker in a fleet */
#define LEDGER_KEEP_S 3600              /* answers of ended leases */
#define RETAIN_STEP                                                                                \
	(256u << 10) /* bytes of new records after which the log's size is looked at               \
		      */

/* ---- records ---- */

static int records_begin(void *ctx)
{
	return store_begin(((struct desk_shell *)ctx)->env.store);
}

static int records_append(void *ctx, Vmsig__AuditRecord *record, uint64_t *ret_bytes)
{
	struct desk_shell *shell = ctx;
	uint64_t before = audit_appended(shell->audit);
	int r = audit_append(shell->audit, record);

	*ret_bytes = audit_appended(shell->audit) - before;
	return r;
}

/* One that was asked for under a policy that waits keeps its place when the next one does not. */
static bool is_synced(const struct desk_shell *shell)
{
	return shell->env.syncer && (shell->env.config->audit.power || shell->asked > shell->known);
}

static int records_commit(void *ctx, bool waits, uint64_t *ret_ticket)
{
	struct desk_shell *shell = ctx;
	int r;

	/* A sync that failed is final: then nothing is committed any more, as on a full disk. */
	if (is_synced(shell) && syncer_failed(shell->env.syncer))
		return VMSIG_ERR_IO;
	r = store_commit(shell->env.store);
	if (r)
		return r;
	/* What the fleet has to know too is known here. */
	if (shell->env.fleet)
		shell->leases->ops->settled(shell->leases, 0);
	*ret_ticket = waits && is_synced(shell) ? syncer_ask(shell->env.syncer) : 0;
	if (*ret_ticket)
		shell->asked = *ret_ticket;
	return 0;
}

static void on_synced(void *arg, uint64_t number, int result)
{
	struct desk_shell *shell = arg;

	shell->known = number;
	desk_committed(shell->desk, shell->env.now_ns(), number, result);
}

static void records_rollback(void *ctx)
{
	struct desk_shell *shell = ctx;

	store_rollback(shell->env.store);
	shell->leases->ops->settled(shell->leases, VMSIG_ERR_IO);
}

static enum desk_pressure records_pressure(void *ctx)
{
	switch (store_pressure(((struct desk_shell *)ctx)->env.store)) {
	case STORE_PRESSURE_FULL:
		return DESK_PRESSURE_FULL;
	case STORE_PRESSURE_HIGH:
		return DESK_PRESSURE_HIGH;
	case STORE_PRESSURE_NONE:
	default:
		return DESK_PRESSURE_NONE;
	}
}

/* There may be room again since the last time. */
static const char *records_refusal(void *ctx, uint64_t now_ns)
{
	struct desk_shell *shell = ctx;

	if (store_refusal(shell->env.store) && now_ns >= shell->reclaim_ns) {
		shell->reclaim_ns = now_ns + RECLAIM_NS;
		(void)!store_reclaim(shell->env.store);
	}
	return store_refusal(shell->env.store);
}

static const char *records_error(void *ctx)
{
	return store_error(((struct desk_shell *)ctx)->env.store);
}

static int records_get(void *ctx, uint64_t id, Vmsig__AuditRecord **ret_record)
{
	return audit_get(((struct desk_shell *)ctx)->audit, id, ret_record);
}

static bool records_lost(void *ctx, struct desk_loss *ret_loss)
{
	struct desk_shell *shell = ctx;
	struct audit_loss loss;
	struct audit_head head;

	if (!audit_lost(shell->audit, &loss))
		return false;
	audit_head(shell->audit, &head);
	*ret_loss = (struct desk_loss){.had = loss.id, .has = head.id};
	memcpy(ret_loss->hash, loss.hash, DESK_HASH);
	return true;
}

static const struct desk_record_ops records = {
	.begin = records_begin,
	.append = records_append,
	.commit = records_commit,
	.rollback = records_rollback,
	.pressure = records_pressure,
	.refusal = records_refusal,
	.error = records_error,
	.get = records_get,
	.lost = records_lost,
};

/* ---- leases ---- */

/* The store answers for the batch that is open: the desk settles what becomes of it. */
static void on_stored(void *arg, uint64_t id, uint64_t token)
{
	struct desk_shell *shell = arg;

	struct lease_view lease;

	if (shell->granting)
		shell->granted = token;
	else if (!desk_lease_find(shell->desk, id, &lease) ||
		 fleet_shell_grant(shell->env.fleet, &lease, token))
		desk_lease_failed(shell->desk, shell->env.now_ns(), id, VMSIG_ERR_BUSY);
}

static void on_failed(void *arg, uint64_t id, enum vmsig_error error)
{
	struct desk_shell *shell = arg;

	desk_lease_failed(shell->desk, shell->env.now_ns(), id, error);
}

static void on_lost(void *arg, uint64_t id, enum vmsig_error error)
{
	struct desk_shell *shell = arg;

	desk_lease_lost(shell->desk, shell->env.now_ns(), id, error);
}

static uint64_t token_floor(void *arg, uint32_t endpoint)
{
	const struct desk_shell *shell = arg;

	return shell->env.fleet ? fleet_shell_token_floor(shell->env.fleet, endpoint) : 0;
}

static const struct lease_store_events lease_events = {
	.stored = on_stored, .failed = on_failed, .lost = on_lost, .floor = token_floor};

static int leases_grant(
	void *ctx, const struct lease_view *lease, uint64_t now_ns, uint64_t *ret_token)
{
	struct desk_shell *shell = ctx;
	int r = shell->leases->ops->grant(shell->leases, lease, now_ns);

	shell->granted = 0;
	/* In a fleet it is asked for when the batch is durable, and answered later. */
	shell->granting = !shell->env.fleet;
	if (!r && shell->granting)
		shell->leases->ops->settled(shell->leases, 0);
	shell->granting = false;
	*ret_token = shell->granted;
	return r;
}

static int leases_renew(void *ctx, const struct lease_view *lease)
{
	struct desk_shell *shell = ctx;
	int r = shell->leases->ops->renew(shell->leases, lease);

	if (!r && !shell->env.fleet)
		shell->leases->ops->settled(shell->leases, 0);
	return r;
}

static int leases_end(void *ctx, const struct lease_view *lease)
{
	struct desk_shell *shell = ctx;

	if (shell->env.fleet)
		fleet_shell_end(shell->env.fleet, lease);
	return shell->leases->ops->end(shell->leases, lease);
}

static int leases_load(void *ctx, int (*each)(void *arg, const struct lease_view *lease), void *arg)
{
	struct desk_shell *shell = ctx;

	return shell->leases->ops->load(shell->leases, each, arg);
}

/* A lease keeps its number on each host that its guest comes to, so no two hosts, and no two
 * processes of one, count from the same one: what is random of it has 33 bits, and the whole stays
 * below what a double can count. One that is there already is not granted again. */
static int leases_next_id(void *ctx, uint64_t *ret_id)
{
	struct desk_shell *shell = ctx;
	uint64_t origin;

	if (shell->env.fleet) {
		if (getrandom(&origin, sizeof(origin), 0) != sizeof(origin))
			return -errno;
		*ret_id = (origin >> 31 | 1) << LEASES_OF_ORIGIN;
		return 0;
	}
	return shell->leases->ops->next_id(shell->leases, ret_id);
}

static int leases_find(
	void *ctx, uint64_t id, char tenant[static LEASE_NAME_MAX + 1], uint64_t *ret_token)
{
	struct desk_shell *shell = ctx;

	return shell->leases->ops->find(shell->leases, id, tenant, ret_token);
}

static const struct desk_lease_ops leases = {
	.grant = leases_grant,
	.renew = leases_renew,
	.end = leases_end,
	.load = leases_load,
	.next_id = leases_next_id,
	.find = leases_find,
};

/* ---- the ledger ---- */

static struct ledger *ledger_of(void *ctx)
{
	return ((struct desk_shell *)ctx)->ledger;
}

static int entry_find(void *ctx, const struct ledger_key *key, struct ledger_entry *ret_entry)
{
	return ledger_find(ledger_of(ctx), key, ret_entry);
}

static int entry_intend(void *ctx, const struct ledger_key *key,
	const uint8_t digest[static LEDGER_DIGEST], uint64_t intent)
{
	return ledger_intend(ledger_of(ctx), key, digest, intent);
}

static int entry_settle(void *ctx, const struct ledger_key *key, const void *reply, size_t len)
{
	return ledger_settle(ledger_of(ctx), key, reply, len);
}

static int entry_forget(void *ctx, const struct ledger_key *key)
{
	return ledger_forget(ledger_of(ctx), key);
}

static bool entry_next_open(void *ctx, struct ledger_key *cursor, struct ledger_entry *ret_entry)
{
	return ledger_next_open(ledger_of(ctx), cursor, ret_entry);
}

static int entry_highest(void *ctx, uint64_t lease, uint64_t writer, uint64_t *ret_sequence)
{
	return ledger_highest(ledger_of(ctx), lease, writer, ret_sequence);
}

static const struct desk_ledger_ops entries = {
	.find = entry_find,
	.intend = entry_intend,
	.settle = entry_settle,
	.forget = entry_forget,
	.next_open = entry_next_open,
	.highest = entry_highest,
};

/* ---- marks ---- */

static struct marks *marks_of(void *ctx)
{
	return ((struct desk_shell *)ctx)->marks;
}

static int mark_open(void *ctx, char *error, size_t error_size)
{
	struct desk_shell *shell = ctx;

	return store_marks(shell->env.store, &shell->marks, error, error_size);
}

static int mark_take(void *ctx, const struct ledger_key *key,
	const uint8_t digest[static LEDGER_DIGEST], uint32_t *ret_mark)
{
	return marks_take(marks_of(ctx), key, digest, ret_mark);
}

static void mark_begin(void *ctx, uint32_t mark)
{
	marks_begin(marks_of(ctx), mark);
}

static void mark_sum(void *ctx, uint32_t mark, uint32_t sum)
{
	marks_sum(marks_of(ctx), mark, sum);
}

static void mark_pause(void *ctx, uint32_t mark, uint64_t done)
{
	marks_pause(marks_of(ctx), mark, done);
}

static void mark_end(void *ctx, uint32_t mark, const void *reply, size_t len)
{
	marks_end(marks_of(ctx), mark, reply, len);
}

static void mark_hash(void *ctx, uint32_t mark, const uint8_t hash[static MARKS_HASH])
{
	marks_hash(marks_of(ctx), mark, hash);
}

static void mark_release(void *ctx, uint32_t mark)
{
	marks_release(marks_of(ctx), mark);
}

static bool mark_next(void *ctx, uint32_t *cursor, struct mark_view *ret_view)
{
	return marks_next(marks_of(ctx), cursor, ret_view);
}

static const struct desk_mark_ops marks = {
	.open = mark_open,
	.take = mark_take,
	.begin = mark_begin,
	.sum = mark_sum,
	.pause = mark_pause,
	.end = mark_end,
	.hash = mark_hash,
	.release = mark_release,
	.next = mark_next,
};

/* ---- the rest ---- */

static int digest(void *ctx, const void *data, size_t len, uint8_t ret_digest[static DESK_HASH])
{
	return audit_digest(((struct desk_shell *)ctx)->audit, data, len, ret_digest);
}

static int digests(void *ctx, const struct multihash_message *messages, size_t n)
{
	const struct desk_shell *shell = ctx;
	int r = 0;

	if (multihash_pays(shell->multihash, messages, n) &&
		multihash_make(shell->multihash, messages, n))
		return 0;
	for (size_t i = 0; !r && i < n; i++)
		r = digest(ctx, messages[i].data, messages[i].len, messages[i].ret_hash);
	return r;
}

static void fd_close(void *ctx, int fd, uint32_t uid)
{
	closer_give(((struct desk_shell *)ctx)->env.closer, fd, uid);
}

static void say(
	void *ctx, enum desk_log level, const char *text, const struct desk_fact facts[static 2])
{
	static const enum log_level levels[] = {[DESK_LOG_ERROR] = LOG_LEVEL_ERROR,
		[DESK_LOG_WARNING] = LOG_LEVEL_WARNING,
		[DESK_LOG_INFO] = LOG_LEVEL_INFO};
	struct log_field fields[3] = {0};

	for (size_t i = 0; i < 2 && facts[i].name; i++)
		fields[i] = facts[i].text ? LOG_STR(facts[i].name, facts[i].text)
					  : LOG_INT(facts[i].name, facts[i].number);
	log_record(levels[level], text, fields);
}

/* ---- retention ---- */

/* The oldest records go as fast as new ones come, a step a turn. */
static void retain(struct desk_shell *shell)
{
	const struct config_audit *config = &shell->env.config->audit;
	uint64_t appended = audit_appended(shell->audit);
	int r;

	if (!shell->over && appended - shell->retained < RETAIN_STEP)
		return;
	shell->retained = appended;
	r = audit_prune(shell->audit, config->size_max, config->age_max_ms, &shell->over);
	/* The next ones are a while away: the log says it once a minute, desk_shell_prune(). */
	if (r)
		shell->over = false;
}

/* Leases that ended long ago, or, when there are too many, any that has ended: as fast as new ones
 * come, a step a turn. */
static void forget(struct desk_shell *shell)
{
	uint64_t now_s, now_ns;

	if (!shell->forgets && !store_is_crowded(shell->env.store))
		return;
	now_s = (uint64_t)time(NULL);
	now_ns = shell->env.now_ns();
	if (now_ns < shell->forget_ns)
		return;
	shell->forget_error = ledger_prune(
		shell->ledger, now_s > LEDGER_KEEP_S ? now_s - LEDGER_KEEP_S : 0, &shell->forgets);
	/* The log says it once a minute, desk_shell_prune(). */
	if (shell->forget_error)
		shell->forget_ns = now_ns + RECLAIM_NS;
}

void desk_shell_prune(struct desk_shell *shell)
{
	const struct config_audit *config = &shell->env.config->audit;
	int r;

	desk_forget(shell->desk);
	desk_rooms_prune(shell);
	r = audit_prune(shell->audit, config->size_max, config->age_max_ms, &shell->over);
	if (!r)
		r = shell->forget_error;
	shell->forgets = true;
	if (r)
		log_warning("old records cannot be dropped", LOG_STR("error", error_text(r)),
			LOG_STR("store", store_error(shell->env.store)));
}

/* ---- life ---- */

static void on_flush(void *arg)
{
	struct desk_shell *shell = arg;

	desk_flush(shell->desk, shell->env.now_ns());
}

static int open_parts(struct desk_shell *shell, const struct desk_shell_env *env)
{
	int r;

	shell->env = *env;
	shell->multihash = multihash_new();
	r = audit_new(&shell->audit, env->store);
	if (!r)
		r = ledger_new(&shell->ledger, env->store);
	if (!r)
		r = lease_store_new(&shell->leases, env->store, &lease_events, shell);
	return r;
}

static int open_desk(struct desk_shell *shell, char *error, size_t error_size)
{
	const struct desk_env env = {
		.ops = {.records = &records,
			.leases = &leases,
			.ledger = &entries,
			.marks = &marks,
			.guests = &desk_guests,
			.bulk = &desk_sources,
			.digest = digest,
			.digests = digests,
			.fd_close = fd_close,
			.log = say,
			.ctx = shell},
		.shares = shell->env.shares,
		.config = shell->env.config,
		.events = shell->env.events,
		.roams = shell->env.fleet != NULL,
	};

	return desk_new(&shell->desk, &env, shell->env.now_ns(), error, error_size);
}

int desk_shell_new(struct desk_shell **ret_shell, const struct desk_shell_env *env, char *error,
	size_t error_size)
{
	struct desk_shell *shell = calloc(1, sizeof(*shell));
	int r = shell ? open_parts(shell, env) : -ENOMEM;

	if (r)
		snprintf(error, error_size, "cannot open the leases and the audit log: %s (%s)",
			error_text(r), store_error(env->store));
	else
		r = open_desk(shell, error, error_size);
	if (r) {
		desk_shell_free(shell);
		return r;
	}
	store_set_owner(env->store, on_flush, shell);
	if (env->syncer)
		syncer_watch(env->syncer, on_synced, shell);
	*ret_shell = shell;
	return 0;
}

static void stop_watching(struct desk_shell *shell)
{
	if (shell->env.syncer)
		syncer_watch(shell->env.syncer, NULL, NULL);
}

void desk_shell_close(struct desk_shell *shell, void (*closed)(void *arg), void *arg)
{
	stop_watching(shell);
	desk_close(shell->desk, shell->env.now_ns(), closed, arg);
}

void desk_shell_part(struct desk_shell *shell)
{
	if (!shell)
		return;
	shell->parted = shell->env.fleet;
	shell->env.fleet = NULL;
}

void desk_shell_reload(struct desk_shell *shell, const struct config *config)
{
	shell->env.config = config;
	desk_reload(shell->desk, shell->env.now_ns(), config);
}

void desk_shell_turn(struct desk_shell *shell)
{
	desk_turn(shell->desk, shell->env.now_ns());
	retain(shell);
	forget(shell);
}

bool desk_shell_rest(struct desk_shell *shell)
{
	return desk_rest(shell->desk, shell->env.now_ns());
}

struct desk_shell *desk_shell_free(struct desk_shell *shell)
{
	if (!shell)
		return NULL;
	if (shell->desk) {
		stop_watching(shell);
		store_set_owner(shell->env.store, NULL, NULL);
	}
	desk_free(shell->desk);
	desk_guests_free(shell);
	desk_rooms_free(shell);
	if (shell->leases)
		shell->leases->ops->free(shell->leases);
	ledger_free(shell->ledger);
	audit_free(shell->audit);
	marks_close(shell->marks);
	multihash_free(shell->multihash);
	free(shell);
	return NULL;
}
