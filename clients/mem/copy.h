/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_MEM_COPY_H
#define CLIENTS_MEM_COPY_H

/*
 * The copy of a read of one page. For some 4 KiB the C library takes the string instructions of
 * some CPUs (29 ns on a Zen 5), where as many loads and stores of whole cache lines take 16.
 */

#include <stddef.h>
#include <string.h>

/* Up to here the C library's own is as fast. */
#define MEM_COPY_SMALL 2048u

/* As memcpy(3), of more than MEM_COPY_SMALL bytes. */
typedef void (*mem_copy_fn)(void *to, const void *from, size_t len);

/* The fastest that this CPU has. Never NULL. */
mem_copy_fn mem_copy_find(void);

static inline void mem_copy(mem_copy_fn copy, void *to, const void *from, size_t len)
{
	if (len > MEM_COPY_SMALL)
		copy(to, from, len);
	else
		memcpy(to, from, len);
}

#endif
