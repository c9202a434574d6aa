/* SPDX-License-Identifier: Apache-2.0 */
/* What is different between two configurations. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/config/compare.h"
#include "vmsig/vmsig_error.h"

static char dir[] = "/tmp/vmsig-compare-XXXXXX";
static char path[PATH_MAX];

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/vmsigd.yaml", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static int try(struct config **ret_config, const char *text, char *error, size_t size)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fprintf(file, "tls: {ca: a, cert: b, key: c}\n%s", text) > 0);
	assert_int_equal(fclose(file), 0);
	return config_load(ret_config, path, error, size);
}

static struct config *load(const char *text)
{
	struct config *config = NULL;
	char error[512] = "";

	if (try(&config, text, error, sizeof(error)))
		fail_msg("%s", error);
	return config;
}

static void compare(struct compare_result *result, const char *old, const char *new)
{
	struct config *a = load(old), *b = load(new);

	assert_int_equal(compare_configs(result, a, b), 0);
	config_unref(a);
	config_unref(b);
}

static void expect(const struct compare_result *result, size_t i, enum compare_section section,
	enum compare_kind kind, const char *name, const char *detail)
{
	assert_true(i < result->nchanges);
	assert_int_equal(result->changes[i].section, section);
	assert_int_equal(result->changes[i].kind, kind);
	assert_string_equal(result->changes[i].name, name);
	if (!strstr(result->changes[i].detail, detail))
		fail_msg("%s", result->changes[i].detail);
}

#define E "adapter: file, path: x, low: 4096"

static void endpoints_are_compared_by_name(void **state)
{
	struct compare_result result;

	compare(&result,
		"endpoints:\n  - {name: b, " E "}\n  - {name: a, " E "}\n  - {name: c, " E "}\n",
		"endpoints:\n  - {name: c, " E ", labels: {env: prod}}\n  - {name: a, " E "}\n"
		"  - {name: d, " E "}\n");
	assert_int_equal(result.nchanges, 3);
	expect(&result, 0, COMPARE_ENDPOINTS, COMPARE_REMOVED, "b", "");
	expect(&result, 1, COMPARE_ENDPOINTS, COMPARE_CHANGED, "c", "");
	expect(&result, 2, COMPARE_ENDPOINTS, COMPARE_ADDED, "d", "");
	assert_int_equal(result.counts[COMPARE_ENDPOINTS][COMPARE_ADDED], 1);
	compare_deinit(&result);
}

static void tenants_are_told_by_their_keys(void **state)
{
	struct compare_result result;

	compare(&result,
		"tenants:\n  - {name: a, role: sensor, uids: [1]}\n"
		"  - {name: a, role: operator, uids: [1], endpoints: [x], write: [{endpoints: "
		"[x]}]}\n",
		"tenants:\n"
		"  - {name: a, role: operator, uids: [1, 2], endpoints: [x], quota: {pending: 3},\n"
		"     write: [{endpoints: [x], ranges: [{gpa: 0, len: 4096}]}]}\n");
	assert_int_equal(result.nchanges, 2);
	expect(&result, 0, COMPARE_TENANTS, COMPARE_REMOVED, "sensor/a", "");
	expect(&result, 1, COMPARE_TENANTS, COMPARE_CHANGED, "operator/a", "uids, quota, write");
	compare_deinit(&result);
}

static void settings_are_told_with_their_values(void **state)
{
	struct compare_result result;

	compare(&result, "limits: {leases: 10}\n",
		"limits: {leases: 20, take_timeout: 5s}\nlog: {level: debug}\n"
		"listen: {ctx: {mode: 0600}, admin: {path: /x}}\n");
	assert_int_equal(result.nchanges, 5);
	expect(&result, 0, COMPARE_LISTEN, COMPARE_CHANGED, "ctx", "mode 666 -> ");
	expect(&result, 1, COMPARE_LISTEN, COMPARE_ADDED, "admin", "/x");
	expect(&result, 2, COMPARE_SETTINGS, COMPARE_CHANGED, "log.level", "info -> debug");
	expect(&result, 3, COMPARE_LIMITS, COMPARE_CHANGED, "limits.take_timeout", "30s -> 5s");
	expect(&result, 4, COMPARE_LIMITS, COMPARE_CHANGED, "limits.leases", "10 -> 20");
	compare_deinit(&result);
}

static void what_waits_for_the_next_start_says_so(void **state)
{
	static const char fleet[] =
		"fleet: {name: p, host: h, etcd: ['http://127.0.0.1:1'], ca: %s, ttl: %s}\n";
	struct compare_result result;
	char old[256], new[256];

	snprintf(old, sizeof(old), fleet, "a", "10s");
	snprintf(new, sizeof(new), fleet, "b", "20s");
	compare(&result, old, new);
	assert_int_equal(result.nchanges, 2);
	for (size_t i = 0; i < result.nchanges; i++) {
		bool waits = strstr(result.changes[i].detail, "from the next start on") != NULL;

		assert_int_equal(waits, strcmp(result.changes[i].name, "fleet.ttl") == 0);
	}
	compare_deinit(&result);
	compare(&result, "",
		"sandbox: {syscalls: log}\nstate_dir: other\naudit: {size: 2GiB}\n"
		"listen: {write: {path: /w}}\n");
	assert_int_equal(result.nchanges, 4);
	for (size_t i = 0; i < result.nchanges; i++) {
		assert_true(result.changes[i].warns);
		assert_non_null(strstr(result.changes[i].detail, "from the next start on"));
	}
	compare_deinit(&result);
	compare(&result, "listen: {write: {path: /w}}\n", "audit: {age: 1h}\n");
	assert_int_equal(result.nchanges, 2);
	for (size_t i = 0; i < result.nchanges; i++)
		assert_false(result.changes[i].warns);
	compare_deinit(&result);
}

static void lists_of_texts_are_told_as_they_are_written(void **state)
{
	static const char fleet[] = "fleet: {name: p, host: h, etcd: [%s]}\n";
	struct compare_result result;
	char old[256], new[256];

	snprintf(old, sizeof(old), fleet, "'http://127.0.0.1:1'");
	snprintf(new, sizeof(new), fleet, "'http://127.0.0.1:1', 'http://127.0.0.1:2'");
	compare(&result, old, new);
	assert_int_equal(result.nchanges, 1);
	expect(&result, 0, COMPARE_SETTINGS, COMPARE_CHANGED, "fleet.etcd",
		"http://127.0.0.1:1 -> http://127.0.0.1:1 http://127.0.0.1:2; from the next start");
	compare_deinit(&result);
	compare(&result, old, "");
	expect(&result, 2, COMPARE_SETTINGS, COMPARE_CHANGED, "fleet.etcd", ":1 -> none");
	compare_deinit(&result);
}

/* Who reloads a slip of the pen learns that it takes everything from a tenant. */
static void patterns_that_name_nothing_are_told(void **state)
{
	static const char web1[] = "endpoints: [{name: web1, adapter: file, path: x, low: 1MiB}]\n";
	struct compare_result result;
	char old[512], new[512];

	snprintf(old, sizeof(old),
		"%stenants: [{name: a, role: sensor, uids: [1], endpoints: ['web*']}]\n", web1);
	snprintf(new, sizeof(new),
		"%stenants:\n  - {name: a, role: sensor, uids: [1], endpoints: ['wbe*']}\n"
		"  - {name: b, role: operator, uids: [1], endpoints: [web1],\n"
		"     write: [{endpoints: [db1]}]}\n",
		web1);
	compare(&result, old, new);
	assert_int_equal(result.nchanges, 2);
	for (size_t i = 0; i < result.nchanges; i++) {
		bool sensor = strcmp(result.changes[i].name, "sensor/a") == 0;

		assert_non_null(strstr(
			result.changes[i].detail, sensor ? "endpoints; 'wbe*' names no endpoint"
							 : "'db1' names no endpoint"));
	}
	compare_deinit(&result);
	/* Where some are discovered nobody knows what they will be called. */
	snprintf(new, sizeof(new),
		"%sdiscover: [{qmp: /q}]\n"
		"tenants: [{name: a, role: sensor, uids: [1], endpoints: ['wbe*']}]\n",
		web1);
	compare(&result, old, new);
	for (size_t i = 0; i < result.nchanges; i++)
		assert_null(strstr(result.changes[i].detail, "names no endpoint"));
	compare_deinit(&result);
}

static void what_is_the_same_is_nothing(void **state)
{
	static const char text[] = "endpoints:\n  - {name: a, " E ", labels: {b: c, a: d}}\n";
	struct compare_result result;

	compare(&result, text, "endpoints:\n  - {name: a, " E ", labels: {a: d, b: c}}\n");
	assert_true(compare_is_empty(&result));
	compare_deinit(&result);
}

static void labels_are_sorted_and_checked(void **state)
{
	static const char *const bad[][2] = {{"{a b: c}", "a label's key"},
		{"[a]", "takes 'key: value' lines"}, {"{a: [b]}", "takes a text"}};
	struct config *config =
		load("endpoints:\n  - {name: a, " E ", labels: {os: linux, env: 'a=b'}}\n");
	char text[256], error[512];

	assert_int_equal(config->endpoints[0].nlabels, 2);
	assert_string_equal(config->endpoints[0].labels[0], "env=a=b");
	assert_string_equal(config->endpoints[0].labels[1], "os=linux");
	config_unref(config);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "endpoints:\n  - {name: a, " E ", labels: %s}\n",
			bad[i][0]);
		assert_int_equal(try(&config, text, error, sizeof(error)), VMSIG_ERR_BAD_REQUEST);
		if (!strstr(error, bad[i][1]) || !strstr(error, ":3: "))
			fail_msg("%s", error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints_are_compared_by_name),
		cmocka_unit_test(tenants_are_told_by_their_keys),
		cmocka_unit_test(settings_are_told_with_their_values),
		cmocka_unit_test(what_waits_for_the_next_start_says_so),
		cmocka_unit_test(lists_of_texts_are_told_as_they_are_written),
		cmocka_unit_test(patterns_that_name_nothing_are_told),
		cmocka_unit_test(what_is_the_same_is_nothing),
		cmocka_unit_test(labels_are_sorted_and_checked),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
