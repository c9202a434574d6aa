/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

/*
 * What every simulator is: seeds from which all follows, steps, dice, and the end when something
 * does not hold, which says how to see it again.
 */

#include <stdbool.h>
#include <stdint.h>

struct sim {
	uint64_t seed, random;
	unsigned step;
};

extern struct sim sim; /* the run under way */

struct sim_options {
	uint64_t first, seeds;
	unsigned steps;
};

/* --seeds N, --seed S and --steps N over what `options` has; `other` takes what one simulator alone
 * has, and says whether it does. Ends the program with 2 and the usage for what nobody takes;
 * `usage` is what stands behind the options here. */
void sim_options(struct sim_options *options, int argc, char **argv, const char *usage,
	bool (*other)(const char *option, const char *value));
/* Sets seed, dice and step. */
void sim_begin(uint64_t seed);
/* 0 to sides - 1: xorshift64*, so that a seed means the same everywhere. */
uint32_t dice(uint32_t sides);
/* Says the seed, the step and what is wrong, and ends the program. */
__attribute__((format(printf, 1, 2), noreturn)) void broken(const char *format, ...);

#endif
