/* SPDX-License-Identifier: Apache-2.0 */
/* What names an endpoint: globs of its name, and labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/policy/grant.h"

static char env[] = "env=prod", os[] = "os=linux", tier[] = "tier=web=front";
static char *labels[] = {env, os, tier};
static const struct selector_subject web1 = {.name = "web1", .labels = labels, .nlabels = 3};

static void a_name_is_matched_by_globs(void **state)
{
	assert_true(selector_matches("web1", &web1));
	assert_true(selector_matches("w*", &web1));
	assert_false(selector_matches("db*", &web1));
	assert_false(selector_matches("env=prod", &web1));
}

static void a_label_is_matched_whole(void **state)
{
	const struct selector_subject bare = selector_named("web1");

	assert_true(selector_matches("label:env=prod", &web1));
	assert_true(selector_matches("label:env=*", &web1));
	assert_true(selector_matches("label:tier=web=front", &web1));
	assert_false(selector_matches("label:env=pro", &web1));
	assert_false(selector_matches("label:prod", &web1));
	assert_false(selector_matches("label:web1", &web1));
	assert_false(selector_matches("label:", &web1));
	assert_false(selector_matches("label:*", &bare));
	/* No name begins so. */
	assert_false(selector_matches("label*", &web1));
}

static void labels_let_a_tenant_see_and_write(void **state)
{
	static char db[] = "db1", prod[] = "label:env=prod", on_linux[] = "label:os=linux";
	static char *seen[] = {db, prod}, *written[] = {on_linux};
	struct grant_rule rule = {.endpoints = written, .nendpoints = 1};
	const struct grant_tenant tenant = {
		.tenant = {.endpoints = seen, .nendpoints = 2}, .rules = &rule, .nrules = 1};
	const struct selector_subject db1 = selector_named("db1");
	const struct selector_subject linux_only = {
		.name = "x", .labels = labels + 1, .nlabels = 1};

	assert_true(tenant_sees(&tenant.tenant, &web1));
	assert_ptr_equal(grant_write_rule(&tenant, &web1), &rule);
	assert_true(tenant_sees(&tenant.tenant, &db1));
	assert_null(grant_write_rule(&tenant, &db1));
	/* What may not be seen may not be written. */
	assert_null(grant_write_rule(&tenant, &linux_only));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_matched_by_globs),
		cmocka_unit_test(a_label_is_matched_whole),
		cmocka_unit_test(labels_let_a_tenant_see_and_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
