/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_PROCESS_H
#define BROKER_ADAPTERS_QEMU_PROCESS_H

/*
 * The process at the other end of a QMP socket. A connection that ends says nothing about the
 * guest; the process does: while it lives, so does the guest in its memory, and when it has
 * ended, nothing brings that guest back. It is told from a later one with its number by the time
 * at which it began.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct process;

/* Watches the process. on_end() is called once, from the loop; never after process_close().
 * -errno: there is none, or it cannot be watched (a kernel without pidfd, another pid
 * namespace), and then the end of a connection is all there is to know. */
__attribute__((warn_unused_result)) int process_open(struct process **ret_process, uv_loop_t *loop,
	pid_t pid, void (*on_end)(void *arg), void *arg);
/* on_closed() is called when the handle is closed, later. Accepts NULL, and then calls nothing;
 * returns NULL. */
struct process *process_close(struct process *process, void (*on_closed)(void *arg), void *arg);

/* Whether it runs; false for NULL. A zombie does not. */
bool process_is_alive(const struct process *process);
/* Whether `pid` is this process and no other that got its number; false for NULL. */
bool process_is(const struct process *process, pid_t pid);

/* Its pidfd, borrowed; -1 for NULL. */
int process_fd(const struct process *process);

/* When it began, in clock ticks since the host's boot; 0 when that cannot be read. */
unsigned long long process_start_time(pid_t pid);

#endif
