/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

/*
 * The shell around the pure core: turns the world into the core's events and performs its
 * actions, on one libuv loop.
 *
 *   main            the command line; before and after the loop
 *   broker          the parts: started, turned, closed
 *   shell           what those that follow know of the parts
 *   turn            what is done before the loop sleeps
 *   upkeep          of the state: errands to the disk, retries
 *   auditor         reads the audit log for others
 *   syncer          tells who waits for the disk
 *   expiry          keys that end soon
 *   endpoints       those that run
 *   endpoint_shell  one of them: row, page, adapter
 *   wanted          those that shall run
 *   discovery       those that come and go by themselves
 *   findings        of one source of these, what is there and may be served
 *   provision       those that providers offer
 *   selftests       what descriptors of each folder are worth
 *   core_shell      binds the read plane to the world
 *   desk_shell      binds the write plane to the world
 *   desk_guests     its guests
 *   desk_sources    its bulk data
 *   fleet_shell     binds the fleet to the world
 *   fleet_seat      its inside
 *   fleet_damper    a guest that goes and stays too often
 *   fleet_refusal   whether this host may write to a guest, and why not
 *   fleet_keys      the keys for etcd
 *   fleet_memory    what the fleet has to know again after a restart
 *   membership      what the fleet says becomes epochs and leases
 *   boot_clock      CLOCK_BOOTTIME
 *   coherence       coherence pages
 *   obituary        has the kernel mark them at our death
 *   reload          SIGHUP
 *   stewardship     what administrators ask for
 *   jobs            work on threads, in lines
 *   wakeup          a thread wakes the loop
 *   multihash       SHA-256 of many messages at a time
 *   thread          threads without signals
 *   runqueue        how long the loop waited for a CPU
 *   watchdog        turns that take too long
 *   manager         the service manager
 *   log             records
 *   log_writer      writes them, on a thread
 *   error_text      a sentence for an error
 */

#include <stdbool.h>

#include "broker/shell.h"

/* Takes over the configuration. Logs what fails. 0, positive enum vmsig_error, -errno. */
__attribute__((warn_unused_result)) int broker_init(struct broker *broker, struct config *config,
	struct guardian *guardian, struct porter *porter);
/* Runs until SIGTERM or SIGINT, then closes everything. The process's exit status. */
int broker_run(struct broker *broker);
void broker_deinit(struct broker *broker);

#endif
