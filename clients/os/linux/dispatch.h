/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_DISPATCH_H
#define CLIENTS_OS_LINUX_DISPATCH_H

/*
 * Where a system call leads in kernels that have no table of them: x64_sys_call() compares the
 * number with others and jumps (from 6.9 on, and in older ones that were mended after it). Its code
 * is followed as far as it consists of what compilers make of a switch; all else is not understood.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dispatch {
	const uint8_t *code;
	size_t len;
	uint64_t start; /* where the guest has it */
};

/* The first address outside that `number` leads to. False: not understood. *ret_compared is whether
 * the number mattered on the way there. */
bool dispatch_follow(
	const struct dispatch *dispatch, uint32_t number, uint64_t *ret_target, bool *ret_compared);

#endif
