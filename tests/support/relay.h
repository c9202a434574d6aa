/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_RELAY_H
#define TESTS_SUPPORT_RELAY_H

/*
 * A way between clients and a server on the loopback, that can be cut: a process that hands on what
 * both say. While it is stopped (SIGSTOP) connections stay, and nothing comes through.
 */

#include <sys/types.h>

struct relay {
	pid_t pid;
	unsigned port; /* where clients find it */
};

/* To that port. What goes wrong fails the test. */
void relay_start(struct relay *relay, unsigned port);
/* Ends it; nothing, of one that was not started. */
void relay_end(struct relay *relay);

#endif
