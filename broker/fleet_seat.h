/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_SEAT_H
#define BROKER_FLEET_SEAT_H

/* The inside of the fleet's shell: what it knows of each endpoint, for its files. */

#include <stdbool.h>
#include <stdint.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>
#include <uv.h>

#include "broker/fleet_damper.h"
#include "broker/fleet_shell.h"
#include "broker/fleet_survey.h"
#include "broker/fleet_voyage.h"

#define FLEET_WHY_SIZE 256u

struct fleet_keeper;

/* An endpoint that is a guest of the fleet, or waits for another one here to end that is the same
 * guest: one that got a new name begins before the old one has ended. */
struct seat {
	struct fleet_shell *shell;
	uint32_t endpoint, epoch;
	uint32_t floor;        /* the epoch has to be above; of `owned` */
	uint64_t token_floor;  /* likewise tokens */
	struct tenure *tenure; /* NULL: it waits */
	bool ready;            /* a context can be had */
	bool owned;
	/* Its endpoint is gone, but not what is offered with its guest: it stays until the target
	 * has that, for no longer than until then. */
	bool parts;
	bool parted; /* the target has it, or nobody will */
	uint64_t parts_ns;
	struct fleet_damper damper; /* of what the adapter says of its way */
	struct fleet_voyage voyage;
	char name[64];
	char session[FLEET_NAME_MAX + 1]; /* "": not known */
	char uuid[FLEET_UUID_MAX + 2]; /* what is longer than it may be stays so, and is refused */
	struct seat *prev, *next;      /* in shell->waiting */
	UT_hash_handle hh;             /* in shell->seats */
};

struct fleet_shell {
	struct fleet_shell_env env;
	struct fleet *fleet;
	struct etcd *etcd;
	struct fleet_keeper *keeper;
	struct fleet_survey survey;
	struct seat *seats;
	struct seat *waiting;
	uv_timer_t timer; /* of the fleet; at the end of the farewell */
	char why[FLEET_WHY_SIZE];
	bool closing, timer_open, etcd_open;
	uint64_t look_ns; /* when something is to be done for seats; UINT64_MAX: nothing is */
	bool pending;     /* a further turn is wanted now */
	/* As the last turn left it: until then there is nothing to do. */
	uint64_t due_ns, changes;
	uint64_t farewell_ns;
	void (*end)(struct fleet_shell *shell); /* the farewell is over */
	void (*closed)(void *arg);
	void *arg;
};

/* NULL: it is none of the fleet's. */
static inline struct seat *seat_find(const struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat = NULL;

	HASH_FIND(hh, shell->seats, &endpoint, sizeof(endpoint), seat);
	return seat;
}

/* One that waits until the endpoint that has its guest's seat has ended. */
static inline struct seat *seat_waiting(const struct fleet_shell *shell, uint32_t endpoint)
{
	struct seat *seat;

	DL_FOREACH (shell->waiting, seat) {
		if (seat->endpoint == endpoint)
			return seat;
	}
	return NULL;
}

/* Its guest runs in the session with this fingerprint, "" for none; what its adapter says of the
 * kernel is better, as it holds on each host. */
void fleet_seat_session(struct seat *seat, const char *fingerprint);
/* The tenure of its own is told that the guest runs here, in its session. */
void fleet_seat_run(struct seat *seat);
/* One that parts: whether it has, and is freed. */
bool fleet_seat_part(struct seat *seat, uint64_t now_ns);
/* All of them, without a farewell. */
void fleet_seats_free(struct fleet_shell *shell);

#endif
