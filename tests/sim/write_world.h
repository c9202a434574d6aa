/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_WRITE_WORLD_H
#define TESTS_SIM_WRITE_WORLD_H

/*
 * The world of the write plane's simulation: the real desk with a disk, guests and operators that
 * are made up. All that happens follows from the seed. A broker that is killed goes on as a
 * ghost until its call returns: nothing that it does has an effect any more.
 *
 *   sim_write.c       the seeds, the steps, the end
 *   write_broker.c    the desk's life: started, turned, stopped, killed
 *   disk.h            what is durable: slow, full, failing, cut off by the power
 *   write_records.c     what has to be recorded, against the reference
 *   write_guest.c     RAM with page tables that the guest turns, and its adapter
 *   write_visit.c     what the desk stores there
 *   write_bulk.c      data of large commands, and the threads that read it
 *   write_operator.c  what operators send
 *   write_body.c      their commands
 *   write_policy.c    who may do what, in several versions
 *   write_model.c     the reference: who holds what, and what became of each command
 *   write_told.c      what the desk tells, against the reference
 *   write_settle.c    the faults stop: everything is answered, and nothing stays charged
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/config/config.h"
#include "broker/write/desk.h"
#include "broker/write/ops.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define SITES 2
#define TENANTS 3
#define CLIENTS 5
#define LEASES 512    /* of a seed, that the reference remembers */
#define COMMANDS 1024 /* likewise */
#define PENDING 512   /* requests without an answer */
#define OPS 3
#define RULES 2

#define PAGE 4096u
#define PAGES 256u
#define RAM (PAGES * PAGE)
#define WORD 8u
#define WORDS (RAM / WORD)
#define TABLES 1u /* first page of four tables, the leaf table last */
#define LEAF ((TABLES + 3u) * PAGE)

#define MS 1000000ull
#define RESUME_NS (60 * MS)
#define PREEMPT_NS (40 * MS)
#define TTL_MIN_NS (30 * MS)
#define TTL_MAX_NS (400 * MS)
#define HOLD_NS (1500 * MS)
#define WAIT_NS (2000 * MS)

struct client {
	unsigned tenant;
	uint32_t uid;
	bool connected;
	struct desk_operator op;
};

/* ---- the reference ---- */

enum phase { ASKED, GRANTED, OVER };

/* Why a lease may have ended though its time has not come. */
enum cause {
	CAUSE_RELEASE = 1,
	CAUSE_REVOKED = 2,
	CAUSE_PREEMPTED = 4,
	CAUSE_EPOCH = 8,
	CAUSE_POLICY = 16,
	CAUSE_GONE = 32, /* its holder */
	CAUSE_DISK = 64,
	CAUSE_RESTART = 128,
	CAUSE_ENDED = 256, /* its end was told, */
	CAUSE_TOLD = 512,  /* or somebody who wrote was told so */
};

struct model_lease {
	uint64_t id, token, ttl_ns, deadline_ns, orphan_ns, wait_ns;
	unsigned site, tenant, client, arrival, rule;
	uint32_t uid, epoch, priority;
	uint64_t session; /* 0: nobody's */
	struct lease_range ranges[2];
	size_t nranges;
	enum phase phase;
	unsigned causes;            /* enum cause */
	bool told;                  /* somebody was told so: not after a restart, either */
	bool over;                  /* from here on no byte may change */
	unsigned release;           /* order of the release; 0: it was not sent */
	uint64_t released_by;       /* session */
	uint64_t sequence, skipped; /* the last one, and one below that is for later; 0: none */
};

struct body_op {
	uint64_t addr;
	unsigned words, first;  /* of the command's */
	bool is_virtual, table; /* it is a table entry, and `value` that */
	bool expects, masks;
	uint64_t value;
};

/* What a command says; its data follows from its index. */
struct body {
	uint64_t lease, token, writer, sequence;
	uint32_t endpoint, epoch;
	unsigned nops;
	struct body_op ops[OPS];
	uint64_t expect[4]; /* of the first operation */
	bool bulk, quiesce, want_old;
	uint64_t bulk_len; /* as it says; more than there is: invented */
	uint64_t bytes;
};

struct model_command {
	struct body body;
	unsigned lease; /* index; LEASES: none */
	unsigned tenant, client, site, rule;
	unsigned order;   /* of the last transmission */
	uint64_t session; /* that waits for the answer; 0: none */
	unsigned transmissions;
	bool early; /* its lease was not held when it was sent */

	uint64_t applied; /* bytes */
	uint64_t old[8];  /* of the first operation */
	bool old_known;
	bool begun;   /* bytes are on their way to the guest, and not marked as done */
	bool unknown; /* the broker was killed in the middle of that */
	bool lost;    /* the marks are */
	bool former;  /* bytes of it were stored by a broker that is gone */

	bool answered, rejected;
	uint32_t outcome, failed_op;
	uint64_t written;
};

enum waits_for { WAITS_WRITE, WAITS_LEASE, WAITS_RELEASE, WAITS_REVOKE };

struct pending {
	enum waits_for kind;
	unsigned client, index; /* of the command or lease */
	uint64_t request_id;
};

struct guest {
	uint32_t id, epoch, max_epoch;
	const char *name;
	bool configured, ready; /* the desk was told */
	int fd;
	const uint64_t *ram;
	uint64_t *expected;
	vmsig_coherence page;
	uint64_t last_token; /* that was told */
	bool stopped;        /* its vCPUs */
	void (*done)(void *arg, uint64_t now_ns, int error);
	void *done_arg;
	unsigned touches; /* of its own, ever */
};

struct world {
	uint64_t now, wall, wall_random;
	bool faults;
	uint32_t kill_sides, fault_sides; /* of the dice that say so; 0: never in this seed */
	unsigned lease_actions; /* of the lease engine, that the desk performs in one round */
	bool ghost;
	bool rests;       /* the loop records results before it sleeps */
	unsigned kill_in; /* calls of the desk until it is killed; 0: it is not */
	struct desk *desk;
	unsigned policy;
	struct guest guests[SITES];
	struct client clients[CLIENTS];
	struct model_lease leases[LEASES];
	unsigned nleases;
	struct model_command commands[COMMANDS];
	unsigned ncommands;
	struct pending pending[PENDING];
	unsigned npending;
	unsigned order; /* of what was sent */
	uint64_t request_id;
	unsigned long long passed[TENANTS][RULES]; /* commands that were no QUOTA */
	uint64_t full_ns;                          /* when the desk was new, and its buckets full */
	uint64_t trace;                            /* a sum of what was told */
	bool stopping;
};

extern struct world world;
extern struct disk *disk; /* of the seed */
extern const char *const tenant_names[TENANTS];

/* How often what happened, over all seeds. */
enum tally_kind {
	T_GRANTS,
	T_APPLIED,
	T_PARTIAL,
	T_UNKNOWN,
	T_REPLAYED,
	T_KILLS,
	T_REJECTED,
	TALLIES
};
extern unsigned long long tallies[TALLIES];

/* The desk calls: it may be its last call. Whether it is a ghost. */
bool is_ghost(void);

/* Nobody waits for the end of a lease any more. */
void revocations_forget(void);

/* ---- write_broker.c ---- */
/* What is durable is all that it knows. */
void broker_start(void);
void broker_stop(void);
/* After it was made a ghost. `power`: the host's power is cut, too. */
void broker_bury(bool power);
/* A turn of its loop, and whether it then wants another at once. */
bool broker_turn(void);
void broker_step(void);
void broker_reload(unsigned policy);

/* ---- write_records.c ---- */
/* The newest intent of this command that bytes may follow; NULL: none. */
const Vmsig__AuditRecord *records_intent(const struct body *body);
/* The end of a lease is told: what was stored under it is recorded. */
void records_check_end(const struct model_lease *lease);
/* Each intent has one result, each told outcome its record. */
void records_check(void);

/* ---- write_guest.c ---- */
void guests_make(void);
void guests_free(void);
/* Memory is new, as after the host has booted. */
void guest_reboot(struct guest *guest);
/* A RAM file that was cut has its length again. */
void guest_regrow(struct guest *guest);
void guest_step(struct guest *guest);
/* Its endpoint can be written to, as soon as the desk knows. */
void guest_ready(struct guest *guest);
/* The desk that was asked to tell is gone. */
void guests_forget(void);
void guest_check(struct guest *guest);
struct guest *guest_find(uint32_t id);
extern const struct desk_guest_ops guest_ops;

/* ---- write_bulk.c ---- */
void bulk_work(bool all);
/* The desk is gone. */
void bulk_forget(void);
extern const struct desk_bulk_ops bulk_ops;
int sim_digest(void *ctx, const void *data, size_t len, uint8_t ret_digest[static DESK_HASH]);
int sim_digests(void *ctx, const struct multihash_message *messages, size_t n);
void fd_close(void *ctx, int fd, uint32_t uid);
int fd_open(unsigned command);
unsigned fds_open(void);
unsigned rooms_used(void);
/* Of all of its bulk data, as the threads make it. */
void data_hash(const struct model_command *command, uint8_t ret_hash[static DESK_HASH]);

/* ---- write_body.c ---- */
/* The word that the command puts at this place of its data. */
uint64_t body_word(const struct model_command *command, unsigned index);
/* Whose data this is. */
struct model_command *body_find(uint64_t word);
void body_roll(
	struct model_command *command, const struct model_lease *lease, const struct guest *guest);
Vmsig__WriteRequest *body_pack(const struct model_command *command, uint64_t request_id);

/* ---- write_operator.c ---- */
void operator_step(struct client *client);
/* Takes its leases up again, and sends what has no answer. */
void operator_connect(struct client *client);
void operator_disconnect(struct client *client);
void operator_retransmit(struct client *client);
void operator_resume(struct client *client, struct model_lease *lease);
/* `wanted` has site, ranges, times and priority. What the desk says at once. */
int operator_acquire(struct client *client, const struct model_lease *wanted, bool no_wait);
void operator_release(struct client *client, struct model_lease *lease);
/* NULL: the reference remembers no more. */
struct model_command *operator_write(struct client *client, struct model_lease *lease);
/* A plain one, to its first word. */
void operator_write_word(struct client *client, struct model_lease *lease);

/* ---- write_policy.c ---- */
extern const struct lease_limits lease_limits;
#define POLICIES 3
const struct config *policy_config(unsigned policy);
/* NULL: the tenant is not in it. */
const struct grant_tenant *policy_tenant(unsigned policy, unsigned tenant);
/* NULL: none covers it. */
const struct grant_rule *policy_rule(unsigned policy, unsigned tenant, unsigned site);
/* Whether the policy lets the lease be. */
bool policy_allows(unsigned policy, const struct model_lease *lease);

/* ---- write_model.c ---- */
void model_ask(struct client *client, const struct model_lease *lease, uint64_t id);
struct model_lease *model_lease(uint64_t id);
/* No byte may be changed under it from now on. */
void model_end(struct model_lease *lease, unsigned cause);
/* Somebody was told that it is over. */
void model_over(struct model_lease *lease);
void model_end_site(unsigned site, unsigned cause);
void model_may_end(unsigned cause);
/* Whether its holder may write now, as far as anybody was told. */
bool model_holds(const struct model_lease *lease);
/* These bytes are about to be changed by the command. */
void model_admit(const struct model_command *command, const struct lease_range *range);
/* What was stored of it so far is marked. */
void model_marked(const struct ledger_key *key);
/* I1, and that nobody has more than the policy says. */
void model_check(void);
void model_crash(bool power);
bool ranges_overlap(const struct lease_range *a, size_t na, const struct lease_range *b, size_t nb);

void pending_add(enum waits_for kind, unsigned client, unsigned index, uint64_t request_id);
/* Whether it was there; it is not any more. */
bool pending_take(enum waits_for kind, unsigned client, uint64_t request_id, unsigned *ret_index);
/* One that has no answer; NULL: all have. */
const struct pending *pending_next(void);
void pending_drop_client(unsigned client);

/* ---- write_told.c ---- */
extern const struct desk_events told_events;

/* ---- write_settle.c ---- */
void settle(void);

#endif
