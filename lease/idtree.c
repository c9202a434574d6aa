/* SPDX-License-Identifier: Apache-2.0 */
#include "lease/idtree.h"

#include <stdbool.h>
#include <stddef.h>

/* The finaliser of SplitMix64: ids that follow each other give numbers that look like drawn ones.
 */
static uint64_t rank(const struct idtree_node *node)
{
	uint64_t x = node->id;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Nothing below a node has a higher rank. */
static bool is_above(const struct idtree_node *a, const struct idtree_node *b)
{
	return a && rank(a) >= rank(b);
}

/* What is below `id` and what is above goes into two trees. */
static void split(
	struct idtree_node *node, uint64_t id, struct idtree_node **low, struct idtree_node **high)
{
	while (node) {
		if (node->id < id) {
			*low = node;
			low = &node->high;
			node = node->high;
		} else {
			*high = node;
			high = &node->low;
			node = node->low;
		}
	}
	*low = *high = NULL;
}

void idtree_insert(struct idtree *tree, struct idtree_node *node)
{
	struct idtree_node **place = &tree->root;

	while (is_above(*place, node))
		place = node->id < (*place)->id ? &(*place)->low : &(*place)->high;
	split(*place, node->id, &node->low, &node->high);
	*place = node;
}

/* All of `low` is below all of `high`. */
static void join(struct idtree_node **place, struct idtree_node *low, struct idtree_node *high)
{
	while (low && high) {
		if (is_above(low, high)) {
			*place = low;
			place = &low->high;
			low = low->high;
		} else {
			*place = high;
			place = &high->low;
			high = high->low;
		}
	}
	*place = low ? low : high;
}

void idtree_remove(struct idtree *tree, struct idtree_node *node)
{
	struct idtree_node **place = &tree->root;

	while (*place != node)
		place = node->id < (*place)->id ? &(*place)->low : &(*place)->high;
	join(place, node->low, node->high);
}

struct idtree_node *idtree_find(const struct idtree *tree, uint64_t id)
{
	struct idtree_node *node = tree->root;

	while (node && node->id != id)
		node = id < node->id ? node->low : node->high;
	return node;
}

struct idtree_node *idtree_first(const struct idtree *tree)
{
	struct idtree_node *node = tree->root;

	while (node && node->low)
		node = node->low;
	return node;
}

struct idtree_node *idtree_pop(struct idtree *tree)
{
	struct idtree_node *node = tree->root;

	if (node)
		join(&tree->root, node->low, node->high);
	return node;
}

struct idtree_node *idtree_after(const struct idtree *tree, uint64_t id)
{
	struct idtree_node *node = tree->root, *found = NULL;

	while (node) {
		if (node->id > id) {
			found = node;
			node = node->low;
		} else {
			node = node->high;
		}
	}
	return found;
}
