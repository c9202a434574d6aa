/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_BACKING_H
#define BROKER_ADAPTERS_QEMU_BACKING_H

/*
 * Finds the file behind a memory backend and opens it: by its path while that still names
 * the file that QEMU has open, else through /proc/PID/fd (memfd, hugetlbfs directory, a file
 * that was unlinked or replaced, another mount namespace). Blocks: for the thread pool.
 */

#include <stddef.h>
#include <sys/types.h>

#include "broker/adapters/qemu/memmap.h"
#include "broker/ram/ram.h"

/* `pid` is QEMU's, by SO_PEERCRED of its QMP socket. 0; VMSIG_ERR_UNSUPPORTED: it cannot be
 * told which file it is; what ram_open_path() and ram_open_proc_fd() return. `error` gets a
 * sentence. */
__attribute__((warn_unused_result)) int backing_open(struct ram **ret_ram, pid_t pid,
	const struct memmap_backend *backend, char *error, size_t error_size);

/* For tests: as above with the directory that stands for /proc/PID. */
__attribute__((warn_unused_result)) int backing_find_fd(const char *proc, const char *target,
	bool prefix, uint64_t size, int *ret_fd, char *error, size_t error_size);

#endif
