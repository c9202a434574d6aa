/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_MODULE_H
#define CLIENTS_OS_WINDOWS_MODULE_H

/* Modules of a Windows guest's kernel, as vmsig_os.h gives them out. */

#include "clients/os/windows/kernel.h"

/* LDR_DATA_TABLE_ENTRY, of the kernel's modules and of a process': unchanged from 7 to 11. */
#define WINDOWS_ENTRY_BASE 0x30u
#define WINDOWS_ENTRY_SIZE 0x40u
#define WINDOWS_ENTRY_PATH 0x48u
#define WINDOWS_ENTRY_NAME 0x58u

/* What the entry at `object` under `root` says; a fault is the kernel's. */
void windows_module_read(
	struct windows_kernel *kernel, uint64_t root, uint64_t object, vmsig_module *ret_module);
/* Walks a ring of entries, whose first member the links are. */
__attribute__((warn_unused_result)) int windows_module_walk(
	struct windows_kernel *kernel, uint64_t root, uint64_t head, vmsig_module_list *list);

/* Sets kernel->modules: by what is exported, else by the ring whose first entry is the kernel. */
void windows_module_find(struct windows_kernel *kernel);
/* In the kernel's order: itself first. VMSIG_ERR_UNSUPPORTED: their list was not found. */
__attribute__((warn_unused_result)) int windows_module_list(
	struct windows_kernel *kernel, vmsig_module_list *ret_list);

#endif
