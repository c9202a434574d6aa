/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULT_STARVE_H
#define TESTS_FAULT_STARVE_H

/*
 * What starve.c, preloaded into a program, shares with a test: the file STARVE_FILE, mapped by
 * both.
 */

#include <stdint.h>

struct starve {
	uint32_t at;    /* this allocation fails, counted from 1, and no other; 0: none */
	uint32_t count; /* allocations of the program, of all its threads, since this was 0 */
};

#endif
