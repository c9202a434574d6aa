/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_FLEET_WORLD_H
#define TESTS_SIM_FLEET_WORLD_H

/*
 * The world of sim_fleet: hosts with real cores and clocks of their own, a store that loses,
 * doubles and delays, and guests that migrate. Time is real nanoseconds here; hosts see theirs.
 *
 *   fleet_store   the store they share, with its leases and its restored snapshots
 *   fleet_net     what is on its way between hosts and store
 *   fleet_host    a host: its clock, its broker, what it remembers
 *   fleet_guest   guests, their memory and their migrations
 *   fleet_judge   what has to hold
 *   fleet_run     a seed: what goes wrong, operators of the fleet, time, the end
 *
 * sim_world puts real planes into the hosts (struct planes); sim_fleet has none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/fleet/fleet.h"
#include "tests/sim/sim.h"

#define HOSTS 3
#ifndef GUESTS
#define GUESTS 2
#endif
#define MS 1000000ull
#define TTL_S 10
#define TTL (TTL_S * 1000 * MS)
#define RHO_PPM 50000
#define MARGIN (100 * MS)
#define PAUSE (90 * MS) /* at most between the check and the last byte */
#ifndef LEASE_TTL_MS
#define LEASE_TTL_MS 3000
#endif
#define LEASE_TTL (LEASE_TTL_MS * MS)
#define TIMEOUT_MS 2000
#define NOWHERE (-1)

/* ---- guests ---- */

/* What migrates with a guest, as the source offers it. */
struct luggage {
	uint64_t token;  /* of its newest lease; 0: none */
	uint64_t writes; /* that were acknowledged */
	bool known;      /* its source had the guest in this life of it */
};

struct guest {
	char uuid[FLEET_UUID_MAX + 1];
	int where;         /* host whose QEMU runs it */
	uint64_t start_at; /* NOWHERE: when somebody starts it again */
	int from, to;      /* of a migration; NOWHERE: there is none */
	bool copied;       /* its memory is at the target */
	int left;          /* the QEMU that it came from is still there, NOWHERE: it is not */
	uint64_t quits_at; /* when that ends */
	int ghost;         /* its host was given up, and runs an earlier life of it yet */
	unsigned ghost_life;
	uint64_t ghost_until;
	bool trap;              /* its next renewal there is the last, and its key goes at once */
	bool arrived;           /* a migration brought it to where it runs, as its QEMU knows */
	uint64_t ends_at;       /* when the migration does */
	uint64_t writes;        /* acknowledged since it was started */
	uint64_t memory[HOSTS]; /* of them, what is in its RAM there */
	unsigned life;          /* rises with each start and reset: what an epoch stands for */
	/* What was seen so far, of all hosts. */
	uint32_t epoch; /* highest */
	unsigned epoch_life;
	uint64_t token;
	bool awaited;          /* somebody waits for a lease where it was taken over */
	int leased_by;         /* host of the newest lease */
	uint64_t belief_until; /* its holder may believe in it until then */
	struct luggage offered;
	uint32_t offered_epoch; /* as the store has it */
};

/* ---- hosts ---- */

/* What a host's broker has of a guest. */
struct service {
	struct tenure *tenure; /* NULL: the broker does not know it */
	bool owned;
	struct luggage luggage; /* what it would offer now */
	uint64_t offer_at;      /* 0: not */
	uint64_t offer_until;   /* what is under way is not waited for any longer */
	bool offers;            /* it has said so, and the store has not */
	uint64_t token_floor;   /* as the broker was told */
	/* Durable: */
	uint32_t epoch;
	unsigned life; /* of the guest, which the epoch stands for */
	unsigned had;  /* life in which it had the guest, and lost it to nobody; 0: none */
	uint64_t token;
};

struct host {
	char name[16];
	struct fleet *fleet; /* NULL: the broker is down */
	uint64_t broker_at;  /* when it starts again */
	unsigned boots, brokers;
	uint64_t boot_at, offset;
	int64_t rate_ppm;  /* of its clock, above 1 */
	bool apart;        /* cut off from the store */
	uint64_t parts_at; /* its broker gives up what it has, and ends then; 0: it does not */
	struct fleet_memory memory;
	uint64_t watch;   /* number; 0: none */
	bool bumps;       /* an operator's bump is under way */
	uint64_t late_ns; /* how late its timers are */
	struct service services[GUESTS];
};

struct world {
	uint64_t now;
	struct host hosts[HOSTS];
	struct guest guests[GUESTS];
	bool faults;
	unsigned restores;   /* of the store */
	bool untrusted;      /* it was restored as another cluster, and no operator has bumped it */
	uint64_t bump_at;    /* 0: nobody does */
	uint64_t calm_until; /* no fault until then */
	unsigned hurries;    /* steps in a row that something was due at once */
	uint64_t owned, migrated, taken; /* how often; what happens never proves nothing */
};

extern struct world world;

/* What else runs at the hosts. */
struct planes {
	void (*begin)(void);
	void (*broker_started)(int h);
	void (*broker_ended)(int h);
	/* A guest's epoch, or whether it is there, may be another at this host. */
	void (*changed)(int h, int g);
	/* After the host did what it says. */
	void (*told)(int h, int g, const struct fleet_action *action);
	/* What the host's wall clock says, in microseconds: tokens are at least that. */
	uint64_t (*wall_us)(int h);
	/* The host's power is cut, before its broker ends. */
	void (*power_cut)(int h);
	/* A new life of the guest begins there, in empty memory. */
	void (*born)(int g, int h);
	/* Its memory is at the target of its migration, as it is now. */
	void (*copied)(int g, int from, int to);
	/* It goes on there. */
	void (*arrived)(int g, int from, int to);
	/* What goes with it, `last` also if something is under way. 0, VMSIG_ERR_BUSY: something
	 * is; the caller frees it. */
	int (*pack)(int h, int g, bool last, uint8_t **ret_data, size_t *ret_len);
	/* Nothing goes with it. */
	void (*lost)(int h, int g);
	/* Once in each step. */
	void (*step)(void);
	/* The faults stop. */
	void (*calm)(void);
	/* Everything is well for long. */
	void (*settled)(void);
	void (*end)(void);
};
extern const struct planes *planes; /* NULL: nothing */

/* ---- fleet_store ---- */

struct txn;

void store_reset(void);
/* Does what is asked. The answer's parts are the caller's. */
void store_do(int host, const struct txn_request *request, struct txn_answer *ret_answer);
/* Leases that are over. */
void store_expire(void);
uint64_t store_next_expiry(void);
/* A lease ends before its time. */
void store_revoke_any(void);
/* The lease that the guest's owner key is on ends. */
void store_drop_owner(const char *uuid);
/* Another leader: leases begin anew. */
void store_elect(void);
void store_snapshot(void);
/* Puts an older state there, if there is one; `same` as if nothing had happened, else as another
 * cluster. */
void store_restore(bool same);
int64_t store_revision(void);

/* ---- fleet_net ---- */

/* A compare that is left out or turned round. */
struct sabotage {
	const char *bid; /* NULL: none */
	unsigned compare;
	bool negate;
};
extern struct sabotage sabotage;

void net_reset(void);
void net_send(int host, const struct txn_request *request);
/* Something was changed at the store. */
void net_announce(const char *key, int64_t revision, bool deleted);
/* Connections break: what is on its way is lost, and nobody answers until then. */
void net_break(uint64_t until);
/* When the next thing arrives; UINT64_MAX: nothing is on its way. */
uint64_t net_next(void);
/* What is due arrives. */
void net_deliver(void);

/* ---- fleet_host ---- */

uint64_t host_clock(const struct host *host);
/* The real time of a time on its clock. */
uint64_t host_real(const struct host *host, uint64_t local_ns);
void host_boot(int h);
void host_broker_start(int h);
void host_broker_end(int h);
/* As a broker that is told to end: it has a moment to give up what it has. */
void host_broker_part(int h);
/* Performs what the core wants. */
void host_perform(int h);
/* What its timers say. */
void host_tick(int h);
uint64_t host_next(int h);
/* The core hears of the guest what is true. */
void host_tell(int h, int g);
/* Which life of it runs there. */
void host_tell_session(int h, int g);

/* ---- fleet_guest ---- */

void guest_reset(int g);
/* It is reset where it runs. */
void guest_reboot(int g);
void guest_tick(int g);
/* Some event of the guest's. */
void guest_event(int g);
/* Its host is gone. */
void guest_died(int g);
/* It is started elsewhere, and nobody has told its host. */
void guest_split(int g);
/* The earlier life ends. */
void guest_lay(int g);
unsigned guest_life_at(int g, int h);
void guest_migration_end(int g, bool arrived);

/* ---- fleet_run ---- */

void fleet_run(uint64_t seed, unsigned steps);

/* ---- fleet_judge ---- */

void judge_right(void);
void judge_owned(int h, int g, const struct fleet_action *action);
void judge_granted(int h, int g, uint64_t token);
void judge_epoch(int h, int g, uint32_t epoch);
void judge_write(int h, int g);
void judge_put(int host, const char *key, const struct txn_bytes *old, const struct txn_bytes *new,
	const struct txn_bytes *mark);
void judge_end(void);

#endif
