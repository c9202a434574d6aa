/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WORLD_PLANES_H
#define TESTS_SIM_WORLD_PLANES_H

/*
 * The planes of sim_world, at each host of fleet_world.h: the real core of broker/read and the real
 * desk of broker/write with its engine of lease/, for all guests of the fleet.
 *
 *   world_planes     a host's planes, and how they follow the fleet
 *   world_desk       its desk: what it has of durable things and of the fleet, its life and turns
 *   world_memory     guests' memory at each host, through the real broker/memwrite
 *   world_luggage    leases and answers that go along with a guest
 *   world_model      the reference: leases that were granted, and what became of each command
 *   world_readers    adapters, and subscribers that check what they are told
 *   world_operators  operators, and what they do
 *   world_wires      what is on its way between them and the hosts
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/policy/tenant.h"
#include "broker/read/core.h"
#include "broker/write/desk.h"
#include "tests/sim/disk.h"
#include "tests/sim/fleet_world.h"
#include "tests/sim/history.h"

#ifndef TENANTS
#define TENANTS 4
#endif
#define OPERATORS (2 * GUESTS)
#define WIRES (4 * OPERATORS)
#define OPS 3   /* of a command */
#define WORDS 4 /* of an operation */
#define WORD 8u
#define PIECES 16 /* of a guest's memory, in which leases are had */
#define PIECE 0x1000u
#define RAM (PIECES * PIECE)

/* What a host has of a guest. */
struct place {
	bool there;    /* a QEMU of it */
	bool panicked; /* and it has said that the guest has */
	vmsig_coherence page;
	uint32_t wanted;     /* epoch that a bootstrap was asked for; 0: none is */
	uint32_t writable;   /* epoch that the desk was told; 0: none */
	bool away;           /* the desk was told that it leaves */
	uint64_t came_ns;    /* when it came, on the host's clock */
	bool brings;         /* what came with it is not durable yet */
	size_t brought;      /* so much of it is */
	uint64_t brought_at; /* when that began; 0: it has not */
};

struct subscriber {
	struct session *session;
	bool owed, outstanding;
	struct history histories[GUESTS];
};

/* A grant that is durable here, or will be with the open batch, and that the fleet has to know. */
struct due_grant {
	uint64_t lease, token;
};

#define DUE_GRANTS 64

struct seat {
	struct core *core; /* NULL: the broker is down */
	struct desk *desk; /* likewise */
	struct shares *shares;
	struct disk *disk;        /* outlives brokers */
	uint64_t now_ns, wall_ns; /* of its clocks, at the event under way */
	uint64_t ahead_ns;        /* its wall clock is, of the one that is furthest behind */
	bool ghost;       /* the broker was killed: nothing that it does has an effect any more */
	bool power;       /* and so was the host */
	unsigned kill_in; /* calls of the desk until then; 0: it is not */
	unsigned broker;  /* that wires are to */
	struct due_grant grants[DUE_GRANTS];
	size_t ngrants;
	struct place places[GUESTS];
	struct subscriber subscribers[TENANTS];
};

extern struct seat seats[HOSTS];
extern const struct planes world_planes;

/* What --break leaves out between what is real. */
enum world_flaw {
	WORLD_WHOLE,
	WORLD_NO_FENCE,     /* the desk is not asked before bytes change */
	WORLD_NO_RIGHT,     /* nor is the fleet */
	WORLD_OWN_TOKENS,   /* tokens are counted by each host */
	WORLD_STALE_LEASES, /* leases stay when the guest's epoch ends */
	WORLD_LEAK,         /* what one subscriber is told, another one hears */
	WORLD_LOST_INVALIDATION,
	WORLD_FORGOTTEN_EPOCH,   /* the fleet does not hear of epochs that the core has begun */
	WORLD_FORGOTTEN_ANSWERS, /* leases go along without what was written under them */
	WORLD_FORGOTTEN_MARKS,   /* of a broker that was killed no mark is left */
	WORLD_FLAWS,
};
extern enum world_flaw world_flaw;

enum world_tally {
	W_CONTEXTS,
	W_GRANTS,
	W_WRITES,
	W_REFUSED,
	W_ENDED,
	W_REPLAYED,
	W_UNKNOWN,
	W_KILLS,
	W_MOVED, /* leases that came with their guests */
	W_RESUMED,
	W_AGAIN, /* answers from before a move that were told after it */
	W_TALLIES
};
extern unsigned long long world_tallies[W_TALLIES];

/* ---- world_planes ---- */

uint32_t planes_endpoint(int g);
/* The core's epoch of it; 0: it has none. */
uint32_t planes_epoch(int h, int g);
/* Performs what the core wants, and takes the desk's turns. */
void planes_perform(int h);
/* The time at this host, now. */
uint64_t planes_clock(int h);
int planes_seat(const struct disk *disk);

/* ---- world_desk ---- */

/* The disk of a host, once a seed. */
void desks_make(int h);
void desks_free(int h);
void desks_start(int h);
/* Nothing is left of it but what was durable. */
void desks_end(int h);
/* Turns until it sleeps. */
void desks_turn(int h);
/* The disk goes on, and mishaps strike. */
void desks_step(int h);
/* A desk calls: it may be its last call. Whether it is a ghost. */
bool desks_is_ghost(struct seat *seat);
const struct tenant *policy_of(unsigned tenant);
const struct grant_tenant *grants_of(unsigned tenant);
void policy_make(void);
/* Records, marks and charges of a host at which nothing is under way any more. */
void desks_check(int h);

/* ---- world_memory ---- */

void memory_make(void);
void memory_free(void);
void memory_born(int g, int h);
void memory_copied(int g, int from, int to);
void memory_arrived(int g, int from, int to);
/* Nobody has changed anything without our knowing. */
void memory_check(int g, int h);
extern const struct desk_guest_ops world_guest_ops;

/* ---- world_luggage ---- */

int luggage_pack(int h, int g, bool last, uint8_t **ret_data, size_t *ret_len);
/* A step of storing what came along. */
void luggage_step(int h, int g);

/* ---- world_model ---- */

struct model_lease {
	uint64_t id, token;
	int g, h; /* NOWHERE: it is on its way, or gone */
	unsigned tenant;
	uint32_t epoch;
	struct lease_range range;
	uint64_t deadline_ns; /* on its host's clock */
	bool granted, over;   /* over: somebody was told */
	bool ends; /* a write was refused for that; a broker that is killed may not know so yet */
	UT_hash_handle hh;
};

struct model_command {
	struct ledger_key key;
	unsigned number, op, tenant;
	int g;
	uint64_t token;
	uint32_t epoch;
	unsigned nops;
	struct {
		uint64_t addr;
		unsigned words;
	} ops[OPS];
	uint64_t bytes;
	unsigned transmissions;

	uint64_t applied; /* bytes */
	int applied_at;   /* host */
	bool begun;       /* bytes are on their way, and not marked as done */
	bool unknown;     /* the broker was killed in the middle of that */
	bool lost;        /* the host was: nobody knows anything of it */
	bool left;        /* its guest left in the middle of it */
	bool answered, recorded;
	uint32_t outcome;
	uint64_t written;
	int answered_at; /* host */
	UT_hash_handle hh;
};

void model_reset(void);
/* NULL: it never was. */
struct model_lease *model_lease(uint64_t id);
void model_asked(int h, int g, uint64_t id, unsigned tenant, const struct lease_range *range);
void model_granted(int h, const struct lease_view *lease);
void model_renewed(int h, uint64_t id, uint64_t left_ns);
void model_ended(int h, const struct lease_view *lease);
/* Somebody was told that it is over. */
void model_over(int h, uint64_t id);
/* It came with its guest. */
void model_adopted(int h, const struct lease_view *lease);
struct model_command *model_command_new(void);
/* Its key is known from here on. */
void model_command_add(struct model_command *command);
struct model_command *model_command(const struct ledger_key *key);
/* By its number; NULL: there is none. */
struct model_command *model_command_numbered(unsigned number);
/* These bytes are about to be changed. */
void model_admit(int h, struct model_command *command, const struct lease_range *range);
void model_written(int h, struct model_command *command, const Vmsig__WriteResult *result);
void model_rejected(int h, struct model_command *command, int error);
void model_marked(const struct ledger_key *key);
/* What is under way when its guest leaves. */
void model_left(const struct ledger_key *key);
void model_crash(int h, bool power);
void model_check(void);
/* All that was told is recorded somewhere. */
void model_check_records(void);

/* ---- world_readers ---- */

void readers_begin(int h);
void readers_end(int h);
void readers_add(int h, int g, uint32_t epoch);
void readers_remove(int h, int g);
void readers_step(int h);
/* Everybody reads all that there is. */
void readers_settle(int h);
/* What has to be known of a guest's context. */
void readers_check(int h);
void readers_reset(void);

/* ---- world_wires ---- */

enum message_kind {
	ACQUIRE,
	RENEW,
	RESUME,
	WRITE,
	RELEASE,
	CUT,
	/* to the operator */
	GRANTED,
	REFUSED,
	ENDED,
	RESUMED, /* or not: error */
	ANSWERED,
};

struct message {
	enum message_kind kind;
	uint64_t due;
	unsigned wire, serial; /* of the wire: it may be used again */
	int g;
	uint64_t id, token;
	uint32_t epoch;
	struct lease_range range;
	struct model_command *command;
	int error;
	struct message *prev, *next;
};

/* A connection of an operator to a broker. */
struct wire {
	bool used, open; /* open: the desk has it */
	bool cut;        /* the operator has gone away */
	unsigned serial, op, broker;
	int h;
	uint64_t last_due[2];
	struct desk_operator desk;
};

extern struct wire wires[WIRES];

void wires_reset(void);
struct wire *wire_open(unsigned op, int h);
/* The operator goes away; what it has sent may be lost with that. */
void wire_cut(struct wire *wire);
/* The broker is gone. */
void wires_end(int h);
struct message *wire_send(struct wire *wire, enum message_kind kind);
void wires_deliver(void);
extern const struct desk_events wire_events;

/* ---- world_operators ---- */

void operators_reset(void);
void operators_step(void);
/* What arrives at the operator. */
void operator_hears(unsigned op, const struct message *message);
/* Its connection is gone. */
void operator_cut(unsigned op, const struct wire *wire);
unsigned operator_tenant(unsigned op);
/* Everybody who waits has got something. */
void operators_settled(void);

#endif
