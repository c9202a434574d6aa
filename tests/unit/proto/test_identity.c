/* SPDX-License-Identifier: Apache-2.0 */
/* Names in certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "proto/wire/identity.h"
#include "vmsig/vmsig_error.h"

#define NAME63 "a23456789012345678901234567890123456789012345678901234567890123"

static void good_uris_parse(void **state)
{
	static const struct {
		const char *uri;
		enum identity_role role;
		const char *name;
	} good[] = {
		{"vmsig://sensor/acme", IDENTITY_SENSOR, "acme"},
		{"vmsig://operator/a", IDENTITY_OPERATOR, "a"},
		{"vmsig://admin/Root_1.x-y", IDENTITY_ADMIN, "Root_1.x-y"},
		{"vmsig://provider/_p", IDENTITY_PROVIDER, "_p"},
		{"vmsig://monitor/exporter", IDENTITY_MONITOR, "exporter"},
		{"vmsig://broker/host1.example.org", IDENTITY_BROKER, "host1.example.org"},
		{"vmsig://sensor/" NAME63, IDENTITY_SENSOR, NAME63},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct identity id;

		memset(&id, 0xff, sizeof(id));
		assert_int_equal(identity_parse(good[i].uri, strlen(good[i].uri), &id), 0);
		assert_int_equal(id.role, good[i].role);
		assert_string_equal(id.name, good[i].name);
		assert_string_equal(id.serial, "");
	}
}

static void bad_uris_are_refused(void **state)
{
	static const char *const bad[] = {"", "v", "vmsig:", "vmsig://", "vmsig:///acme",
		"vmsig://sensor", "vmsig://sensor/", "vmsig://Sensor/acme", "VMSIG://sensor/acme",
		"vmsig://root/acme", "vmsig://sensor/acme/b", "vmsig://sensor//acme",
		"vmsig://sensor/acme?q", "vmsig://sensor/acme#f", "vmsig://sensor/.acme",
		"vmsig://sensor/-acme", "vmsig://sensor/ac me", "vmsig://sensor/ac%41",
		"vmsig://sensor/acm\xc3\xa9", "vmsig://sensor/" NAME63 "4", "vmsig://sensor:1/acme",
		"vmsig://u@sensor/acme", "https://sensor/acme", " vmsig://sensor/acme",
		"vmsig://sensor/acme\n", "vmsig://sens/acme", "vmsig://sensorx/acme"};
	struct identity id;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			identity_parse(bad[i], strlen(bad[i]), &id), VMSIG_ERR_BAD_REQUEST);
}

static void a_nul_does_not_end_a_name(void **state)
{
	static const char name[] = "vmsig://sensor/acme\0.evil";
	static const char role[] = "vmsig://sensor\0/acme";
	struct identity id = {.name = "untouched"};

	assert_int_equal(identity_parse(name, sizeof(name) - 1, &id), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(identity_parse(role, sizeof(role) - 1, &id), VMSIG_ERR_BAD_REQUEST);
	assert_string_equal(id.name, "untouched");
}

static void every_prefix_is_safe(void **state)
{
	static const char uri[] = "vmsig://operator/ab";
	struct identity id;

	for (size_t len = 0; len < sizeof(uri) - 2; len++)
		assert_int_equal(identity_parse(uri, len, &id), VMSIG_ERR_BAD_REQUEST);
	assert_int_equal(identity_parse(uri, sizeof(uri) - 2, &id), 0);
	assert_string_equal(id.name, "a");
}

static void role_names_go_both_ways(void **state)
{
	for (unsigned bit = 0; bit < 5; bit++) {
		enum identity_role role = 1u << bit;

		assert_int_equal(identity_role_parse(identity_role_name(role)), role);
	}
	assert_null(identity_role_name(0));
	assert_null(identity_role_name(IDENTITY_SENSOR | IDENTITY_ADMIN));
	assert_int_equal(identity_role_parse("nobody"), 0);
	assert_int_equal(identity_role_parse(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_uris_parse),
		cmocka_unit_test(bad_uris_are_refused),
		cmocka_unit_test(a_nul_does_not_end_a_name),
		cmocka_unit_test(every_prefix_is_safe),
		cmocka_unit_test(role_names_go_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
