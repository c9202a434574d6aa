/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/tree.h"

#include <stdlib.h>

struct tree {
	const struct tree_node *nodes;
	size_t count;
	size_t *order; /* of the nodes, by parents */
	size_t *next;  /* of the first place of each parent: the place to go on at, or 0 */
	bool *visited;
	tree_fn visit;
	void *ctx;
};

static int by_parent(const void *a, const void *b, void *ctx)
{
	const struct tree_node *nodes = ctx;
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return nodes[x].parent != nodes[y].parent
		       ? (nodes[x].parent > nodes[y].parent) - (nodes[x].parent < nodes[y].parent)
		       : (x > y) - (x < y);
}

/* The first place in the order whose parent is not less. */
static size_t first_child(const struct tree *tree, uint32_t parent)
{
	size_t first = 0, end = tree->count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;

		if (tree->nodes[tree->order[middle]].parent < parent)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

static void visit_children(struct tree *tree, uint32_t parent, unsigned depth);

static void visit_branch(struct tree *tree, size_t index, unsigned depth)
{
	tree->visited[index] = true;
	tree->visit(tree->ctx, index, depth);
	if (depth < TREE_DEPTH_MAX)
		visit_children(tree, tree->nodes[index].number, depth + 1);
}

/* Several may have the same number: what one of them has looked at no other looks at again. */
static void visit_children(struct tree *tree, uint32_t parent, unsigned depth)
{
	size_t first = first_child(tree, parent);

	if (first < tree->count && tree->next[first] < first)
		tree->next[first] = first;
	while (first < tree->count && tree->next[first] < tree->count) {
		size_t index = tree->order[tree->next[first]];

		if (tree->nodes[index].parent != parent)
			return;
		tree->next[first]++;
		if (!tree->visited[index])
			visit_branch(tree, index, depth);
	}
}

static void visit_from(struct tree *tree, size_t top)
{
	if (top < tree->count) {
		visit_branch(tree, top, 0);
		return;
	}
	visit_children(tree, 0, 0);
	for (size_t i = 0; i < tree->count; i++) {
		if (!tree->visited[i])
			visit_branch(tree, i, 0);
	}
}

bool tree_walk(const struct tree_node *nodes, size_t count, size_t top, tree_fn visit, void *ctx)
{
	struct tree tree = {.nodes = nodes, .count = count, .visit = visit, .ctx = ctx};
	bool done;

	tree.order = calloc(count + 1, sizeof(*tree.order));
	tree.next = calloc(count + 1, sizeof(*tree.next));
	tree.visited = calloc(count + 1, sizeof(*tree.visited));
	done = tree.order && tree.next && tree.visited;
	for (size_t i = 0; done && i < count; i++)
		tree.order[i] = i;
	if (done) {
		qsort_r(tree.order, count, sizeof(*tree.order), by_parent,
			(void *)(uintptr_t)nodes);
		visit_from(&tree, top);
	}
	free(tree.order);
	free(tree.next);
	free(tree.visited);
	return done;
}
