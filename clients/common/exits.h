/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_EXITS_H
#define CLIENTS_COMMON_EXITS_H

/* What the tools exit with; the same number means the same in all of them. */

enum exit_status {
	EXIT_OK = 0,
	EXIT_ERROR = 1,     /* anything else */
	EXIT_USAGE = 2,     /* the command line */
	EXIT_NOT_FOUND = 3, /* no such endpoint that this identity may see, or forbidden */
	EXIT_NOT_READY = 4, /* the endpoint has no context in time */
	EXIT_CONNECT = 5,   /* no broker, or it refused the identity */
	EXIT_STALE = 6,     /* the guest was reset during the command */
	EXIT_ADDRESS = 7,   /* an address is not mapped or no RAM, or outside the lease */
	EXIT_HELD = 8,      /* somebody else holds a conflicting lease */
	EXIT_LEASE = 9,     /* the lease is over, or there is no such one */
	EXIT_COMPARE = 10,  /* other bytes were there than expected: nothing was written */
	EXIT_PARTIAL = 11,  /* only a part was written, or could be seen */
	EXIT_UNKNOWN = 12,  /* it cannot be told whether anything was written */
	EXIT_NO_WRITE = 13, /* the endpoint cannot be written to */
	EXIT_BUSY = 14,     /* busy, or a quota is used up; it may work later */
	EXIT_BROKEN = 15,   /* the audit log is not intact */
	EXIT_MOVED = 16,    /* the guest runs on another host now */
	EXIT_LOST = 124,    /* `lease acquire` had to end its command, as timeout(1) says it */
};

/* The status for an enum vmsig_error of either sign. */
enum exit_status exit_status(int error);

#endif
