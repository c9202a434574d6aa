/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_MISHAP_H
#define PROTO_MISHAP_H

/*
 * Named places in the pure parts at which something goes wrong that may go wrong anyway: memory or
 * descriptors that are refused, work that is broken off, a timer that comes early. A simulator
 * builds these parts with VMSIG_MISHAPS and decides by its seed; in every other build a mishap is
 * the constant false, and nothing is left of it.
 */

#include <stdbool.h>

#ifdef VMSIG_MISHAPS
/* The simulator's. */
bool mishap_strikes(const char *name);
#define MISHAP(name) mishap_strikes(name)
#else
#define MISHAP(name) false
#endif

#endif
