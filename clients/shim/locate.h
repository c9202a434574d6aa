/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_LOCATE_H
#define CLIENTS_SHIM_LOCATE_H

/*
 * Where a command looks: symbols of the guest's kernel and its processes become addresses and roots
 * of page tables. What is learnt of the guest for that is kept as long as its epoch is.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/shim/arguments.h"

struct shim;

struct shim_location {
	uint64_t addr;
	bool physical;
	uint64_t root; /* of a process; 0: the kernel's */
};

/* Waits for a context first, as shim_view_await() does; EXIT_OK, or an exit status after a message.
 */
int shim_locate(
	struct shim *shim, const struct place_arguments *place, struct shim_location *ret_location);

#endif
