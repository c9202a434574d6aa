/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_SANDBOX_SANDBOX_H
#define BROKER_SANDBOX_SANDBOX_H

/*
 * What a broker that was taken over can still ask the kernel for. In this order: no way to gain
 * privileges, another user, few capabilities, then, for each of the broker's processes by itself,
 * fences in the file system and a list of system calls. All of it before there are threads, which
 * inherit it.
 *
 *   sandbox     the order, for each process
 *   privileges  user and capabilities
 *   fence       where files may be made (Landlock)
 *   syscalls    what may be called (seccomp)
 *
 * Anybody in the broker may call this, as log.h. What the running kernel does not have is said in
 * the log and gone without.
 */

#include <stdbool.h>

struct config;

/* The broker's processes differ in what they need. */
enum sandbox_process {
	SANDBOX_BROKER,
	SANDBOX_GUARDIAN, /* connects to QEMU, and forks */
	SANDBOX_PORTER,   /* receives descriptors, and opens nothing */
};

/* Of the process that forks the others: privileges go, and what is to be shut later is noted.
 * Logs what fails. 0, or -errno: then nobody should be served. */
__attribute__((warn_unused_result)) int sandbox_begin(const struct config *config);
/* Shuts the rest, for this process and its threads to come; nothing without sandbox_begin(). */
__attribute__((warn_unused_result)) int sandbox_shut(enum sandbox_process process);
/* Whether this process can serve all endpoints of a configuration: shut for one that looks into no
 * QEMU, it cannot look into any. */
bool sandbox_serves(const struct config *config);

#endif
