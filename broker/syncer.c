/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/syncer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "broker/jobs.h"
#include "broker/log.h"
#include "broker/store/store.h"

struct syncer {
	struct job_line *line;
	struct job job;
	char *state_dir;
	void (*done)(void *arg, uint64_t number, int result);
	void *arg;
	uint64_t asked, begun; /* numbers; what is under way covers `begun` */
	bool running;
	bool returned; /* the thread has its result */
	int result;
	int failed;
};

static void begin(struct syncer *syncer);

static enum job_step on_work(struct job *job)
{
	struct syncer *syncer = job->arg;

	syncer->result = syncer->failed ? syncer->failed : store_sync(syncer->state_dir);
	syncer->returned = true;
	return JOB_DONE;
}

static void on_late(struct job *job)
{
	struct syncer *syncer = job->arg;

	log_error("the disk of the state does not answer; whoever waits for it goes on waiting",
		LOG_STR("state_dir", syncer->state_dir));
}

static void on_done(struct job *job)
{
	struct syncer *syncer = job->arg;
	uint64_t number = syncer->begun;

	syncer->running = false;
	/* Cancelled before it began: the broker ends. */
	if (!syncer->returned)
		return;
	if (syncer->result && !syncer->failed) {
		syncer->failed = syncer->result;
		log_error("the state could not be brought to the disk; nothing that has to survive "
			  "a power cut is done any more, until vmsigd is started anew",
			LOG_STR("state_dir", syncer->state_dir),
			LOG_STR("error", strerror(-syncer->result)));
	}
	if (syncer->asked > number && !job_line_is_closed(syncer->line))
		begin(syncer);
	if (syncer->done)
		syncer->done(syncer->arg, number, syncer->failed);
}

static const struct job_ops ops = {.work = on_work, .late = on_late, .done = on_done};

static void begin(struct syncer *syncer)
{
	syncer->begun = syncer->asked;
	syncer->running = true;
	syncer->returned = false;
	syncer->job = (struct job){.ops = &ops, .arg = syncer};
	job_start(&syncer->job, syncer->line);
}

uint64_t syncer_ask(struct syncer *syncer)
{
	syncer->asked++;
	if (!syncer->running)
		begin(syncer);
	return syncer->asked;
}

int syncer_failed(const struct syncer *syncer)
{
	return syncer->failed;
}

void syncer_watch(
	struct syncer *syncer, void (*done)(void *arg, uint64_t number, int result), void *arg)
{
	syncer->done = done;
	syncer->arg = arg;
}

int syncer_new(struct syncer **ret_syncer, struct jobs *jobs, const char *state_dir)
{
	struct syncer *syncer = calloc(1, sizeof(*syncer));

	if (!syncer)
		return -ENOMEM;
	syncer->state_dir = strdup(state_dir);
	if (!syncer->state_dir || job_line_new(&syncer->line, jobs)) {
		free(syncer->state_dir);
		free(syncer);
		return -ENOMEM;
	}
	*ret_syncer = syncer;
	return 0;
}

struct syncer *syncer_free(struct syncer *syncer)
{
	if (!syncer)
		return NULL;
	job_line_free(syncer->line);
	/* A thread that hangs may use it for ever; the process is about to end. */
	if (syncer->running)
		return NULL;
	free(syncer->state_dir);
	free(syncer);
	return NULL;
}
