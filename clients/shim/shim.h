/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_SHIM_H
#define CLIENTS_SHIM_SHIM_H

/*
 * vmsig-shim: one operator, one endpoint, one lease. Commands are typed by a person (prompt.h)
 * or come as a script (script.h); in between, and while a command waits, both connections
 * to the broker are driven (session.h), so that the lease is kept and what happens to it or to
 * the guest is told at once.
 *
 * Calls return an enum exit_status when they are about a command, after a message.
 *
 *   main       the command line
 *   shim       the program
 *   session    connections, signals, waiting
 *   view       the endpoint
 *   hold       the lease
 *   command    the table of commands
 *   arguments  what they are told
 *   find       scans
 *   locate     symbols and processes, as addresses
 *   peek       reads
 *   poke       writes
 *   lease      leases
 *   log        what was written, and its undoing
 *   journal    the list of that
 *   output     answers and news
 *   prompt     a person types
 *   complete   and is helped
 *   script     a program does
 *   words      a line, in words
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/common/context.h"
#include "clients/common/hold.h"
#include "clients/shim/hold.h"
#include "clients/shim/journal.h"
#include "clients/shim/locate.h"
#include "clients/shim/output.h"
#include "clients/shim/session.h"
#include "clients/shim/view.h"
#include "vmsig/vmsig_os.h"
#include "vmsig/vmsig_write.h"

#define SHIM_RANGES_MAX 256u /* of one lease, as the library takes them */

struct shim_options {
	const char *identity, *write_socket, *ctx_socket;
	const char *endpoint;
	uint32_t ready_ms;         /* for an endpoint that is not ready */
	vmsig_lease_request lease; /* what `lease acquire` asks for */
	vmsig_lease_range ranges[SHIM_RANGES_MAX];
	bool keep_going; /* a script goes on behind a command that failed */
};

struct shim {
	struct shim_options options;
	struct shim_output output;
	struct shim_session session;
	struct context context; /* of the endpoint */
	vmsig_os_handle *os;    /* what runs there, when a command has asked; NULL: not known */
	struct hold hold;
	struct shim_journal journal;
	bool quits; /* `quit` was said */
};

#endif
