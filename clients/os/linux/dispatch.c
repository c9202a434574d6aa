/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/dispatch.h"

#include <string.h>

#define STEPS_MAX 256u     /* a tree of 500 numbers is ten deep */
#define REGISTER_NUMBER 6u /* esi: the second argument */

/* The number is in some registers; the last comparison was of it and `with`. */
struct dispatch_run {
	const struct dispatch *of;
	size_t at;
	uint32_t number, with;
	uint8_t registers; /* a bit each: eax, ecx, ... */
	bool compared;
	uint64_t target; /* outside; 0: not there yet */
};

static bool has(const struct dispatch_run *run, size_t n)
{
	return run->of->len - run->at >= n;
}

static uint8_t byte(const struct dispatch_run *run, size_t i)
{
	return run->of->code[run->at + i];
}

static int32_t distance(const struct dispatch_run *run, size_t i)
{
	int32_t value;

	memcpy(&value, run->of->code + run->at + i, sizeof(value));
	return value;
}

/* From behind an instruction of `len` bytes. */
static void jump(struct dispatch_run *run, size_t len, int32_t by)
{
	int64_t to = (int64_t)(run->at + len) + by;

	if (to >= 0 && (uint64_t)to < run->of->len)
		run->at = (size_t)to;
	else
		run->target = run->of->start + (uint64_t)to;
}

/* The condition's number in the instruction; all numbers are small, so signs do not matter. */
static bool holds(const struct dispatch_run *run, uint8_t condition, bool *ret_known)
{
	uint32_t a = run->number, b = run->with;

	*ret_known = run->compared;
	switch (condition) {
	case 0x2: /* below, less */
	case 0xc:
		return a < b;
	case 0x3:
	case 0xd:
		return a >= b;
	case 0x4:
		return a == b;
	case 0x5:
		return a != b;
	case 0x6:
	case 0xe:
		return a <= b;
	case 0x7:
	case 0xf:
		return a > b;
	default:
		*ret_known = false;
		return false;
	}
}

static bool branch(struct dispatch_run *run, uint8_t condition, size_t len, int32_t by)
{
	bool known, taken = holds(run, condition, &known);

	if (known)
		jump(run, len, taken ? by : 0);
	return known;
}

/* cmp and test of a register that has the number. */
static bool compare(struct dispatch_run *run, uint8_t reg, uint32_t with, size_t len)
{
	if (!(run->registers >> reg & 1))
		return false;
	run->with = with;
	run->compared = true;
	run->at += len;
	return true;
}

/* Bytes of what does nothing: endbr64, and nops of all lengths; 0: it is none. */
static size_t idle(const struct dispatch_run *run)
{
	static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};
	size_t n = 0, mode;

	if (has(run, sizeof(endbr)) && memcmp(run->of->code + run->at, endbr, sizeof(endbr)) == 0)
		return sizeof(endbr);
	while (has(run, n + 1) && n < 12 && (byte(run, n) == 0x66 || byte(run, n) == 0x2e))
		n++;
	if (has(run, n + 1) && byte(run, n) == 0x90)
		return n + 1;
	if (!has(run, n + 3) || byte(run, n) != 0x0f || byte(run, n + 1) != 0x1f)
		return 0;
	mode = byte(run, n + 2) >> 6;
	/* With a byte for the scaled index when the base is 4, and a displacement. */
	return n + 3 + ((byte(run, n + 2) & 7) == 4) + (mode == 1 ? 1 : mode == 2 ? 4 : 0);
}

static bool step_compare(struct dispatch_run *run)
{
	uint8_t op = byte(run, 0), mode = has(run, 2) ? byte(run, 1) : 0;

	if (op == 0x3d && has(run, 5))
		return compare(run, 0, (uint32_t)distance(run, 1), 5);
	if (mode < 0xc0)
		return false;
	if (op == 0x83 && (mode >> 3 & 7) == 7 && has(run, 3))
		return compare(run, mode & 7, (uint32_t)(int8_t)byte(run, 2), 3);
	if (op == 0x81 && (mode >> 3 & 7) == 7 && has(run, 6))
		return compare(run, mode & 7, (uint32_t)distance(run, 2), 6);
	if (op == 0x85 && (mode >> 3 & 7) == (mode & 7))
		return compare(run, mode & 7, 0, 2);
	if (op != 0x89 || !(run->registers >> (mode >> 3 & 7) & 1))
		return false;
	run->registers |= (uint8_t)(1u << (mode & 7)); /* mov */
	run->at += 2;
	return true;
}

static bool step(struct dispatch_run *run)
{
	size_t skip = idle(run);
	uint8_t op = byte(run, 0);

	if (skip) {
		run->at += skip;
		return true;
	}
	if (op >> 4 == 7 && has(run, 2))
		return branch(run, op & 15, 2, (int8_t)byte(run, 1));
	if (op == 0x0f && has(run, 6) && byte(run, 1) >> 4 == 8)
		return branch(run, byte(run, 1) & 15, 6, distance(run, 2));
	if (op == 0xeb && has(run, 2)) {
		jump(run, 2, (int8_t)byte(run, 1));
		return true;
	}
	/* What does not come back is called. */
	if ((op == 0xe9 || op == 0xe8) && has(run, 5)) {
		jump(run, 5, distance(run, 1));
		return op == 0xe9 || run->target;
	}
	return step_compare(run);
}

bool dispatch_follow(
	const struct dispatch *dispatch, uint32_t number, uint64_t *ret_target, bool *ret_compared)
{
	struct dispatch_run run = {
		.of = dispatch, .number = number, .registers = 1u << REGISTER_NUMBER};

	for (unsigned i = 0; i < STEPS_MAX && !run.target; i++) {
		if (run.at >= dispatch->len || !step(&run))
			return false;
	}
	*ret_target = run.target;
	*ret_compared = run.compared;
	return run.target != 0;
}
