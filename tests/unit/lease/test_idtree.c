/* SPDX-License-Identifier: Apache-2.0 */
/* The order of ids: right, and as quick, however they come: also when each is below all others, as
 * where leases of another host have the highest numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "lease/idtree.h"

#define MANY 65536u
#define DEEP 64u /* of so many that came at random about one in 10^12 is deeper */

static struct lab {
	struct idtree tree;
	struct idtree_node nodes[MANY];
} lab;

static unsigned depth(const struct idtree *tree, uint64_t id)
{
	const struct idtree_node *node = tree->root;
	unsigned steps = 1;

	for (; node && node->id != id; steps++)
		node = id < node->id ? node->low : node->high;
	assert_non_null(node);
	return steps;
}

static void put(unsigned i, uint64_t id)
{
	lab.nodes[i].id = id;
	idtree_insert(&lab.tree, &lab.nodes[i]);
}

static int setup(void **state)
{
	(void)state;
	lab.tree = (struct idtree){0};
	return 0;
}

static void is_shallow(void)
{
	for (unsigned i = 0; i < MANY; i++)
		assert_in_range(depth(&lab.tree, lab.nodes[i].id), 1, DEEP);
}

static void the_next_one_is_the_next_higher(void **state)
{
	uint64_t id = 0;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		put(i, 1 + (i * 40503u) % MANY);
	for (unsigned i = 0; i < MANY; i += 2)
		idtree_remove(&lab.tree, &lab.nodes[i]);
	for (uint64_t want = 1; want <= MANY; want++) {
		unsigned i = (unsigned)((want - 1) * 30599u % MANY);

		/* 40503 x 30599 is 1 modulo 65536. */
		assert_int_equal(lab.nodes[i].id, want);
		if (i % 2 == 0)
			continue;
		id = idtree_after(&lab.tree, id)->id;
		assert_int_equal(id, want);
	}
	assert_null(idtree_after(&lab.tree, id));
}

static void those_that_follow_each_other_are_shallow(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		put(i, i + 1);
	is_shallow();
}

static void those_below_a_high_one_are_shallow(void **state)
{
	(void)state;
	put(0, (77ull << 40) + 1);
	for (unsigned i = 1; i < MANY; i++)
		put(i, i);
	is_shallow();
	for (unsigned i = 0; i < MANY; i++)
		idtree_remove(&lab.tree, &lab.nodes[i]);
	assert_null(lab.tree.root);
}

static void what_is_there_is_found(void **state)
{
	(void)state;
	assert_null(idtree_first(&lab.tree));
	assert_null(idtree_pop(&lab.tree));
	put(0, 0);
	put(1, UINT64_MAX);
	for (unsigned i = 2; i < 100; i++)
		put(i, 3ull * i);
	for (unsigned i = 0; i < 100; i++)
		assert_ptr_equal(idtree_find(&lab.tree, lab.nodes[i].id), &lab.nodes[i]);
	assert_null(idtree_find(&lab.tree, 7));
	assert_ptr_equal(idtree_first(&lab.tree), &lab.nodes[0]);
	assert_ptr_equal(idtree_after(&lab.tree, 0), &lab.nodes[2]);
	for (unsigned i = 0; i < 100; i++) {
		struct idtree_node *node = idtree_pop(&lab.tree);

		assert_non_null(node);
		assert_null(idtree_find(&lab.tree, node->id));
	}
	assert_null(lab.tree.root);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_next_one_is_the_next_higher),
		TEST(those_that_follow_each_other_are_shallow),
		TEST(those_below_a_high_one_are_shallow),
		TEST(what_is_there_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
