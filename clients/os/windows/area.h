/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_AREA_H
#define CLIENTS_OS_WINDOWS_AREA_H

/*
 * Where a process has the tree of its areas, and what an area says of itself. Neither is exported:
 * it is the place at which a tree hangs that has the area of the process' PEB in it, and the bits
 * that tell the areas of programs from those of PEBs, in most of the processes.
 */

#include "clients/os/windows/kernel.h"
#include "clients/os/windows/vad.h"

#define WINDOWS_AREA_IMAGE 2u /* a PE image, mapped as one */

struct windows_area {
	uint32_t type;       /* 0: nothing of what follows; WINDOWS_AREA_IMAGE, ... */
	uint32_t protection; /* VMSIG_PROT_*, as it was made */
	bool is_private;     /* its pages are this process' own, and of no file */
};

/* Learns it, if it is not known yet. VMSIG_ERR_UNSUPPORTED: it was not found. */
__attribute__((warn_unused_result)) int windows_area_learn(struct windows_kernel *kernel);
/* What is known of an area; a fault is the kernel's. Without kernel->area.flags: nothing. */
void windows_area_read(struct windows_kernel *kernel, uint64_t node, struct windows_area *ret_area);
/* The file that it is of, "" when it has none or that is not resident. */
void windows_area_path(struct windows_kernel *kernel, uint64_t node, char *ret_path, size_t size);

#endif
