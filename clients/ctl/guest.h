/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_GUEST_H
#define CLIENTS_CTL_GUEST_H

/* What the commands share that look into a guest: ps, threads, maps, files, modules, symbols. */

#include "clients/ctl/ctl.h"
#include "vmsig/vmsig_os.h"

struct ctl_guest {
	const char *endpoint;
	struct context context;
	vmsig_os_handle *os;
};

/* Waits for a context and learns what runs there. With anything but EXIT_OK a message was printed
 * and there is nothing to close. */
int ctl_guest_open(const struct ctl *ctl, const char *endpoint, struct ctl_guest *ret_guest);
void ctl_guest_close(struct ctl_guest *guest);

/* A failure to look at `what`. */
int ctl_guest_fail(const struct ctl_guest *guest, int r, const char *what);
/* Says so when a list is not whole: EXIT_OK or EXIT_PARTIAL. */
int ctl_guest_whole(const struct ctl_guest *guest, bool partial, const char *what);
/* Whether it is one of a process; EXIT_OK, or EXIT_USAGE after a message. Before anything else is
 * done. */
bool ctl_is_pid(const char *text);
int ctl_check_pid(const char *text);
/* Says that there is no such process: EXIT_NOT_FOUND. */
int ctl_guest_lacks(const struct ctl_guest *guest, const char *pid);
/* The process of `pid`, which is text; a message was printed when there is none. */
int ctl_guest_process(const struct ctl_guest *guest, const char *pid, vmsig_proc *ret_process);

/* A whole command: its options, its guest, and `look` at that. Exit codes. */
typedef int (*ctl_guest_look)(const struct ctl *ctl, struct ctl_guest *guest, const char *pid);
/* `[--pid PID] ENDPOINT`; `pid` may be NULL. */
int ctl_guest_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	ctl_guest_look look);
/* `ENDPOINT PID`, which may be written as the other is. */
int ctl_guest_run_process(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	ctl_guest_look look);

/* Codes of options that several commands have, above those of their own. */
enum { CTL_OPT_PID = CTL_OPT_FIRST + 64, CTL_OPT_SYMBOL };

#endif
