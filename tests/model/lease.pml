/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease protocol, for spin(1): clients that acquire, write, release, fall silent or come
 * late, and a broker that expires leases, crashes and starts again. tests/model/check runs it.
 *
 * What is abstract: there is one range, so that all leases conflict. Priorities are two, and
 * whoever waits may preempt a lower one at any moment. A client writes once
 * under each lease, and may repeat it when a connection was lost, so a token is a sequence
 * number too. A write is two slices, each applied in one step that a crash may cut before the
 * bytes and after them. It is answered before its outcome is stored. Time is the flag `past` of a
 * token, its deadline, which may come at any moment; a renewal only puts that moment off, so
 * there is none here. What is stored and marked survives the broker. Clients that pause between
 * any two steps are what spin tries anyway.
 *
 * Checked: I1 to I4 and I6 to I9 of the design by assertions; I10, as every run is finite and
 * has to end with all clients served. With one of these defined, something has to be violated:
 *   UNFENCED     a write is applied for whoever asks
 *   NO_DEADLINE  a timer ends leases, but writes do not look at the clock
 *   NO_RECHECK   a write is admitted once, not slice after slice
 *   NO_DRAIN     a lease is given on while a write under it has no outcome
 *   LATE_STORE   a grant is told before it is stored
 *   NO_LEDGER    a crash forgets what was written
 *   NO_MARK      a crash takes the marks along, and what is open counts as never applied
 *   COMPARE      after a crash RAM is asked what became of a write, which the guest changes too
 *   NO_EXPIRY    leases never expire
 *   NO_PRIORITY  who came first is granted first, whatever the priorities
 *   NO_FIFO      of one priority anybody is granted first
 *   EARLY_END    the end of a lease is told before it is stored
 *   REFUSAL_ENDS whoever is refused while a lease drains was told of its end
 *
 * Who is told of an end: its holder, and who gave it back. A write that is refused tells that it was
 * not done, and no more. The broker says LEASE_REVOKED while a preempted lease drains, before its end
 * is stored, and a crash then gives the lease back; what was said stays true, because a refused write
 * is not applied unless it is sent again, and its number is not used up or has this outcome for ever.
 * It could not be otherwise for a write that was cut in the middle: its outcome is stored before the
 * end, and told before that. Whoever wants to know whether a lease is over waits for the word of that
 * (in the library VMSIG_WEV_LOST); a deadline that has passed needs none, because it is stored.
 *
 * With TRACE the broker does what the real engine has done (trace_lease.c), and nothing else: what
 * is asked is whether it can. With EQUAL nobody has a higher priority.
 */

#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LEASES
#define LEASES 1 /* that each client gets */
#endif
#ifndef MORE
#define MORE 0 /* that the first gets in addition */
#endif
#define CLIENTS 2
/* A crash may lose the answer to each client, whose lease then has to expire. */
#define TOKENS (CLIENTS * (LEASES + CRASHES) + MORE + 1)
#define SLICES 2
#define NOBODY CLIENTS

mtype = {ACQUIRE, WRITE, RELEASE, GRANTED, DONE};
mtype:outcome = {NEVER, INTENT, WHOLE, PART, UNKNOWN};
mtype:mark = {TAKEN, BEGUN, PAUSED, ENDED, CUT};

/* What is under way between each client and the broker. */
chan request[CLIENTS] = [1] of {mtype, byte, byte}; /* kind, token, connection */
chan answer[CLIENTS] = [1] of {mtype, byte};
byte connection; /* a crash ends all; the next ones have another number */

/* The store. */
byte stored_last;  /* token that was given out last */
byte stored_token; /* of the lease; 0: there is none */
byte stored_holder = NOBODY;
mtype:outcome stored_write[TOKENS];

/* Shared memory: how far the write came that is being applied. */
mtype:mark mark = TAKEN;

#ifdef COMPARE
/* Guest RAM: the token under which each slice was written last. */
byte ram[SLICES];
#endif

/* The broker's memory. */
byte held; /* token */
byte holder = NOBODY;
byte granting; /* token of a grant that is stored and not told, or with LATE_STORE told and not stored */
byte granting_to = NOBODY;
byte applying; /* token of the write that is being applied */
byte applying_for = NOBODY;
byte slice;
bool recording; /* it was answered, and its outcome is not stored yet */
bool ending; /* the lease ends as soon as nothing is being applied */
bool waiting[CLIENTS];
byte first = NOBODY; /* of those who wait, who came first */
byte crashes;

bool prior[CLIENTS]; /* of the higher priority */

/* The clock, and a witness who sees everything and forgets nothing. */
bool past[TOKENS];
bool told[TOKENS];  /* somebody believes to hold the lease */
bool ended[TOKENS]; /* somebody was told that it is over */
byte newest_told, newest_applied;
byte applied[TOKENS]; /* slices */
bool behind[CLIENTS]; /* somebody waited when it came */
byte finished;

/* ---- the witness ---- */

inline witness_grant(token)
{
	assert(token > newest_told); /* I2 */
	assert(applying == 0);       /* the end waits for the outcome */
	newest_told = token;
	told[token] = true;
	for (k : 1 .. TOKENS - 1) {
		/* I1: nobody else can believe to hold it. */
		assert(k == token || !told[k] || past[k] || ended[k]);
		if
		:: k < token ->
			ended[k] = true;
			/* What is never looked at again is made equal: fewer states. */
			told[k] = true;
			past[k] = true;
			applied[k] = 0;
			stored_write[k] = PART
		:: else
		fi
	}
	k = 0
}

inline witness_slice(token, index)
{
	assert(!past[token]);              /* I3 */
	assert(token >= newest_applied);   /* I3 */
	assert(!ended[token]);             /* I4 */
	assert(applied[token] == index);   /* I6 */
	newest_applied = token;
	applied[token]++
}

inline witness_outcome(token, outcome)
{
	/* I7: only what was cut in the middle, so never one that was answered. */
	assert(outcome != UNKNOWN || mark == BEGUN);
	/* I8 */
	assert(outcome == UNKNOWN || outcome == PART ||
		(outcome == NEVER) == (applied[token] == 0));
	assert(outcome == UNKNOWN || (outcome == WHOLE) == (applied[token] == SLICES))
}

#define OTHER(c) (1 - c)

/* I9 */
inline witness_turn(c)
{
	assert(!waiting[OTHER(c)] || prior[c] > prior[OTHER(c)] ||
		(prior[c] == prior[OTHER(c)] && !behind[c]));
	behind[c] = false;
	behind[OTHER(c)] = false
}

/* ---- the trace ---- */

#ifdef TRACE
/* What can be seen of the engine, as trace_lease.c numbers it. */
#define TRACE_END 0
#define TRACE_ASK 1
#define TRACE_CHOSEN 2
#define TRACE_GRANTED 3
#define TRACE_WRITE 4
#define TRACE_DENIED 5
#define TRACE_SLICE 6
#define TRACE_CUT 7
#define TRACE_OUTCOME 8
#define TRACE_RELEASED 9
#define TRACE_LATE 10
#define TRACE_PAST 11
#define TRACE_ENDED 12
#define TRACE_CRASH 13

/* What it has done next, for whom, and under which token, if that was known. */
byte due, due_who, due_token;
byte which; /* of the traces */
short at;

c_decl {
\#include "trace.h"
}

/* In guards alone: what is admitted has to be so at the very step that was seen. */
#define SEEN(event, c) (due == TRACE_##event && due_who == c)
#define SEEN_TOKEN(event, c, token) (SEEN(event, c) && due_token == token)

inline next()
{
	c_code {
		const unsigned char *step = traces[now.which].steps[now.at];

		now.due = step[0];
		now.due_who = step[1];
		now.due_token = step[2];
		if (now.due == TRACE_END && !trace_seen[now.which])
			printf("performed: trace %d\n", now.which);
		trace_seen[now.which] |= now.due == TRACE_END;
	};
	at++
}
#else
#define SEEN(event, c) true
#define SEEN_TOKEN(event, c, token) true
inline next() { skip }
#endif

/* ---- clients ---- */

inline ask(kind)
{
	atomic {
		mine = connection;
		/* What came for an earlier connection went with it. */
		if
		:: answer[me]?_, _
		:: empty(answer[me])
		fi
	}
	request[me]!kind, token, mine
}

/* `got` is 0 when the connection was lost. */
inline hear()
{
	atomic {
		if
		:: answer[me]?got, token
		:: connection != mine -> got = 0
		fi
	}
}

proctype Client(byte me)
{
	byte mine, token, leases;
	mtype got;

	do
	:: leases < LEASES + (me == 0 -> MORE : 0) ->
		do
		:: got != GRANTED -> ask(ACQUIRE); hear()
		:: else -> break
		od;
		leases++;
		if
		:: true -> /* falls silent */
			got = 0
		:: true ->
			got = 0;
			do
			:: got == 0 -> ask(WRITE); hear()
			:: true -> break /* has the answer, or gives up */
			od;
			if
			:: true -> ask(RELEASE); hear()
			:: true
			fi;
			got = 0
		fi;
		token = 0
	:: else -> break
	od;
	finished++
}

/* ---- the broker ---- */

#ifdef NO_DEADLINE
#define PAST(token) false
#else
#define PAST(token) past[token]
#endif
#ifdef UNFENCED
#define ADMITTED(token, c) true
#else
#define ADMITTED(token, c) (held == token && holder == c && !ending && !PAST(token))
#endif
/* Whether a refusal is as good as the word of the end: what it says is stored by then. */
#ifdef REFUSAL_ENDS
#define OVER(token) (past[token] || held != token || ending)
#else
#define OVER(token) (past[token] || held != token)
#endif
#ifdef NO_RECHECK
#define ADMITTED_STILL true
#else
#define ADMITTED_STILL ADMITTED(applying, applying_for)
#endif
#ifdef NO_DRAIN
#define DRAINED true
#else
#define DRAINED (applying == 0)
#endif

inline store_grant(token, c)
{
	stored_last = token;
	stored_token = token;
	stored_holder = c
}

inline tell_grant(token, c)
{
	held = token;
	holder = c;
	witness_grant(token);
	answer[c]!GRANTED, token
}

/* Whose turn it is. */
#ifdef NO_PRIORITY
#define RANKS(c) (first == c)
#else
#ifdef NO_FIFO
#define RANKS(c) (prior[c] >= prior[OTHER(c)])
#else
#define RANKS(c) (prior[c] > prior[OTHER(c)] || (prior[c] == prior[OTHER(c)] && first == c))
#endif
#endif
#define PREEMPTED (waiting[OTHER(holder)] && prior[OTHER(holder)] > prior[holder])
#define IS_NEXT(c) (waiting[c] && (!waiting[OTHER(c)] || RANKS(c)))

inline queue(c)
{
	if
	:: waiting[c]
	:: else ->
		behind[c] = waiting[OTHER(c)];
		first = (waiting[OTHER(c)] -> first : c);
		waiting[c] = true
	fi
}

inline grant_begin(c)
{
	witness_turn(c);
	waiting[c] = false;
	first = (waiting[OTHER(c)] -> OTHER(c) : NOBODY);
	granting = stored_last + 1;
	granting_to = c;
#ifdef LATE_STORE
	tell_grant(granting, c)
#else
	store_grant(granting, c)
#endif
}

inline grant_end()
{
#ifdef LATE_STORE
	store_grant(granting, granting_to);
#else
	tell_grant(granting, granting_to);
#endif
	granting = 0;
	granting_to = NOBODY
}

/* Its holder is told before anybody else gets one. */
inline lease_end()
{
	ended[held] = true;
	stored_token = 0;
	stored_holder = NOBODY;
	held = 0;
	holder = NOBODY;
	ending = false
}

#ifdef EARLY_END
inline end_early() { ended[held] = true }
#else
inline end_early() { skip }
#endif

inline write_store(outcome)
{
	stored_write[applying] = outcome;
	witness_outcome(applying, outcome);
	applying = 0;
	applying_for = NOBODY;
	recording = false;
	mark = TAKEN;
	slice = 0
}

inline write_tell()
{
	answer[applying_for]!DONE, applying;
	recording = true
}

/* Admitted and applied in one step, which a crash cuts where it likes; where traces are made it
 * comes between steps. */
#ifdef TRACE
#define CUT_BY_CRASH false
#else
#define CUT_BY_CRASH (crashes < CRASHES)
#endif

inline write_slice()
{
	mark = BEGUN;
	if
	:: CUT_BY_CRASH -> crash(); start()
	:: true ->
		witness_slice(applying, slice);
#ifdef COMPARE
		ram[slice] = applying;
#endif
		slice++;
		if
		:: CUT_BY_CRASH -> crash(); start()
		:: true -> mark = (slice == SLICES -> ENDED : PAUSED)
		fi
	fi
}

inline write_begin(c)
{
	if
	:: stored_write[token] == WHOLE || stored_write[token] == PART ||
			stored_write[token] == UNKNOWN ->
		/* Or it is of a token that the witness has made equal to the others. */
		if
		:: SEEN_TOKEN(DENIED, c, token) -> next()
		:: else
		fi;
		answer[c]!DONE, token
	:: else ->
		if
		:: ADMITTED(token, c) && applying == 0 && SEEN_TOKEN(WRITE, c, token) ->
			next();
			mark = TAKEN;
			stored_write[token] = INTENT;
			applying = token;
			applying_for = c
		:: !(ADMITTED(token, c) && applying == 0) && SEEN_TOKEN(DENIED, c, token) ->
			next();
			ended[token] = ended[token] || OVER(token);
			answer[c]!DONE, token
		fi
	fi
}

#define HOLDS(token, c) (held == token && holder == c && applying == 0)

inline release(c)
{
	if
	:: HOLDS(token, c) && SEEN_TOKEN(RELEASED, c, token) -> next(); lease_end()
	:: !HOLDS(token, c) && SEEN_TOKEN(LATE, c, token) -> next()
	fi;
	ended[token] = true;
	answer[c]!DONE, token
}

inline serve(c)
{
	request[c]?kind, token, from;
	if
	:: from != connection
	:: from == connection && kind == ACQUIRE && SEEN(ASK, c) -> next(); queue(c)
	:: from == connection && kind == WRITE -> write_begin(c)
	:: from == connection && kind == RELEASE -> release(c)
	fi;
	kind = 0;
	token = 0;
	from = 0
}

/* What became of a write whose outcome was not stored: its mark knows. */
inline write_recover(token)
{
#ifdef NO_MARK
	stored_write[token] = NEVER;
#else
#ifdef COMPARE
	if
	:: true -> ram[0] = 0 /* the guest */
	:: true
	fi;
	if
	:: ram[0] != token -> stored_write[token] = NEVER
	:: ram[0] == token && ram[SLICES - 1] == token -> stored_write[token] = WHOLE
	:: ram[0] == token && ram[SLICES - 1] != token -> stored_write[token] = PART
	fi;
#else
	if
	:: mark == TAKEN -> stored_write[token] = NEVER
	:: mark == BEGUN -> stored_write[token] = UNKNOWN
	:: mark == PAUSED || mark == CUT -> stored_write[token] = PART
	:: mark == ENDED -> stored_write[token] = WHOLE
	fi;
#endif
#endif
	witness_outcome(token, stored_write[token]);
	mark = TAKEN
}

inline crash()
{
	crashes++;
	connection++;
	held = 0;
	holder = NOBODY;
	granting = 0;
	granting_to = NOBODY;
	applying = 0;
	applying_for = NOBODY;
	slice = 0;
	recording = false;
	ending = false;
	for (k : 0 .. CLIENTS - 1) {
		waiting[k] = false;
		behind[k] = false
	}
	first = NOBODY;
	k = 0
}

inline start()
{
	for (k : 1 .. TOKENS - 1) {
#ifdef NO_LEDGER
		stored_write[k] = NEVER
#else
		if
		:: stored_write[k] == INTENT -> write_recover(k)
		:: else
		fi
#endif
	}
	k = 0;
	held = stored_token;
	holder = stored_holder
}

proctype Broker()
{
	mtype kind;
	byte token, from, k;

end:	do
	:: atomic { nempty(request[0]) -> serve(0) }
	:: atomic { nempty(request[1]) -> serve(1) }
	:: atomic { IS_NEXT(0) && !held && !granting && SEEN(CHOSEN, 0) ->
		next(); grant_begin(0) }
	:: atomic { IS_NEXT(1) && !held && !granting && SEEN(CHOSEN, 1) ->
		next(); grant_begin(1) }
	:: atomic { granting && SEEN_TOKEN(GRANTED, granting_to, granting) ->
		next(); grant_end() }
	:: atomic { held && past[held] && !ending && !granting -> ending = true }
	:: atomic { held && !ending && !granting && PREEMPTED -> ending = true; end_early() }
	:: atomic { ending && DRAINED && SEEN_TOKEN(ENDED, holder, held) -> next(); lease_end() }
	:: atomic { applying && slice < SLICES && !recording ->
		if
		:: ADMITTED_STILL && SEEN_TOKEN(SLICE, applying_for, applying) ->
			next();
			write_slice()
		/* A partial outcome tells that the lease is over, or about to be. */
		:: !ADMITTED_STILL && SEEN_TOKEN(CUT, applying_for, applying) ->
			next();
			mark = CUT;
			ended[applying] = ended[applying] || OVER(applying);
			write_tell()
		fi }
	:: atomic { applying && slice == SLICES && !recording -> write_tell() }
	:: atomic { recording && SEEN_TOKEN(OUTCOME, applying_for, applying) ->
		next(); write_store((mark == CUT -> PART : WHOLE)) }
	:: atomic { crashes < CRASHES && SEEN(CRASH, 0) -> next(); crash(); start() }
	od
}

/* The deadline of the lease that was given out last; those before it have passed or ended. */
proctype Clock()
{
end:	do
	:: atomic { stored_last && !past[stored_last] && SEEN_TOKEN(PAST, 0, stored_last) ->
		next(); past[stored_last] = true }
	od
}

init {
	atomic {
		for (finished : 1 .. TOKENS - 1) {
			stored_write[finished] = NEVER
		}
		finished = 0;
#ifdef TRACE
		select(which : 0 .. TRACES - 1);
		c_code {
			now.prior[0] = traces[now.which].priors[0];
			now.prior[1] = traces[now.which].priors[1];
		};
		next();
#else
#ifndef EQUAL
		if
		:: prior[0] = true
		:: prior[1] = true
		:: true
		fi;
#endif
#endif
		run Broker();
#ifndef NO_EXPIRY
		run Clock();
#endif
		run Client(0);
		run Client(1)
	}
}
