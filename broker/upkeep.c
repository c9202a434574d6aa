/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/upkeep.h"

#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/desk_shell.h"
#include "broker/endpoints.h"
#include "broker/log.h"
#include "broker/syncer.h"
#include "vmsig/vmsig_error.h"

#define TICK_MS 1000u
#define RETRY_FACTOR 50u /* rest per time that a try took */
/* A log that somebody else's reader keeps from being begun anew is left alone for so long. */
#define LOG_PAUSE_MS 1000u

/* ---- work on the pool ---- */

static void on_work(uv_work_t *work)
{
	struct broker *broker = work->data;
	struct upkeep *upkeep = &broker->upkeep;

	/* A failure shows in the commits that follow, which are logged. */
	if (upkeep->inspecting)
		(void)!store_inspect(broker->store, upkeep->problem, sizeof(upkeep->problem));
	else
		(void)!store_checkpoint(broker->store, &upkeep->complete);
}

static void inspected(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;

	upkeep->inspecting = false;
	store_inspected(broker->store, upkeep->problem);
	if (store_refusal(broker->store) && upkeep->problem[0])
		log_error("the state is damaged", LOG_STR("error", store_refusal(broker->store)));
}

static void checkpointed(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;
	uint64_t now_ms = uv_now(&broker->loop);

	store_checkpointed(broker->store, upkeep->complete);
	upkeep->next_ms = now_ms + STORE_CHECKPOINT_MS;
	upkeep->resume_ms = upkeep->complete ? 0 : now_ms + LOG_PAUSE_MS;
	if (broker->desk)
		desk_shell_prune(broker->desk_shell);
}

static void on_worked(uv_work_t *work, int status)
{
	struct broker *broker = work->data;

	broker->upkeep.working = false;
	if (broker->closing)
		broker_closed(broker);
	else if (broker->upkeep.inspecting)
		inspected(broker);
	else
		checkpointed(broker);
}

static void begin(struct broker *broker, bool inspecting)
{
	struct upkeep *upkeep = &broker->upkeep;

	upkeep->work.data = broker;
	upkeep->inspecting = inspecting;
	upkeep->working = uv_queue_work(&broker->loop, &upkeep->work, on_work, on_worked) == 0;
}

void upkeep_turn(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;

	store_grant(broker->store);
	/* Nobody waits for it. */
	if (store_wants_sync(broker->store))
		(void)syncer_ask(broker->syncer);
	if (upkeep->working || broker->closing || !store_wants_checkpoint(broker->store) ||
		uv_now(&broker->loop) < upkeep->resume_ms)
		return;
	begin(broker, false);
}

/* ---- the way back ---- */

/* A try opens and inspects a database on the loop: it may have a fiftieth of its time. */
static void retry_store(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;
	uint64_t start_ns = uv_hrtime();
	int r;

	if (!store_unusable(broker->store) || start_ns < upkeep->retry_ns)
		return;
	r = store_retry(broker->store);
	upkeep->retry_ns = uv_hrtime() + (uv_hrtime() - start_ns) * RETRY_FACTOR;
	if (r)
		return;
	log_info("the state can be used again");
	endpoints_rebind(broker->endpoints);
}

static void retry_desk(struct broker *broker)
{
	if (broker->desk || store_unusable(broker->store) || !broker_open_desk(broker, false))
		return;
	log_info("the write plane is open");
}

static void reclaim(struct broker *broker)
{
	if (!broker->short_of_room && !store_reclaim(broker->store)) {
		broker->short_of_room = true;
		log_error("the disk of the state is full; what must be recorded goes to a reserve, "
			  "and nothing is granted or written until there is room",
			LOG_STR("state_dir", broker->config->state_dir));
	} else if (broker->short_of_room && store_reclaim(broker->store)) {
		broker->short_of_room = false;
		log_info("there is room for the state again",
			LOG_STR("state_dir", broker->config->state_dir));
		/* New ones could not be stored. */
		endpoints_adopt(broker->endpoints, broker->config, NULL);
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct broker *broker = timer->data;
	struct upkeep *upkeep = &broker->upkeep;

	if (broker->closing)
		return;
	retry_store(broker);
	retry_desk(broker);
	reclaim(broker);
	if (upkeep->working)
		return;
	if (store_wants_inspection(broker->store))
		begin(broker, true);
	else if (uv_now(&broker->loop) >= upkeep->next_ms)
		begin(broker, false);
}

/* ---- life ---- */

int upkeep_start(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;
	int r = uv_timer_init(&broker->loop, &upkeep->timer);

	upkeep->timer.data = broker;
	upkeep->next_ms = uv_now(&broker->loop) + STORE_CHECKPOINT_MS;
	return r ? r : uv_timer_start(&upkeep->timer, on_tick, TICK_MS, TICK_MS);
}

void upkeep_close(struct broker *broker)
{
	uv_close((uv_handle_t *)&broker->upkeep.timer, NULL);
}
