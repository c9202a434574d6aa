/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_GDB_WRITE_H
#define CLIENTS_CTL_GDB_WRITE_H

/*
 * What gdb writes: each write under a lease of its own, or that of the environment, as `vmsigctl
 * write` takes it, with a record for `vmsigctl undo`. Nothing is leased while nobody writes.
 */

#include "clients/ctl/ctl.h"

/* Whether the write plane is there, and who we are may be there. EXIT_OK, or the exit code after a
 * message. */
int ctl_gdb_may_write(const struct ctl *ctl);
/* Writes where the context reads, in its epoch. EXIT_OK, or the exit code after a message. */
int ctl_gdb_write(const struct ctl *ctl, const char *endpoint, const struct context *context,
	bool physical, uint64_t addr, unsigned char *bytes, size_t len);

#endif
