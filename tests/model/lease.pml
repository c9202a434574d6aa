/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease protocol, for spin(1): clients that acquire, write, release, fall silent or come
 * late, and a broker that expires leases, crashes and starts again. tests/model/check runs it.
 *
 * What is abstract: there is one range, so that all leases conflict. A client writes once
 * under each lease, and may repeat it when a connection was lost, so a token is a sequence
 * number too. A write is two slices, each applied in one step that a crash may cut before the
 * bytes and after them. It is answered before its outcome is stored. Time is the flag `past` of a
 * token, its deadline, which may come at any moment; a renewal only puts that moment off, so
 * there is none here. What is stored and marked survives the broker. Clients that pause between
 * any two steps are what spin tries anyway.
 *
 * Checked: I1 to I4 and I6 to I8 of the design by assertions; I10, as every run is finite and
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
byte crashes;

/* The clock, and a witness who sees everything and forgets nothing. */
bool past[TOKENS];
bool told[TOKENS];  /* somebody believes to hold the lease */
bool ended[TOKENS]; /* somebody was told that it is over */
byte newest_told, newest_applied;
byte applied[TOKENS]; /* slices */
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

inline grant_begin(c)
{
	waiting[c] = false;
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

inline lease_end()
{
	stored_token = 0;
	stored_holder = NOBODY;
	held = 0;
	holder = NOBODY;
	ending = false
}

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

/* Admitted and applied in one step, which a crash cuts where it likes. */
inline write_slice()
{
	mark = BEGUN;
	if
	:: crashes < CRASHES -> crash(); start()
	:: true ->
		witness_slice(applying, slice);
#ifdef COMPARE
		ram[slice] = applying;
#endif
		slice++;
		if
		:: crashes < CRASHES -> crash(); start()
		:: true -> mark = (slice == SLICES -> ENDED : PAUSED)
		fi
	fi
}

inline write_begin(c)
{
	if
	:: stored_write[token] == WHOLE || stored_write[token] == PART ||
			stored_write[token] == UNKNOWN ->
		answer[c]!DONE, token
	:: else ->
		if
		:: ADMITTED(token, c) && applying == 0 ->
			mark = TAKEN;
			stored_write[token] = INTENT;
			applying = token;
			applying_for = c
		:: else ->
			ended[token] = true;
			answer[c]!DONE, token
		fi
	fi
}

inline release(c)
{
	if
	:: held == token && holder == c && applying == 0 -> lease_end()
	:: else
	fi;
	ended[token] = true;
	answer[c]!DONE, token
}

inline serve(c)
{
	request[c]?kind, token, from;
	if
	:: from != connection
	:: from == connection && kind == ACQUIRE -> waiting[c] = true
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
		waiting[k] = false
	}
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
	:: atomic { waiting[0] && !held && !granting -> grant_begin(0) }
	:: atomic { waiting[1] && !held && !granting -> grant_begin(1) }
	:: atomic { granting -> grant_end() }
	:: atomic { held && past[held] && !ending && !granting -> ending = true }
	:: atomic { ending && DRAINED -> lease_end() }
	:: atomic { applying && slice < SLICES && !recording ->
		if
		:: ADMITTED_STILL -> write_slice()
		/* A partial outcome tells that the lease is over. */
		:: else -> mark = CUT; ended[applying] = true; write_tell()
		fi }
	:: atomic { applying && slice == SLICES && !recording -> write_tell() }
	:: atomic { recording -> write_store((mark == CUT -> PART : WHOLE)) }
	:: atomic { crashes < CRASHES -> crash(); start() }
	od
}

/* The deadline of the lease that was given out last; those before it have passed or ended. */
proctype Clock()
{
end:	do
	:: atomic { stored_last && !past[stored_last] -> past[stored_last] = true }
	od
}

init {
	atomic {
		for (finished : 1 .. TOKENS - 1) {
			stored_write[finished] = NEVER
		}
		finished = 0;
		run Broker();
#ifndef NO_EXPIRY
		run Clock();
#endif
		run Client(0);
		run Client(1)
	}
}
