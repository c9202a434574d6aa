/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_WRITE_STATE_H
#define BROKER_WRITE_STATE_H

/*
 * The desk's own members: who has what. Each noun declares its struct and functions in a header
 * of its own; here is only what they hang on. Shared by the files of this folder, and by nobody
 * else.
 */

#include <string.h>
#include <utlist.h>

#include "broker/error_text.h"
#include "broker/metrics/metrics.h"
#include "broker/write/desk.h"
#include "vmsig/vmsig_error.h"

#define NS_PER_MS 1000000u
#define DETAIL_MAX 255

/* What becomes of a command (command.h). Each one is in the list of its state. */
enum command_state {
	COMMAND_NEW,     /* has come in, and is looked at for the first time */
	COMMAND_READY,   /* is looked at in the next turn */
	COMMAND_WAITING, /* in its lane, behind one that takes several turns */
	COMMAND_JOINED,  /* sent again while the first one is under way, whose answer is its own */
	COMMAND_HASHING, /* its bulk data is read by a thread, to compare it */
	COMMAND_COMPARING, /* with that of an earlier transmission that is not recorded yet */
	COMMAND_PLANNING,  /* where its bulk data goes is looked up, in parts */
	COMMAND_INTENDED,  /* its intent is in the open batch */
	COMMAND_HELD,      /* its intent is committed; the answer is late */
	COMMAND_CLEARED,   /* that has come; it goes on when its tenant has its turn */
	COMMAND_QUEUED,    /* wants vCPUs stopped that another one has */
	COMMAND_STOPPING,  /* they are being stopped for it */
	COMMAND_SLICING,   /* its bulk data is stored, slice by slice */
	COMMAND_PARTING,   /* a release; the end of its lease is being recorded */
	COMMAND_FINISHED,  /* has its outcome, which is to be told */
	COMMAND_DIGESTING, /* was told; a thread hashes its bulk data and what was there before */
	COMMAND_TOLD,      /* its result is to be recorded */
	COMMAND_RECORDED,  /* its result is in the open batch */
	COMMAND_GONE,
	COMMAND_STATES
};

/* Whose commands may go on (docket.h). */
enum docket_kind { DOCKET_READY, DOCKET_CLEARED, DOCKETS };

/* What outlives the process (recover.h). */
enum desk_marks {
	DESK_MARKS_NONE,    /* are not there: could not be opened, or will be */
	DESK_MARKS_FOUND,   /* what they tell is not settled yet */
	DESK_MARKS_SETTLED, /* in the open batch it is */
	DESK_MARKS_FREE,    /* ours: writes may take them */
};

/* The turn's batch (batch.h). */
struct batch {
	bool open;
	int failed;        /* it cannot be committed */
	uint64_t awaited;  /* the last ticket that has no answer; 0: there is none */
	uint64_t retry_ns; /* when another one is tried, after one that failed; 0: none has */
	bool failing;
	uint64_t complained_ns;
};

/* Since the start. */
struct desk_counts {
	uint64_t grants, bytes;
	struct metrics_errors ends, outcomes;
};

struct desk {
	struct desk_env env;
	uint64_t now_ns; /* of the latest event */
	struct lease_engine *engine;
	struct batch batch;
	struct desk_operator *operators; /* by session */
	uint64_t last_session;
	uint64_t policy;       /* counts what may change what it says */
	struct site *sites;    /* by id */
	struct lane *lanes;    /* by lease */
	struct tally *tallies; /* by lease */
	struct budget *budgets;
	struct bill *bills;  /* by tenant */
	uint64_t behind;     /* sum of theirs */
	struct bill *billed; /* those that the open batch is for */
	struct refusal *refusals;
	uint64_t refusals_ns; /* when they are looked at; 0: there are none */
	struct payer *payers; /* of bulk data, by tenant */
	struct account kept;  /* bytes that bulk data has taken the place of; payer.h */
	struct notice *notices, *held_notices;
	struct notice *owed;    /* ends that could not be made durable */
	struct notice *grants;  /* those of them all that say so, by lease */
	struct ending *endings; /* by lease */
	size_t restored;        /* leases that have not been held against the policy */
	uint64_t starved_ns;    /* when memory for what the engine wants is asked for again */

	struct command *all;
	struct command *taken; /* by key: their numbers are in use */
	struct command *lists[COMMAND_STATES];
	struct docket *dockets;           /* by tenant */
	struct docket_part *due[DOCKETS]; /* that have commands, by turns */
	size_t ndue[DOCKETS];
	bool crowded; /* what is ready waits for marks, that is for results */
	enum desk_marks marks;
	uint64_t marks_retry_ns; /* when they are opened again */
	uint64_t
		record_ns; /* when results that were told are recorded at the latest; 0: none are */

	struct desk_counts counts;
	uint8_t *scratch;
	size_t scratch_size;
	void *pieces; /* of a record's ranges; record_ranges() */
	size_t pieces_size;
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* An event has come, at this time. */
static inline void desk_enter(struct desk *desk, uint64_t now_ns)
{
	if (now_ns > desk->now_ns)
		desk->now_ns = now_ns;
}

/* ---- the log ---- */

#define FACT_TEXT(key, words) ((struct desk_fact){.name = (key), .text = (words)})
#define FACT_NUMBER(key, value) ((struct desk_fact){.name = (key), .number = (uint64_t)(value)})
#define NO_FACT ((struct desk_fact){0})

static inline void desk_log(const struct desk *desk, enum desk_log level, const char *text,
	struct desk_fact first, struct desk_fact second)
{
	const struct desk_fact facts[2] = {first, second};

	desk->env.ops.log(desk->env.ops.ctx, level, text, facts);
}

#endif
