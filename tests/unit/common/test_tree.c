/* SPDX-License-Identifier: Apache-2.0 */
/* What is below what, of lists that are lies too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "clients/common/tree.h"

#define ALL SIZE_MAX
#define SEEN_MAX 64

struct seen {
	size_t count, index[SEEN_MAX];
	unsigned depth[SEEN_MAX], deepest;
};

static void see(void *ctx, size_t index, unsigned depth)
{
	struct seen *seen = ctx;

	if (seen->count < SEEN_MAX) {
		seen->index[seen->count] = index;
		seen->depth[seen->count] = depth;
	}
	seen->deepest = depth > seen->deepest ? depth : seen->deepest;
	seen->count++;
}

static void assert_walk(const struct tree_node *nodes, size_t count, size_t top,
	const size_t *index, const unsigned *depth, size_t n)
{
	struct seen seen = {0};

	assert_true(tree_walk(nodes, count, top, see, &seen));
	assert_int_equal(seen.count, n);
	assert_memory_equal(seen.index, index, n * sizeof(*index));
	assert_memory_equal(seen.depth, depth, n * sizeof(*depth));
}

static void each_is_below_its_parent(void **state)
{
	static const struct tree_node nodes[] = {{1, 0}, {9, 5}, {2, 0}, {5, 1}, {6, 2}, {7, 1}};
	static const size_t index[] = {0, 3, 1, 5, 2, 4};
	static const unsigned depth[] = {0, 1, 2, 1, 0, 1};

	assert_walk(nodes, 6, ALL, index, depth, 6);
	assert_walk(nodes, 6, 3, index + 1, (const unsigned[]){0, 1}, 2);
	assert_walk(nodes, 0, ALL, index, depth, 0);
}

static void lost_ones_are_at_the_top(void **state)
{
	static const struct tree_node nodes[] = {{4, 77}, {5, 4}, {1, 0}};

	assert_walk(nodes, 3, ALL, (const size_t[]){2, 0, 1}, (const unsigned[]){0, 0, 1}, 3);
}

static void circles_have_an_end(void **state)
{
	static const struct tree_node nodes[] = {{1, 3}, {2, 1}, {3, 2}, {8, 8}};

	assert_walk(nodes, 4, ALL, (const size_t[]){0, 1, 2, 3}, (const unsigned[]){0, 1, 2, 0}, 4);
	/* Below 0 are those whose parent is 0, itself among them. */
	assert_walk((const struct tree_node[]){{0, 0}, {0, 0}}, 2, ALL, (const size_t[]){0, 1},
		(const unsigned[]){0, 1}, 2);
}

static void what_is_deep_is_there_once(void **state)
{
	struct tree_node nodes[200];
	struct seen seen = {0};

	for (uint32_t i = 0; i < 200; i++)
		nodes[i] = (struct tree_node){i + 1, i};
	assert_true(tree_walk(nodes, 200, ALL, see, &seen));
	assert_int_equal(seen.count, 200);
	assert_int_equal(seen.deepest, TREE_DEPTH_MAX);
}

/* Who looks at all of them for each of them does not come to an end. */
static void equal_numbers_cost_no_more_than_others(void **state)
{
	const size_t count = 2u << 20;
	struct tree_node *nodes = calloc(count, sizeof(*nodes));
	struct seen seen = {0};

	assert_non_null(nodes);
	for (size_t i = 0; i < count; i++)
		nodes[i] = (struct tree_node){7, 7};
	assert_true(tree_walk(nodes, count, ALL, see, &seen));
	assert_int_equal(seen.count, count);
	for (size_t i = 0; i < count; i++)
		nodes[i] = (struct tree_node){1, i % 2 ? 1 : 0};
	seen = (struct seen){0};
	assert_true(tree_walk(nodes, count, ALL, see, &seen));
	assert_int_equal(seen.count, count);
	free(nodes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_below_its_parent),
		cmocka_unit_test(lost_ones_are_at_the_top),
		cmocka_unit_test(circles_have_an_end),
		cmocka_unit_test(what_is_deep_is_there_once),
		cmocka_unit_test(equal_numbers_cost_no_more_than_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
