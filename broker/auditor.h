/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_AUDITOR_H
#define BROKER_AUDITOR_H

/*
 * Reads the audit log for others, in jobs: the loop does not wait for the disk. A question is
 * about all that was committed when it was asked, so it waits for the journal's thread to bring
 * that into a segment.
 *
 * Everything is called, and calls, on the loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/store/audit.h"

struct auditor;
struct audit_question;
struct jobs;
struct store;

struct audit_query {
	uint64_t after;
	uint32_t limit; /* 0: as many as fit */
	bool newest;    /* the newest ones, 100 without a limit */
	/* Only those that fit, as struct journal_query has it; names by their keys. */
	uint64_t until, from_ns, to_ns, kinds;
	uint32_t endpoint, tenant;
};

/* Borrowed for the call. `result` as audit_page(); `head` is that of the page. */
struct audit_answer {
	int result;
	struct audit_page page;
	struct audit_head head;
};

/* Both outlive it. -ENOMEM. */
__attribute__((warn_unused_result)) int auditor_new(
	struct auditor **ret_auditor, struct jobs *jobs, struct store *store);
/* After jobs_close(); forgets what was not answered. Accepts NULL, returns NULL. */
struct auditor *auditor_free(struct auditor *auditor);

/* `answered` follows, from the loop and never inside of this call; the question is over with it.
 * VMSIG_ERR_IO: there is no log at the moment; -ENOMEM. */
__attribute__((warn_unused_result)) int auditor_ask(struct auditor *auditor,
	const struct audit_query *query,
	void (*answered)(void *arg, const struct audit_answer *answer), void *arg,
	struct audit_question **ret_question);
/* Nobody waits for it any more. */
void auditor_forget(struct audit_question *question);

#endif
