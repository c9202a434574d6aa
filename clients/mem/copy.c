/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/mem/copy.h"

#include <stdint.h>

static void copy_plain(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}

#if defined(__x86_64__)

/* A cache line, wherever it begins. */
typedef uint64_t line __attribute__((vector_size(64), aligned(1), may_alias));

#define STEP (4 * sizeof(line))

/* In registers of the size that the caller's target has. */
__attribute__((always_inline)) static inline void copy_lines(void *to, const void *from, size_t len)
{
	const line *source = from;
	line *target = to;
	size_t left;

	for (left = len; left >= STEP; left -= STEP, source += 4, target += 4) {
		line a = source[0], b = source[1], c = source[2], d = source[3];

		target[0] = a;
		target[1] = b;
		target[2] = c;
		target[3] = d;
	}
	if (left)
		memcpy(target, source, left);
}

__attribute__((target("avx512f"))) static void copy_avx512(void *to, const void *from, size_t len)
{
	copy_lines(to, from, len);
}

__attribute__((target("avx2"))) static void copy_avx2(void *to, const void *from, size_t len)
{
	copy_lines(to, from, len);
}

mem_copy_fn mem_copy_find(void)
{
	if (__builtin_cpu_supports("avx512f"))
		return copy_avx512;
	return __builtin_cpu_supports("avx2") ? copy_avx2 : copy_plain;
}

#else

mem_copy_fn mem_copy_find(void)
{
	return copy_plain;
}

#endif
