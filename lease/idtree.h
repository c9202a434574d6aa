/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEASE_IDTREE_H
#define LEASE_IDTREE_H

/*
 * What has ids, in their order, intrusive: a treap, whose shape follows from the ids alone. In
 * whatever order they come, each step costs the logarithm of how many there are, unless somebody
 * has chosen ids for it to be more; then they are as many as there may be, and no more.
 */

#include <stdint.h>

struct idtree_node {
	uint64_t id;
	struct idtree_node *low, *high;
};

/* Zeroed: an empty one. */
struct idtree {
	struct idtree_node *root;
};

/* The node's id is set, and no other has it. */
void idtree_insert(struct idtree *tree, struct idtree_node *node);
/* It is in the tree. */
void idtree_remove(struct idtree *tree, struct idtree_node *node);
/* The one with that id, or NULL. */
struct idtree_node *idtree_find(const struct idtree *tree, uint64_t id);
/* The lowest one, and the lowest one above `id`, or NULL. */
struct idtree_node *idtree_first(const struct idtree *tree);
struct idtree_node *idtree_after(const struct idtree *tree, uint64_t id);
/* Takes any one out, for whoever takes all; NULL: it is empty. */
struct idtree_node *idtree_pop(struct idtree *tree);

#endif
