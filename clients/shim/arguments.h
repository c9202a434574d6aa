/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_ARGUMENTS_H
#define CLIENTS_SHIM_ARGUMENTS_H

/*
 * What commands are told, as numbers and bytes. `argv` has the command's name first. NULL, or a
 * sentence about what is wrong; then nothing has to be cleared.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_write.h"

#define ARGUMENTS_PEEK_MAX (1u << 20) /* bytes of one `peek`; more belongs into a sensor */
#define ARGUMENTS_PATTERN_MAX 4096u   /* bytes, as the library takes them */
/* Bytes of one `poke`: half of what a message takes, so that taking it back, which names the
 * bytes to write and the bytes to expect, is one all-or-nothing write too. */
#define ARGUMENTS_POKE_MAX (VMSIG_WRITE_INLINE_MAX / 2)

/* Which bytes are meant: ADDR is a number, or NAME[+OFFSET] of a symbol of the guest's kernel;
 * behind all else `phys` says that it is guest-physical, `pid PID` that it is a process'. */
struct place_arguments {
	uint64_t addr;
	const char *symbol; /* NAME[+OFFSET], in the line; NULL: addr is the address */
	bool physical;
	bool has_pid;
	uint32_t pid;
};

struct peek_arguments {
	struct place_arguments place;
	size_t len;
};

struct write_arguments {
	struct place_arguments place;
	/* Where that is; whoever looks for it fills them in. */
	uint64_t addr;
	bool physical;
	uint64_t root; /* of a process' page tables; 0: the kernel's */
	size_t len;
	unsigned char *data;   /* owned */
	unsigned char *expect; /* inside of data, or NULL */
};

struct find_arguments {
	vmsig_lease_range range;      /* of addresses */
	struct place_arguments place; /* without an address */
	size_t len;
	unsigned char pattern[ARGUMENTS_PATTERN_MAX];
};

/* ADDR [LEN] [phys | pid PID] */
__attribute__((warn_unused_result)) const char *arguments_peek(
	int argc, char **argv, struct peek_arguments *ret_arguments);
/* ADDR [pid PID] */
__attribute__((warn_unused_result)) const char *arguments_translate(
	int argc, char **argv, struct place_arguments *ret_place);
/* ADDR (u8|u16|u32|u64) VALUE [phys | pid PID], or ADDR hex HEX [phys | pid PID] */
__attribute__((warn_unused_result)) const char *arguments_poke(
	int argc, char **argv, struct write_arguments *ret_arguments);
/* ADDR SIZE EXPECT VALUE [phys | pid PID] */
__attribute__((warn_unused_result)) const char *arguments_cas(
	int argc, char **argv, struct write_arguments *ret_arguments);
/* PATTERN [START END] [phys | pid PID] */
__attribute__((warn_unused_result)) const char *arguments_find(
	int argc, char **argv, struct find_arguments *ret_arguments);

void arguments_clear(struct write_arguments *arguments);

#endif
