/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/auditor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/jobs.h"
#include "broker/store/store.h"
#include "vmsig/vmsig_error.h"

#define NEWEST 100 /* records that a question for the newest gets if it names no number */

struct audit_question {
	struct auditor *auditor;
	struct audit_question *prev, *next; /* of those that wait for the journal */
	struct audit_query query;
	struct journal *journal;
	uint64_t number; /* entry that has to be in a segment */
	bool waits;
	struct job job;
	struct audit_answer answer;
	void (*answered)(void *arg, const struct audit_answer *answer);
	void *arg;
};

struct auditor {
	struct store *store;
	struct job_line *line;
	struct store_watcher watcher;
	struct audit_question *waiting; /* in the order of their numbers */
};

/* ---- reading ---- */

static void question_free(struct audit_question *question)
{
	audit_page_free(&question->answer.page);
	free(question);
}

/* What is committed when it is read may be more than the head that goes with it. */
static struct journal_query query_of(const struct audit_query *query, uint64_t head)
{
	return (struct journal_query){.after = query->after,
		.until = query->until && query->until < head ? query->until : head,
		.from_ns = query->from_ns,
		.to_ns = query->to_ns,
		.kinds = query->kinds,
		.endpoint = query->endpoint,
		.tenant = query->tenant,
		.newest = query->newest,
		.limit = query->newest && !query->limit ? NEWEST : query->limit,
		.bytes = AUDIT_PAGE_BYTES};
}

static enum job_step on_work(struct job *job)
{
	struct audit_question *question = job->arg;
	struct audit_answer *answer = &question->answer;
	struct journal_query query = query_of(&question->query, answer->head.id);

	answer->result = audit_find(question->journal, &query, &answer->page);
	return JOB_DONE;
}

static void on_done(struct job *job)
{
	struct audit_question *question = job->arg;

	/* The broker ends. */
	if (!job->finished)
		question->answer.result = VMSIG_ERR_SHUTTING_DOWN;
	if (question->answered)
		question->answered(question->arg, &question->answer);
	question_free(question);
}

static const struct job_ops ops = {.work = on_work, .done = on_done};

static void read_log(struct audit_question *question)
{
	struct audit_head *head = &question->answer.head;

	audit_head_of(question->journal, head);
	question->job = (struct job){.ops = &ops, .arg = question};
	job_start(&question->job, question->auditor->line);
}

/* ---- waiting for the journal ---- */

static void on_drained(void *arg)
{
	struct auditor *auditor = arg;
	struct audit_question *question;

	while ((question = auditor->waiting) &&
		question->number <= journal_drained(question->journal)) {
		DL_DELETE(auditor->waiting, question);
		question->waits = false;
		if (question->answered)
			read_log(question);
		else
			question_free(question);
	}
}

static const struct store_events events = {.drained = on_drained};

static void wait_for_journal(struct audit_question *question)
{
	question->number = journal_committed(question->journal);
	if (question->number <= journal_drained(question->journal)) {
		read_log(question);
		return;
	}
	question->waits = true;
	DL_APPEND(question->auditor->waiting, question);
	journal_hurry(question->journal);
}

int auditor_ask(struct auditor *auditor, const struct audit_query *query,
	void (*answered)(void *arg, const struct audit_answer *answer), void *arg,
	struct audit_question **ret_question)
{
	struct journal *journal = store_journal(auditor->store);
	struct audit_question *question = journal ? calloc(1, sizeof(*question)) : NULL;

	if (!question)
		return journal ? -ENOMEM : VMSIG_ERR_IO;
	if (job_line_is_closed(auditor->line)) {
		free(question);
		return VMSIG_ERR_SHUTTING_DOWN;
	}
	question->auditor = auditor;
	question->query = *query;
	question->journal = journal;
	question->answered = answered;
	question->arg = arg;
	*ret_question = question;
	wait_for_journal(question);
	return 0;
}

void auditor_forget(struct audit_question *question)
{
	question->answered = NULL;
	if (question->waits) {
		DL_DELETE(question->auditor->waiting, question);
		question_free(question);
	} else {
		job_cancel(&question->job);
	}
}

/* ---- life ---- */

int auditor_new(struct auditor **ret_auditor, struct jobs *jobs, struct store *store)
{
	struct auditor *auditor = calloc(1, sizeof(*auditor));

	if (!auditor)
		return -ENOMEM;
	auditor->store = store;
	if (job_line_new(&auditor->line, jobs)) {
		free(auditor);
		return -ENOMEM;
	}
	auditor->watcher = (struct store_watcher){.events = &events, .arg = auditor};
	store_watch(store, &auditor->watcher);
	*ret_auditor = auditor;
	return 0;
}

struct auditor *auditor_free(struct auditor *auditor)
{
	struct audit_question *question, *next;

	if (!auditor)
		return NULL;
	store_unwatch(auditor->store, &auditor->watcher);
	DL_FOREACH_SAFE (auditor->waiting, question, next)
		question_free(question);
	job_line_free(auditor->line);
	free(auditor);
	return NULL;
}
