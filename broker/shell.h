/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SHELL_H
#define BROKER_SHELL_H

/*
 * The shell's parts, which broker.c starts, turns and closes; shared with upkeep and reload.
 */

#include <stdbool.h>
#include <uv.h>

#include "broker/config/config.h"
#include "broker/read/core.h"
#include "broker/write/desk.h"
#include "broker/planes/services.h"
#include "broker/policy/share.h"
#include "broker/store/store.h"
#include "broker/expiry.h"
#include "broker/upkeep.h"

struct auditor;
struct closer;
struct desk_shell; /* around the desk */
struct guardian;
struct porter;
struct watchdog;
struct discovery;
struct endpoints; /* those that run */
struct fleet_shell;
struct jobs;
struct net;
struct provisions;
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
	struct discovery *discovery;
	struct provisions *provisions;
	struct fleet_shell *fleet;           /* NULL: this host is alone */
	struct config *membership;           /* that it was joined with; counted */
	void (*left)(struct broker *broker); /* of membership_close() */
	bool leaving;
	uv_prepare_t turn;
	uv_idle_t hurry;        /* keeps the loop from sleeping while tasks are ready */
	uint64_t turn_ended_ns; /* 0: with nothing more to do */
	uv_timer_t wake;        /* core_deadline() */
	uv_timer_t vouch;       /* for the coherence pages */
	struct upkeep upkeep;   /* of the store */
	struct expiry expiry;   /* of keys */
	uv_signal_t signals[3];
	uv_timer_t patience; /* with what has to end */
	bool short_of_room;  /* was said in the log */
	uint64_t started_ns; /* uv_hrtime() */
	bool closing;
	int exit_code;
};

#endif
