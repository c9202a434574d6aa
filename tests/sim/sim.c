/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEFORE_STEPS UINT32_MAX /* sim.step is one less than that of the first step */

struct sim sim;

static bool verbose;
static const char *only; /* "3-9,17", or NULL */

/* ---- options ---- */

static bool take_common(struct sim_options *options, const char *option, const char *value)
{
	uint64_t number = strtoull(value, NULL, 0);

	if (strcmp(option, "--seeds") == 0)
		options->seeds = number;
	else if (strcmp(option, "--first") == 0)
		options->first = number;
	else if (strcmp(option, "--seed") == 0)
		options->first = number, options->seeds = 1;
	else if (strcmp(option, "--steps") == 0)
		options->steps = (unsigned)number;
	else if (strcmp(option, "--only") == 0)
		only = value;
	else if (strcmp(option, "--verbose") == 0)
		verbose = number;
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
		fprintf(stderr,
			"usage: %s [--seeds N] [--first S] [--seed S] [--steps N] [--only A-B,C] "
			"[--verbose 1]%s\n",
			argv[0], usage);
		exit(2);
	}
}

/* ---- dice ---- */

uint64_t sim_roll(uint64_t *random)
{
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * 0x2545f4914f6cdd1dull;
}

uint32_t dice(uint32_t sides)
{
	return (uint32_t)(sim_roll(&sim.random) >> 33) % sides;
}

/* Never 0, of which xorshift makes nothing else. */
static void throw_dice(void)
{
	sim.random = (sim.seed * 0x9e3779b97f4a7c15ull + 1) ^
		     (uint64_t)(sim.step + 1) * 0xbf58476d1ce4e5b9ull;
	sim.random |= sim.random == 0;
	(void)sim_roll(&sim.random);
	(void)sim_roll(&sim.random);
}

/* ---- steps ---- */

void sim_begin(uint64_t seed)
{
	sim = (struct sim){.seed = seed, .step = BEFORE_STEPS};
	throw_dice();
}

static bool is_left_out(unsigned step)
{
	const char *at = only;

	while (at && *at) {
		char *end;
		unsigned long first = strtoul(at, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (step >= first && step <= last)
			return false;
		at = *end == ',' ? end + 1 : "";
	}
	return only;
}

bool sim_next(unsigned steps)
{
	do
		sim.step++;
	while (sim.step < steps && is_left_out(sim.step));
	throw_dice();
	return sim.step < steps;
}

/* ---- words ---- */

void say(const char *format, ...)
{
	va_list args;

	if (!verbose)
		return;
	va_start(args, format);
	fprintf(stderr, "%5u ", sim.step);
	if (sim.now_ns)
		fprintf(stderr, "%8.3f ", (double)*sim.now_ns / 1e9);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
}

bool sim_is_verbose(void)
{
	return verbose;
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
