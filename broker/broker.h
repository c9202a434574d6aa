/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

/*
 * The shell around the pure core: turns the world into the core's events and performs its
 * actions, on one libuv loop.
 *
 *   main            the command line; before and after the loop
 *   broker          the parts: started, turned, closed
 *   upkeep          of the state: errands to the disk, retries
 *   auditor         reads the audit log for others
 *   syncer          tells who waits for the disk
 *   endpoints       those of the configuration: row, page, adapter
 *   selftests       what descriptors of each folder are worth
 *   desk_shell      binds the write plane to the world
 *   desk_guests     its guests
 *   desk_sources    its bulk data
 *   boot_clock      CLOCK_BOOTTIME
 *   coherence       coherence pages
 *   obituary        has the kernel mark them at our death
 *   reload          SIGHUP
 *   selftests       what descriptors of RAM folders are worth
 *   syncer          waits for the disk, on a thread
 *   jobs            work on threads, in lines
 *   wakeup          a thread wakes the loop
 *   thread          threads without signals
 *   runqueue        how long the loop waited for a CPU
 *   watchdog        turns that take too long
 *   log             records
 *   log_writer      writes them, on a thread
 *   error_text      a sentence for an error
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/read/core.h"
#include "broker/write/desk.h"
#include "broker/planes/services.h"
#include "broker/policy/share.h"
#include "broker/store/store.h"
#include "broker/upkeep.h"

struct auditor;
struct closer;
struct desk_shell; /* around the desk */
struct guardian;
struct porter;
struct watchdog;
struct endpoints; /* those that run */
struct jobs;
struct net;
struct reload;
struct syncer;

struct broker {
	uv_loop_t loop;
	bool loop_open;
	struct config *config;
	struct guardian *guardian; /* borrowed; NULL: no guest is ever stopped */
	struct porter *porter;     /* borrowed; NULL: no client may send descriptors */
	struct closer *closer;     /* of what clients send */
	struct shares *shares;     /* of the loop's time */
	int waits_fd;              /* of the loop's thread, runqueue.h; negative: not known */
	struct watchdog *watchdog; /* of the loop's turns */
	struct core *core;
	struct store *store;
	struct net *net;
	struct desk_shell *desk_shell; /* NULL as the desk is */
	struct desk *desk;        /* NULL: what it needs of the store cannot be had at the moment */
	struct services services; /* core and desk, for the planes */
	struct reload *reload;
	struct syncer *syncer;
	struct auditor *auditor;
	struct jobs *jobs; /* file systems and scans; NULL before it starts */
	bool desk_open;    /* not closed yet */
	struct endpoints *endpoints;
	uv_prepare_t turn;
	uv_idle_t hurry;      /* keeps the loop from sleeping while tasks are ready */
	uv_timer_t wake;      /* core_deadline() */
	uv_timer_t vouch;     /* for the coherence pages */
	struct upkeep upkeep; /* of the store */
	uv_signal_t signals[3];
	uv_timer_t patience; /* with what has to end */
	bool short_of_room;  /* was said in the log */
	bool closing;
	int exit_code;
};

/* Takes over the configuration. Logs what fails. 0, positive enum vmsig_error, -errno. */
__attribute__((warn_unused_result)) int broker_init(struct broker *broker, struct config *config,
	struct guardian *guardian, struct porter *porter);
/* Runs until SIGTERM or SIGINT, then closes everything. The process's exit status. */
int broker_run(struct broker *broker);
void broker_deinit(struct broker *broker);

/* Opens the write plane, if the store lets it. What fails is logged, `loudly` as an error.
 * Whether it is open. */
bool broker_open_desk(struct broker *broker, bool loudly);

/* Says in the log when it keeps less than a day of the audit log. */
void broker_warn_history(const struct config *config);

/* One of the parts that shutdown waits for has ended. */
void broker_closed(struct broker *broker);

#endif
