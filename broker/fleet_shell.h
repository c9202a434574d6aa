/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_FLEET_SHELL_H
#define BROKER_FLEET_SHELL_H

/*
 * The shell around the pure fleet (broker/fleet): binds it to etcd, to the clock, to a file for
 * what it has to remember, and to the endpoints of this host that are its guests. There is none
 * without `fleet` in the configuration, and then a write costs what it did.
 *
 * Whether bytes may be changed is answered from memory, for the time that was read for the very
 * step that changes them. An endpoint that has no identity in the fleet is written to by nobody.
 *
 *   fleet_shell.c    actions, and the loop
 *   fleet_voyage     a guest's way from here, or to here
 *   fleet_events     what it has done by the rest of the broker
 *   fleet_seats.c    endpoints, and their leases
 *   fleet_life.c     beginning, and leaving
 *   fleet_refusal.c  whether this host may write, and why not
 *   fleet_memory.c   the file
 *   fleet_survey     the fleet's other guests
 *   fleet_keys.c     the keys for etcd
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/adapters/passage.h"
#include "broker/config/config.h"
#include "broker/etcd/etcd.h"
#include "broker/fleet/fleet.h"
#include "broker/fleet_events.h"

struct fleet_keys;
struct fleet_shell;
struct fleet_survey;
struct jobs;
struct lease_view;
struct metrics;

struct fleet_shell_env {
	uv_loop_t *loop;
	struct jobs *jobs;
	const struct config *config; /* until it is freed */
	const struct fleet_shell_events *events;
	void *ctx;
};

/* Reads keys and memory, which may wait: before the loop runs. `error` gets a sentence. */
__attribute__((warn_unused_result)) int fleet_shell_new(struct fleet_shell **ret_shell,
	const struct fleet_shell_env *env, char *error, size_t error_size);
/* Nothing is written any more: guests are given up, so that other hosts need not wait for them, as
 * long as that takes no more than a moment. Frees it, and calls `closed` from the loop. */
void fleet_shell_close(struct fleet_shell *shell, void (*closed)(void *arg), void *arg);

/* Connections to etcd that are made from now on have these keys, and watches are begun anew with
 * them. -ENOMEM. */
__attribute__((warn_unused_result)) int fleet_shell_rekey(
	struct fleet_shell *shell, const struct fleet_keys *keys);

/* An endpoint that is served from now on; `epoch`: the highest that it had. Without a `uuid` it is
 * none of the fleet's. What fails is logged. */
void fleet_shell_add(struct fleet_shell *shell, uint32_t endpoint, const char *name,
	const char *uuid, uint32_t epoch);
void fleet_shell_remove(struct fleet_shell *shell, uint32_t endpoint);
/* A context of this epoch can be had, of the session with this fingerprint, "" for none. Whether
 * leases may be had too; else owned() says when. */
bool fleet_shell_ready(
	struct fleet_shell *shell, uint32_t endpoint, uint32_t epoch, const char *fingerprint);
/* What tells the session that is being served from others is known by something better now. */
void fleet_shell_session(struct fleet_shell *shell, uint32_t endpoint, const char *fingerprint);
/* That is over. Whether leases go on all the same: the guest is on its way to another host. */
bool fleet_shell_over(struct fleet_shell *shell, uint32_t endpoint);
/* Where adapters tell of guests' ways between hosts. */
void fleet_shell_passage(struct fleet_shell *shell, struct passage *ret_passage);

/* Whether bytes of the endpoint may be changed at `now_ns`: 0, or VMSIG_ERR_BUSY and a sentence,
 * borrowed until the next call. */
__attribute__((warn_unused_result)) int fleet_shell_may_write(
	const struct fleet_shell *shell, uint32_t endpoint, uint64_t now_ns, const char **ret_why);
/* Whether holders of leases may be promised more time at `now_ns`: nobody else takes the guest over
 * before that is over. */
bool fleet_shell_may_prolong(const struct fleet_shell *shell, uint32_t endpoint, uint64_t now_ns);
/* Tokens of the endpoint have to be above; 0: any. */
uint64_t fleet_shell_token_floor(const struct fleet_shell *shell, uint32_t endpoint);
/* Has the fleet know of a lease with this token. granted() or not_granted() comes, from a turn. */
__attribute__((warn_unused_result)) int fleet_shell_grant(
	struct fleet_shell *shell, const struct lease_view *lease, uint64_t token);
void fleet_shell_end(struct fleet_shell *shell, const struct lease_view *lease);

/* Before the loop sleeps. */
void fleet_shell_turn(struct fleet_shell *shell);
/* It has asked for what is done in a turn, and wants another one. */
bool fleet_shell_is_pending(const struct fleet_shell *shell);

/* ---- looking ---- */

/* The endpoint's part in the fleet; false: it has none. */
bool fleet_shell_look(
	const struct fleet_shell *shell, uint32_t endpoint, struct tenure_view *ret_view);
struct fleet *fleet_shell_fleet(const struct fleet_shell *shell);
void fleet_shell_etcd(const struct fleet_shell *shell, struct etcd_status *ret_status);
/* Who wants to see the whole fleet asks that. */
struct fleet_survey *fleet_shell_survey(struct fleet_shell *shell);
/* What an administrator has to know of: a sentence, borrowed until the next call; NULL. */
const char *fleet_shell_warning(struct fleet_shell *shell);
void fleet_shell_stats(const struct fleet_shell *shell, struct metrics *metrics);
/* An operator trusts the store as it is now: see fleet_bump(). */
__attribute__((warn_unused_result)) int fleet_shell_bump(struct fleet_shell *shell);

#endif
