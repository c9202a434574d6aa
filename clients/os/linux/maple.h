/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_MAPLE_H
#define CLIENTS_OS_LINUX_MAPLE_H

/*
 * The maple tree (lib/maple_tree.c, from 6.1 on), which keeps an address space's areas by their
 * ranges. A node that is being freed, ranges that do not ascend, depths that no tree has: torn.
 */

#include <stdint.h>

#include "clients/os/linux/kernel.h"

#define LINUX_MAPLE_MAX 200000u /* areas; more than vm.max_map_count lets a process have */

/* An entry and its range, both ends included; false stops. */
typedef bool (*linux_maple_fn)(void *ctx, uint64_t first, uint64_t last, uint64_t entry);

/* Visits the entries below `root`, the word that a struct maple_tree has. */
void linux_maple_visit(struct linux_kernel *kernel, uint64_t root, linux_maple_fn visit, void *ctx);

#endif
