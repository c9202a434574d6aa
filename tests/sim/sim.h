/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

/*
 * What every simulator is: seeds from which all follows, steps, dice, and the end when something
 * does not hold, which says how to see it again.
 *
 * Each step has dice of its own, thrown from the seed and its number: a run without some of its
 * steps does the others as before, so what failed can be made shorter (`run`).
 */

#include <stdbool.h>
#include <stdint.h>

struct sim {
	uint64_t seed, random;
	unsigned step;
	const uint64_t *now_ns; /* that say() prints, or NULL */
	const bool *faults;     /* whether mishaps may strike, or NULL */
};

extern struct sim sim; /* the run under way */

struct sim_options {
	uint64_t first, seeds;
	unsigned steps;
};

/* --seeds N, --first S, --seed S (that one alone), --steps N, --only A-B,C (of the steps these
 * alone) and --verbose 1 over what `options` has; `other` takes what one simulator alone has, and
 * says whether it does. Ends the program with 2 and the usage for what nobody takes; `usage` is
 * what stands behind the options here. */
void sim_options(struct sim_options *options, int argc, char **argv, const char *usage,
	bool (*other)(const char *option, const char *value));
/* Sets seed and dice; sim_next() begins the first step. */
void sim_begin(uint64_t seed);
/* Begins the next step that is not left out. False: there is none; what comes has dice, too. */
bool sim_next(unsigned steps);
/* 0 to sides - 1: xorshift64*, so that a seed means the same everywhere. */
uint32_t dice(uint32_t sides);
uint64_t sim_roll(uint64_t *random);
/* What happens, with --verbose. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
/* Whether it is said at all: what is costly to tell need not be made. */
bool sim_is_verbose(void);
/* Says the seed, the step and what is wrong, and ends the program. */
__attribute__((format(printf, 1, 2), noreturn)) void broken(const char *format, ...);

#endif
