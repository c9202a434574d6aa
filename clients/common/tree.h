/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_TREE_H
#define CLIENTS_COMMON_TREE_H

/*
 * Numbered things below their parents, as processes are. Whoever made the list may lie: numbers may
 * be there many times, and things may be their own ancestors. Each is visited once nevertheless, in
 * a time that does not depend on that: n log n.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_DEPTH_MAX 40u /* what is deeper is at the top again */

struct tree_node {
	uint32_t number, parent;
};

/* `index` is that of the list; `depth` is 0 at the top. */
typedef void (*tree_fn)(void *ctx, size_t index, unsigned depth);

/* Visits each thing before those that are below it, and these in the order of the list: what is
 * below `top`, or all, beginning with what is below number 0, when that is none of the list. False:
 * no memory; then nothing is visited. */
bool tree_walk(const struct tree_node *nodes, size_t count, size_t top, tree_fn visit, void *ctx);

#endif
