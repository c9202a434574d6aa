/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_GROW_H
#define CLIENTS_OS_GROW_H

/* Arrays that grow by one item at a time. */

#include <stddef.h>
#include <stdlib.h>

/* `items` with room for one more than `count`, in steps that double; NULL: out of memory, and
 * `items` is as it was. An array that is filled anew from count 0 may shrink first. */
__attribute__((warn_unused_result)) static inline void *grow_array(
	void *items, size_t count, size_t size)
{
	if (count & (count - 1))
		return items;
	return reallocarray(items, count ? 2 * count : 1, size);
}

#endif
