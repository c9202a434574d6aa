/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_TOKENS_H
#define CLIENTS_OS_LINUX_TOKENS_H

/*
 * The words that the kernel's names of symbols are made of: scripts/kallsyms.c writes 256 of them,
 * ended by NUL, and an index u16[256] of where each begins, aligned. Words 48 to 57 are the digits,
 * which no symbol's name begins with and so no other word is made of: that is what they are found
 * by.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINUX_TOKENS 256u

struct linux_tokens {
	size_t at;  /* of the words, in the bytes that were searched */
	size_t end; /* behind the index */
	const uint8_t *words;
	uint16_t start[LINUX_TOKENS];
	uint16_t len[LINUX_TOKENS];
};

/* The first table at or behind `from`; words point into `bytes`. False: there is none. */
bool linux_tokens_find(
	struct linux_tokens *ret_tokens, const uint8_t *bytes, size_t len, size_t from);

#endif
