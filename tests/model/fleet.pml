/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has a guest, over two hosts and the store that they share, for spin(1): claims, renewals,
 * leases, releases and the hand-over of a migration, by transactions that may come late, twice or
 * without an answer, and owner keys that the store drops whenever it likes. tests/model/check runs it.
 *
 * What is abstract: a deed is its number of changes, its holder and its status; a renewal's right is
 * a flag that time takes away at any moment, and so is the belief of who holds a lease. Of clocks two
 * things are taken for granted, which the arithmetic of broker/fleet/deed.c and tests/sim/sim_fleet
 * stand for: a wait that begins with a claim ends after all rights of renewals before it, and one
 * for leases after the beliefs of their holders. A host is a machine whose guest starts, migrates and
 * ends there as it likes, also at both.
 *
 * Checked: I15 by an assertion whenever a host may apply, and I1 whenever a lease is told: nobody
 * believes in one of the other host. With one of these defined one of them has to be violated:
 *   NO_WAIT        who claims does not wait for the one before: the store's keys are trusted
 *   NO_LEASE_WAIT  nor for the holders of leases
 *   NO_RENEWAL     a host applies on after its right is over
 *   RENEW_BLIND    a renewal does not compare the owner key
 *   CLAIM_BLIND    a claim does not compare the deed
 *   ACCEPT_BLIND   the target takes what is not offered any more
 *   RETAKE_BLIND   the source takes back what the target has taken
 *   NO_DEED        a claim leaves the deed as it was
 *   TOLD_EARLY     a lease is told when it is sent to the store
 */

#ifndef CHANGES
#define CHANGES 3 /* of the deed, of which a run has no more */
#endif
#define HOSTS 2
#define NOBODY HOSTS

mtype:status = {FREE, HELD, RELEASED, OFFERED};
mtype:state = {IDLE, WAITING, OWNED, OFFERING};
mtype:bid = {NOTHING, CLAIM, RENEW, REKEY, RECORD, OFFER, ACCEPT, RETAKE, RELEASE};

/* The store. */
byte change;
byte holder = NOBODY;
mtype:status status = FREE;
byte owner = NOBODY;
bool leased; /* the deed says that leases may be out */

/* What each host has sent last and one sent before, which may come yet. */
mtype:bid sent[HOSTS] = NOTHING, late[HOSTS] = NOTHING;
byte sent_change[HOSTS], late_change[HOSTS];
/* How the store answers what was sent: it has, and with what. */
bool answered[HOSTS], worked[HOSTS];

/* The hosts. */
mtype:state state[HOSTS] = IDLE;
byte known[HOSTS];     /* change of the deed that was read or written last */
bool right[HOSTS];     /* a renewal's time is not over */
bool before[HOSTS];    /* of this right: it is from before the other host's claim */
bool over[HOSTS];      /* the time of what was sent is over */
bool believes[HOSTS];  /* somebody, in a lease of this host */

#define OTHER(h) (1 - (h))
#ifdef NO_RENEWAL
#define MAY_APPLY(h) (state[h] == OWNED)
#else
#define MAY_APPLY(h) (state[h] == OWNED && right[h])
#endif
#define EXCLUSIVE assert(!(MAY_APPLY(0) && MAY_APPLY(1)))

#ifdef CLAIM_BLIND
#define CLAIM_HOLDS(c) (owner == NOBODY)
#else
#define CLAIM_HOLDS(c) (owner == NOBODY && change == c)
#endif
#ifdef RENEW_BLIND
#define RENEW_HOLDS(h) true
#else
#define RENEW_HOLDS(h) (owner == h)
#endif
#ifdef ACCEPT_BLIND
#define ACCEPT_HOLDS(c) true
#else
#define ACCEPT_HOLDS(c) (change == c)
#endif
#ifdef RETAKE_BLIND
#define RETAKE_HOLDS(c) true
#else
#define RETAKE_HOLDS(c) (change == c)
#endif
#ifdef NO_WAIT
#define WAITED(h) true
#else
#define WAITED(h) (!before[OTHER(h)])
#endif
#ifdef NO_LEASE_WAIT
#define LEASES_WAITED(h) true
#else
#define LEASES_WAITED(h) (!waits_leases || !believes[OTHER(h)])
#endif

inline write(h, s)
{
	change++;
	holder = h;
	status = s
}

/* The store does a transaction; `done` is whether its compares held. */
inline execute(h, bid, compared)
{
	done = false;
	if
	:: bid == CLAIM && CLAIM_HOLDS(compared) && change < CHANGES ->
		done = true;
		owner = h;
#ifndef NO_DEED
		write(h, HELD);
		leased = false;
#endif
		/* Also one that it has not heard of yet. */
		before[OTHER(h)] = right[OTHER(h)] || (sent[OTHER(h)] != NOTHING &&
			answered[OTHER(h)] && worked[OTHER(h)])
	:: bid == RENEW && RENEW_HOLDS(h) -> done = true
	:: bid == REKEY && change == compared -> done = true; owner = h
	:: bid == RECORD && change == compared && change < CHANGES ->
		done = true;
		write(h, HELD);
		leased = true
	:: bid == OFFER && change == compared && change < CHANGES -> done = true; write(h, OFFERED)
	:: bid == ACCEPT && ACCEPT_HOLDS(compared) && change < CHANGES ->
		done = true;
		owner = h;
		write(h, HELD);
		/* Its holders hear of the new host. */
		believes[h] = believes[OTHER(h)] || believes[h];
		believes[OTHER(h)] = false
	:: bid == RETAKE && RETAKE_HOLDS(compared) && change < CHANGES ->
		done = true;
		write(h, HELD)
	:: bid == RELEASE && change == compared && change < CHANGES ->
		done = true;
		owner = NOBODY;
		write(h, RELEASED);
		leased = false
	:: else
	fi
}

inline send(h, bid)
{
	sent[h] = bid;
	sent_change[h] = known[h]
}

/* What is not looked at any more is made equal: fewer states. */
inline forget_sent(h)
{
	sent[h] = NOTHING;
	sent_change[h] = 0;
	answered[h] = false;
	worked[h] = false;
	over[h] = false
}

/* Without an answer: it may come yet. */
inline give_up(h)
{
	late[h] = sent[h];
	late_change[h] = sent_change[h];
	forget_sent(h)
}

inline forget_late(h)
{
	late[h] = NOTHING;
	late_change[h] = 0
}

inline lose(h)
{
	state[h] = IDLE;
	right[h] = false;
	known[h] = 0;
	waits_leases = false
}

inline tell_lease(h)
{
	assert(!believes[OTHER(h)]);
	believes[h] = true
}

proctype Host(byte me)
{
	bool waits, waits_leases; /* for who had it before, and for holders of leases */

end:	do
	/* ---- what is sent ---- */
	:: atomic { sent[me] == NOTHING && state[me] == IDLE && change < CHANGES ->
		known[me] = change;
		if
		:: status == OFFERED && holder != me -> send(me, ACCEPT)
		:: owner == NOBODY -> send(me, CLAIM);
			waits = (status == HELD);
			waits_leases = leased
		:: else -> known[me] = 0
		fi }
	:: atomic { sent[me] == NOTHING && (state[me] == OWNED || state[me] == WAITING) ->
		if
		:: true -> send(me, RENEW)
		/* It reads that the deed is still its own, and its key is not there. */
		:: holder == me && status == HELD && owner != me && change == known[me] ->
			send(me, REKEY)
		fi }
	:: atomic { sent[me] == NOTHING && MAY_APPLY(me) && change < CHANGES ->
		send(me, RECORD);
#ifdef TOLD_EARLY
		tell_lease(me)
#endif
		}
	:: atomic { sent[me] == NOTHING && state[me] == OWNED && change < CHANGES ->
		state[me] = OFFERING; send(me, OFFER) }
	:: atomic { sent[me] == NOTHING && state[me] == OFFERING && change < CHANGES ->
		/* It reads, and takes back what is still its own. */
		if
		:: holder == me && status != RELEASED -> known[me] = change; send(me, RETAKE)
		:: else -> lose(me)
		fi }
	/* Its guest is gone: leases end first, and their holders hear of it. */
	:: atomic { sent[me] == NOTHING && state[me] == OWNED && change < CHANGES ->
		state[me] = OFFERING; right[me] = false; believes[me] = false; send(me, RELEASE) }

	/* ---- what is answered ---- */
	:: atomic { sent[me] != NOTHING && answered[me] ->
		if
		:: worked[me] && (sent[me] == CLAIM || sent[me] == ACCEPT) ->
			known[me] = sent_change[me] + 1;
			state[me] = (sent[me] == CLAIM && (waits || waits_leases) -> WAITING : OWNED);
			right[me] = !over[me]
		:: worked[me] && (sent[me] == RENEW || sent[me] == REKEY) ->
			right[me] = (right[me] || !over[me])
		:: worked[me] && sent[me] == RECORD ->
			known[me] = sent_change[me] + 1;
#ifndef TOLD_EARLY
			if
			:: MAY_APPLY(me) -> tell_lease(me)
			:: else
			fi
#endif
		:: worked[me] && sent[me] == OFFER -> known[me] = sent_change[me] + 1
		:: worked[me] && sent[me] == RETAKE ->
			known[me] = sent_change[me] + 1;
			state[me] = OWNED;
			right[me] = false
		:: worked[me] && sent[me] == RELEASE -> lose(me)
		:: !worked[me] && (sent[me] == RENEW || sent[me] == REKEY) && holder != me -> lose(me)
		:: !worked[me] && (sent[me] == CLAIM || sent[me] == ACCEPT) -> lose(me)
		:: else
		fi;
		waits = (sent[me] == CLAIM && state[me] == WAITING && waits);
		forget_sent(me);
		EXCLUSIVE }
	:: atomic { sent[me] != NOTHING && !answered[me] && late[me] == NOTHING ->
		if
		:: state[me] == IDLE -> known[me] = 0; waits = false; waits_leases = false
		:: else
		fi;
		give_up(me) }

	/* ---- time ---- */
	:: atomic { right[me] || before[me] ->
		right[me] = false;
		before[me] = false;
		over[me] = (sent[me] != NOTHING) }
	:: atomic { believes[me] && !MAY_APPLY(me) -> believes[me] = false }
	:: atomic { state[me] == WAITING && WAITED(me) && LEASES_WAITED(me) ->
		state[me] = OWNED; waits = false; waits_leases = false; EXCLUSIVE }
	od
}

proctype Store()
{
	bool done;

end:	do
	:: atomic { sent[0] != NOTHING && !answered[0] ->
		execute(0, sent[0], sent_change[0]); answered[0] = true; worked[0] = done; done = false }
	:: atomic { sent[1] != NOTHING && !answered[1] ->
		execute(1, sent[1], sent_change[1]); answered[1] = true; worked[1] = done; done = false }
	/* What nobody waits for any more comes, or never does. */
	:: atomic { late[0] != NOTHING ->
		if
		:: true -> execute(0, late[0], late_change[0]); done = false
		:: true
		fi;
		forget_late(0) }
	:: atomic { late[1] != NOTHING ->
		if
		:: true -> execute(1, late[1], late_change[1]); done = false
		:: true
		fi;
		forget_late(1) }
	/* A key is dropped. */
	:: atomic { owner != NOBODY -> owner = NOBODY }
	od
}

init {
	atomic {
		run Store();
		run Host(0);
		run Host(1)
	}
}
