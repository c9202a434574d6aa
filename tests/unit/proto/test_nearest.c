/* SPDX-License-Identifier: Apache-2.0 */
/* Which name a word with a slip in it is nearest to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/nearest.h"

static const char *meant(const char *word)
{
	static const char *const names[] = {
		"ls", "info", "watch", "read", "scan", "ps", "lease", "status", "stats", "top"};
	struct nearest nearest = nearest_to(word);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		nearest_offer(&nearest, names[i]);
	return nearest.name;
}

static void finds_slips(void **state)
{
	(void)state;
	assert_string_equal(meant("lss"), "ls");      /* one too many */
	assert_string_equal(meant("wach"), "watch");  /* one too few */
	assert_string_equal(meant("raed"), "read");   /* swapped */
	assert_string_equal(meant("lasee"), "lease"); /* two of them */
	assert_string_equal(meant("infu"), "info");   /* another one */
	assert_string_equal(meant("stat"), "stats");  /* of two, the nearer */
	assert_string_equal(meant("sl"), "ls");
}

static void finds_nothing_far_away(void **state)
{
	(void)state;
	assert_null(meant("nonsense"));
	assert_null(meant(""));
	assert_null(meant("x"));
	assert_null(meant("xy"));
	assert_null(meant("rxx"));
	assert_null(meant("rexxxd"));
	assert_null(meant("a-word-that-is-much-longer-than-any-name-there-is"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_slips), cmocka_unit_test(finds_nothing_far_away)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
