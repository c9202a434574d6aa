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
	if (tenure)
		tenure_incoming(tenure, now_ns);
}

static void leave(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	log_info("the guest is being migrated away; nothing is written meanwhile",
		LOG_STR("endpoint", voyage->name));
	if (tenure)
		tenure_leaves(tenure, now_ns);
}

static void part(struct fleet_voyage *voyage, struct tenure *tenure, bool runs, uint64_t now_ns)
{
	voyage->patience_ns = now_ns + PATIENCE_NS;
	voyage->packed = false;
	voyage->events->left(voyage->ctx, voyage->endpoint);
	if (tenure)
		tenure_leaves(tenure, now_ns);
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

bool fleet_voyage_keeps(const struct fleet_voyage *voyage)
{
	return voyage->step == PASSAGE_LEFT && !voyage->host[0];
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
	if (r)
		tenure_gone(tenure, now_ns);
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
	if (had)
		r = voyage->events->pack(voyage->ctx, voyage->endpoint, last, &data, &len);
	if (r == VMSIG_ERR_BUSY && !last)
		return;
	if (r)
		log_warning("what goes with the guest cannot be packed: its leases end",
			LOG_STR("endpoint", voyage->name), LOG_STR("error", error_text(r)));
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
	free(voyage->baggage);
	voyage->baggage = NULL;
	voyage->baggage_len = 0;
	voyage->brought = false;
}

int fleet_voyage_bring(struct fleet_voyage *voyage, const void *data, size_t len)
{
	fleet_voyage_forget(voyage);
	voyage->baggage = malloc(len + 1);
	if (!voyage->baggage)
		return -ENOMEM;
	if (len)
		memcpy(voyage->baggage, data, len);
	voyage->baggage_len = len;
	voyage->brought = true;
	return 0;
}

bool fleet_voyage_unpack(struct fleet_voyage *voyage, struct tenure *tenure, uint64_t now_ns)
{
	int r;

	if (!voyage->brought)
		return true;
	r = voyage->events->unpack(
		voyage->ctx, voyage->endpoint, voyage->baggage, voyage->baggage_len);
	if (r && r != VMSIG_ERR_INTERNAL)
		return false;
	if (r)
		log_error("what came with the guest is damaged: its leases are over",
			LOG_STR("endpoint", voyage->name));
	else
		log_info("what came with the guest is here, and its leases wait for their holders",
			LOG_STR("endpoint", voyage->name));
	fleet_voyage_forget(voyage);
	tenure_settled(tenure, now_ns);
	return true;
}
