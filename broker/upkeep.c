/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/upkeep.h"

#include <errno.h>
#include <string.h>

#include "broker/desk_shell.h"
#include "broker/endpoints.h"
#include "broker/log.h"
#include "broker/shell.h"

#define TICK_MS 1000u
#define PRUNE_MS 60000u

/* ---- errands ---- */

static enum job_step on_work(struct job *job)
{
	struct broker *broker = job->arg;

	store_errand_run(broker->store);
	return JOB_DONE;
}

static void on_late(struct job *job)
{
	struct broker *broker = job->arg;

	log_error("the disk of the state does not answer; what happens meanwhile is kept in memory",
		LOG_STR("state_dir", store_dir(broker->store)));
}

static void opened(struct broker *broker)
{
	log_info("the state can be used again");
	endpoints_rebind(broker->endpoints);
}

static void on_done(struct job *job)
{
	struct broker *broker = job->arg;
	bool damaged = store_is_damaged(broker->store);

	broker->upkeep.working = false;
	store_errand_end(broker->store);
	if (broker->closing)
		return;
	if (!damaged && store_is_damaged(broker->store))
		log_error("the state is damaged", LOG_STR("error", store_refusal(broker->store)));
	if (store_errand_opened(broker->store))
		opened(broker);
}

static const struct job_ops ops = {.work = on_work, .late = on_late, .done = on_done};

static void run_errands(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;

	if (upkeep->working || !store_errand_begin(broker->store))
		return;
	upkeep->working = true;
	upkeep->job = (struct job){.ops = &ops, .arg = broker};
	job_start(&upkeep->job, upkeep->line);
}

void upkeep_turn(struct broker *broker)
{
	if (!broker->closing && store_errand_hurries(broker->store))
		run_errands(broker);
}

/* ---- the way back ---- */

static void retry_desk(struct broker *broker)
{
	if (broker->desk || store_unusable(broker->store) ||
		!broker->upkeep.open_desk(broker, false))
		return;
	log_info("the write plane is open");
}

static void reclaim(struct broker *broker)
{
	if (!broker->short_of_room && !store_reclaim(broker->store)) {
		broker->short_of_room = true;
		log_error("nothing is granted or written until the state can be recorded",
			LOG_STR("state_dir", store_dir(broker->store)),
			LOG_STR("error", store_error(broker->store)));
	} else if (broker->short_of_room && store_reclaim(broker->store)) {
		broker->short_of_room = false;
		log_info("the state can be recorded again",
			LOG_STR("state_dir", store_dir(broker->store)));
		/* New ones could not be stored. */
		endpoints_adopt(broker->endpoints, broker->config, NULL);
	}
}

static void prune(struct broker *broker)
{
	struct upkeep *upkeep = &broker->upkeep;
	uint64_t now_ms = uv_now(&broker->loop);

	if (!broker->desk || now_ms < upkeep->prune_ms)
		return;
	upkeep->prune_ms = now_ms + PRUNE_MS;
	desk_shell_prune(broker->desk_shell);
}

static void on_tick(uv_timer_t *timer)
{
	struct broker *broker = timer->data;

	if (broker->closing)
		return;
	store_turn(broker->store);
	retry_desk(broker);
	reclaim(broker);
	prune(broker);
	run_errands(broker);
}

/* ---- what is heard of the disk ---- */

static void on_trouble(void *arg, const char *sentence)
{
	struct broker *broker = arg;

	if (sentence)
		log_error("the disk of the state is in trouble",
			LOG_STR("state_dir", store_dir(broker->store)), LOG_STR("error", sentence));
	else
		log_info("the disk of the state works again",
			LOG_STR("state_dir", store_dir(broker->store)));
}

static const struct store_events events = {.trouble = on_trouble};

/* ---- life ---- */

int upkeep_start(struct broker *broker, bool (*open_desk)(struct broker *broker, bool loudly))
{
	struct upkeep *upkeep = &broker->upkeep;
	int r = job_line_new(&upkeep->line, broker->jobs);

	if (r)
		return r;
	upkeep->watcher = (struct store_watcher){.events = &events, .arg = broker};
	store_watch(broker->store, &upkeep->watcher);
	upkeep->open_desk = open_desk;
	upkeep->prune_ms = uv_now(&broker->loop) + PRUNE_MS;
	r = uv_timer_init(&broker->loop, &upkeep->timer);
	upkeep->timer.data = broker;
	return r ? r : uv_timer_start(&upkeep->timer, on_tick, TICK_MS, TICK_MS);
}

void upkeep_close(struct broker *broker)
{
	uv_close((uv_handle_t *)&broker->upkeep.timer, NULL);
}

void upkeep_end(struct broker *broker)
{
	store_unwatch(broker->store, &broker->upkeep.watcher);
	broker->upkeep.line = job_line_free(broker->upkeep.line);
}
