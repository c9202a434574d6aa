/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/fleet_voyage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/error_text.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

/* For writes that were begun before the migration, and for a tenure that a broker which was
 * restarted meanwhile has to find. */
#define PATIENCE_NS 2000000000ull
/* Source and target hear of the end of a migration by questions to two QEMUs: by so much the
 * source may have been the first. */
#define UNSEEN_NS 1000000000ull
/* Between tries to store what came, while the store fails; and how long it is tried. */
#define PAUSE_MIN_NS 20000000ull
#define PAUSE_MAX_NS 2000000000ull
#define STORE_PATIENCE_NS 60000000000ull

/* ---- steps ---- */

/* Whoever moved may be awaited again. */
static void come_back(struct fleet_voyage *voyage)
{
	if (!voyage->host[0])
		return;
	voyage->host[0] = '\0';
	voyage->events->awaited(voyage->ctx, voyage->endpoint);
}

static void stay(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	come_back(voyage);
	if (tenure && runs)
		tenure_stays(tenure, now_ns);
}

static void come(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	come_back(voyage);
	voyage->arrived_ns = now_ns;
	if (tenure)
		tenure_incoming(tenure, now_ns);
}

static void depart(const struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns)
{
	/* What goes may be another boot of the same kernel, at the same place. */
	if (tenure && voyage->over)
		(void)!tenure_session(tenure, now_ns, "");
	if (tenure)
		tenure_leaves(tenure, now_ns);
}

static void leave(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	log_info("the guest is being migrated away; nothing is written meanwhile",
		LOG_STR("endpoint", voyage->name));
	depart(voyage, tenure, now_ns);
}

static void part(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	voyage->patience_ns = now_ns + PATIENCE_NS;
	voyage->packed = false;
	voyage->events->left(voyage->ctx, voyage->endpoint);
	depart(voyage, tenure, now_ns);
}

static void end(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	if (tenure)
		tenure_gone(tenure, now_ns);
}

void fleet_voyage_step(struct fleet_voyage *voyage, struct tenure *tenure, bool runs,
	uint64_t now_ns, enum passage_step step)
{
	static void (*const steps[])(
		struct fleet_voyage *, struct tenure *, bool runs, uint64_t now_ns) = {
		[PASSAGE_STAYS] = stay,
		[PASSAGE_COMES] = come,
		[PASSAGE_LEAVES] = leave,
		[PASSAGE_LEFT] = part,
		[PASSAGE_ENDED] = end,
	};

	voyage->step = step;
	steps[step](voyage, tenure, runs, now_ns);
}

void fleet_voyage_begin(
	const struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	if (voyage->step == PASSAGE_LEAVES || voyage->step == PASSAGE_LEFT) {
		/* Said once: what was offered stays. */
		return;
	}
	if (voyage->step == PASSAGE_COMES)
		tenure_incoming(tenure, now_ns);
	if (runs)
		tenure_runs(tenure, now_ns);
}

void fleet_voyage_arrived(struct fleet_voyage *voyage, uint64_t now_ns)
{
	voyage->arrived_ns = now_ns;
}

void fleet_voyage_over(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns)
{
	voyage->over = true;
	voyage->kernel[0] = '\0';
	if (tenure && voyage->step == PASSAGE_LEAVES)
		(void)!tenure_session(tenure, now_ns, "");
}

void fleet_voyage_proven(struct fleet_voyage *voyage)
{
	voyage->over = false;
}

bool fleet_voyage_keeps(const struct fleet_voyage *voyage)
{
	return voyage->step == PASSAGE_LEFT && !voyage->host[0] && !voyage->over;
}

/* ---- what goes with it ---- */

bool fleet_voyage_is_due(const struct fleet_voyage *voyage)
{
	return voyage->step == PASSAGE_LEFT && !voyage->packed;
}

static void offer(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns,
	const void *data, size_t len)
{
	int r = tenure_offer(tenure, now_ns, NULL, data, len);

	voyage->packed = true;
	if (r)
		log_error(
			"the guest cannot be offered to the host that it has moved to, and begins "
			"a new epoch there",
			LOG_STR("endpoint", voyage->name), LOG_STR("error", error_text(r)));
	if (r) {
		voyage->events->lost(voyage->ctx, voyage->endpoint);
		tenure_gone(tenure, now_ns);
	}
}

void fleet_voyage_pack(
	struct fleet_voyage *voyage, struct tenure *tenure, bool had, uint64_t now_ns)
{
	bool last = now_ns >= voyage->patience_ns;
	uint8_t *data = NULL;
	size_t len = 0;
	int r = 0;

	if (!had && !last)
		return;
	/* Those of what was before it are over. */
	had = had && !voyage->over;
	if (had)
		r = voyage->events->pack(voyage->ctx, voyage->endpoint, last, &data, &len);
	if (r == VMSIG_ERR_BUSY && !last)
		return;
	if (r)
		log_warning("what goes with the guest cannot be packed: its leases end",
			LOG_STR("endpoint", voyage->name), LOG_STR("error", error_text(r)));
	/* Which do not go along nobody else ends. */
	if (r || !had)
		voyage->events->lost(voyage->ctx, voyage->endpoint);
	offer(voyage, tenure, now_ns, data, r ? 0 : len);
	free(data);
}

void fleet_voyage_moved(struct fleet_voyage *voyage, const char *host)
{
	snprintf(voyage->host, sizeof(voyage->host), "%s", host);
	voyage->events->moved(voyage->ctx, voyage->endpoint, voyage->host);
}

/* ---- what came with it ---- */

void fleet_voyage_forget(struct fleet_voyage *voyage)
{
	voyage->brought = false;
	voyage->intake = (struct baggage_intake){0};
	voyage->tries_ns = voyage->pause_ns = voyage->retry_ns = 0;
}

void fleet_voyage_bring(struct fleet_voyage *voyage)
{
	fleet_voyage_forget(voyage);
	voyage->brought = true;
}

static void settle(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns)
{
	fleet_voyage_forget(voyage);
	tenure_settled(tenure, now_ns);
}

/* The first step is told from where to count. */
static void begin(struct fleet_voyage *voyage, const struct fleet_bounds *bounds, uint64_t now_ns)
{
	struct baggage_intake *intake = &voyage->intake;

	if (intake->now_ns)
		return;
	*intake = (struct baggage_intake){.endpoint = voyage->endpoint,
		.now_ns = now_ns,
		.age_ns = UNSEEN_NS,
		.token_max = bounds->token,
		.epoch_max = bounds->epoch};
	if (voyage->arrived_ns && voyage->arrived_ns < now_ns)
		intake->age_ns += now_ns - voyage->arrived_ns;
}

/* Whether it is not tried again. */
static bool give_up(struct fleet_voyage *voyage, struct tenure *tenure, int error, uint64_t now_ns)
{
	if (!voyage->tries_ns) {
		voyage->tries_ns = now_ns;
		log_warning("what came with the guest cannot be stored yet, and nobody can write "
			    "to it before it is; this is tried for a minute",
			LOG_STR("endpoint", voyage->name), LOG_STR("error", error_text(error)));
	}
	if (now_ns - voyage->tries_ns < STORE_PATIENCE_NS) {
		voyage->pause_ns = voyage->pause_ns ? 2 * voyage->pause_ns : PAUSE_MIN_NS;
		if (voyage->pause_ns > PAUSE_MAX_NS)
			voyage->pause_ns = PAUSE_MAX_NS;
		voyage->retry_ns = now_ns + voyage->pause_ns;
		return false;
	}
	log_error("what came with the guest could not be stored: those of its leases that are not "
		  "here yet are over",
		LOG_STR("endpoint", voyage->name), LOG_STR("error", error_text(error)));
	settle(voyage, tenure, now_ns);
	return true;
}

bool fleet_voyage_unpack(struct fleet_voyage *voyage, struct tenure *tenure,
	const struct fleet_bounds *bounds, uint64_t now_ns)
{
	const uint8_t *data;
	size_t len;
	int r;

	/* Of one that was lost meanwhile there is nothing to be done. */
	if (!voyage->brought || !tenure_baggage(tenure, &data, &len)) {
		fleet_voyage_forget(voyage);
		return true;
	}
	if (now_ns < voyage->retry_ns)
		return false;
	begin(voyage, bounds, now_ns);
	r = voyage->events->unpack(voyage->ctx, &voyage->intake, data, len);
	if (r == VMSIG_ERR_BUSY) {
		voyage->retry_ns = now_ns + 1;
		return false;
	}
	if (r && r != VMSIG_ERR_INTERNAL)
		return give_up(voyage, tenure, r, now_ns);
	if (r)
		log_error("what came with the guest is damaged, or names tokens or epochs that the "
			  "fleet has not given: its leases are over",
			LOG_STR("endpoint", voyage->name));
	else
		log_info("what came with the guest is here, and its leases wait for their holders",
			LOG_STR("endpoint", voyage->name));
	settle(voyage, tenure, now_ns);
	return true;
}
