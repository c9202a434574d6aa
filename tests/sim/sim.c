/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim sim;

static bool take_common(struct sim_options *options, const char *option, const char *value)
{
	uint64_t number = strtoull(value, NULL, 0);

	if (strcmp(option, "--seeds") == 0)
		options->seeds = number;
	else if (strcmp(option, "--seed") == 0)
		options->first = number, options->seeds = 1;
	else if (strcmp(option, "--steps") == 0)
		options->steps = (unsigned)number;
	else
		return false;
	return true;
}

void sim_options(struct sim_options *options, int argc, char **argv, const char *usage,
	bool (*other)(const char *option, const char *value))
{
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 < argc && (take_common(options, argv[i], argv[i + 1]) ||
					    (other && other(argv[i], argv[i + 1]))))
			continue;
		fprintf(stderr, "usage: %s [--seeds N] [--seed S] [--steps N]%s\n", argv[0], usage);
		exit(2);
	}
}

void sim_begin(uint64_t seed)
{
	sim = (struct sim){.seed = seed, .random = seed * 0x9e3779b97f4a7c15ull + 1};
}

uint32_t dice(uint32_t sides)
{
	sim.random ^= sim.random >> 12;
	sim.random ^= sim.random << 25;
	sim.random ^= sim.random >> 27;
	return (uint32_t)((sim.random * 0x2545f4914f6cdd1dull) >> 33) % sides;
}

void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "seed %llu, step %u: ", (unsigned long long)sim.seed, sim.step);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}
