/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SANDBOX_SYSCALLS_H
#define BROKER_SANDBOX_SYSCALLS_H

/*
 * seccomp: the system calls that a process of the broker may make, with their arguments where that
 * matters: sockets are AF_UNIX (and TCP with SYSCALLS_TCP), signals go to itself, memory is not
 * made executable and writable at once, and only the guardian makes processes. A call that is not
 * in the list ends the process, at once and with a line on standard error that names it: a library
 * that has learnt a new call must not end in a riddle.
 */

enum syscalls_mode { SYSCALLS_ENFORCE, SYSCALLS_LOG, SYSCALLS_OFF };

#define SYSCALLS_FORKS 1u /* may make processes and wait for them */
#define SYSCALLS_TCP 2u   /* may have sockets of TCP */

#define SYSCALLS_EXIT 31 /* exit status of a process that was ended: SIGSYS */

/* For this thread and those that it starts. LOG: what is not allowed is done all the same, and
 * the kernel's audit log names it. `more`: SYSCALLS_FORKS, SYSCALLS_TCP. Needs
 * no_new_privs. 0; -EOPNOTSUPP: the kernel has no seccomp, or this build's sanitizer needs calls
 * of its own; -errno. */
__attribute__((warn_unused_result)) int syscalls_allow(enum syscalls_mode mode, unsigned more);

#endif
