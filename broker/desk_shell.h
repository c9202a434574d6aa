/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_DESK_SHELL_H
#define BROKER_DESK_SHELL_H

/*
 * The shell around the pure write plane (broker/write): binds what it needs of the world to the
 * broker's store, jobs, guests and clock, and does what is only about the store.
 *
 *   desk_shell.c    life, records, leases, the ledger, marks; retention
 *   desk_guests.c   an endpoint's RAM and vCPUs, and the clock for each piece that is admitted
 *   desk_sources.c  bulk data: read and hashed on threads
 *   desk_baggage.c  what goes with a guest to another host, and what comes with one
 *   desk_rooms.c    memory for what bulk data has taken the place of
 */

#include <stdbool.h>
#include <stdint.h>

#include "broker/store/audit.h"
#include "broker/store/lease_store.h"
#include "broker/store/ledger.h"
#include "broker/store/marks.h"
#include "broker/write/desk.h"

struct baggage_intake;
struct closer;
struct core;
struct fleet_shell;
struct jobs;
struct shares;
struct store;
struct syncer;

struct desk_shell_env {
	struct shares *shares; /* of the loop's time */
	struct jobs *jobs;     /* for what takes long; closed after the desk */
	struct closer *closer; /* of bulk data's memfds */
	struct core *core;
	struct store *store;
	struct fleet_shell *fleet;   /* NULL: this host is alone */
	struct syncer *syncer;       /* NULL: nothing waits for the disk */
	const struct config *config; /* until desk_shell_reload() */
	const struct desk_events *events;
	uint64_t (*now_ns)(void); /* boot_clock_ns(), or a test's */
};

struct desk_shell {
	struct desk_shell_env env;
	struct desk *desk;
	struct audit *audit;
	struct ledger *ledger;
	struct lease_store *leases;
	struct marks *marks;         /* NULL: they could not be opened */
	struct multihash *multihash; /* NULL: hashes are made one by one */
	uint64_t granted;            /* token of the grant that is being stored; 0: none yet */
	bool granting;               /* inside of a grant */
	bool parted;                 /* desk_shell_part() */
	uint64_t asked, known;       /* the last sync that is waited for, and that has ended */
	uint64_t retained;           /* bytes of the log when its size was last looked at */
	bool over;                   /* it is too large */
	bool forgets;                /* there are leases that ended long ago */
	uint64_t forget_ns;          /* not before: the store would not have it */
	int forget_error;            /* why not */
	uint64_t reclaim_ns;         /* when room is looked for again */
	struct desk_stop *stops;
	struct desk_room *rooms; /* that nobody uses */
	bool rooms_used;         /* some were, since the last look */
};

/* Opens the write plane. `error` gets a sentence. */
__attribute__((warn_unused_result)) int desk_shell_new(struct desk_shell **ret_shell,
	const struct desk_shell_env *env, char *error, size_t error_size);
/* See desk_close(). */
void desk_shell_close(struct desk_shell *shell, void (*closed)(void *arg), void *arg);
/* The fleet has ended, and with it what this host might write: what leases end from now on the next
 * broker hears of from the store here. Accepts NULL. */
void desk_shell_part(struct desk_shell *shell);
/* After `closed`. Accepts NULL, returns NULL. */
struct desk_shell *desk_shell_free(struct desk_shell *shell);
void desk_shell_reload(struct desk_shell *shell, const struct config *config);
/* Before the loop sleeps. */
void desk_shell_turn(struct desk_shell *shell);
/* After it, when answers have left and the loop has nothing else to do. Whether anything was done:
 * another turn may be due then. */
__attribute__((warn_unused_result)) bool desk_shell_rest(struct desk_shell *shell);
/* Now and then: retention of the audit log and the ledger; endpoints that are gone. */
void desk_shell_prune(struct desk_shell *shell);

/* Leases of the endpoint, and what was written under them, for another host. VMSIG_ERR_BUSY: a
 * write has no outcome yet; with `last` it is told as unknown there. What does not fit into `max`
 * bytes is left out. `*ret_data` is the caller's. */
__attribute__((warn_unused_result)) int desk_shell_pack(struct desk_shell *shell, uint32_t endpoint,
	bool last, size_t max, uint8_t **ret_data, size_t *ret_len);
/* A step in which what another host has packed becomes an endpoint's here, as of baggage_take(),
 * which says what of `intake` is the caller's. VMSIG_ERR_BUSY: there is more; VMSIG_ERR_INTERNAL:
 * it is damaged, and nothing was taken; VMSIG_ERR_IO: it may be tried again. */
__attribute__((warn_unused_result)) int desk_shell_unpack(
	struct desk_shell *shell, struct baggage_intake *intake, const void *data, size_t len);

/* ---- for its files ---- */

extern const struct desk_guest_ops desk_guests;
extern const struct desk_bulk_ops desk_sources;
/* Nobody answers any more. */
void desk_guests_free(struct desk_shell *shell);
/* Members of desk_bulk_ops; `ctx` is the shell. */
uint8_t *desk_room_take(void *ctx, bool *ret_fresh);
void desk_room_give(void *ctx, uint8_t *memory);
/* Now and then: gives memory back that nobody has used since the last time. */
void desk_rooms_prune(struct desk_shell *shell);
void desk_rooms_free(struct desk_shell *shell);

#endif
