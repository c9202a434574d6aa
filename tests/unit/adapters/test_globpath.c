/* SPDX-License-Identifier: Apache-2.0 */
/* Which sockets a path with globs means, and what they can be called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/adapters/qemu/globpath.h"

static void a_path_is_a_folder_and_levels(void **state)
{
	static const struct {
		const char *path, *folder, *levels[3];
	} cases[] = {
		{"/run/qemu", "/run/qemu", {"*"}},
		{"/run/qemu//", "/run/qemu", {"*"}},
		{"/run/qemu/*.sock", "/run/qemu", {"*.sock"}},
		{"/run/qemu/web?/qmp.sock", "/run/qemu", {"web?", "qmp.sock"}},
		{"/run//[ab]//x/*", "/run", {"[ab]", "x", "*"}},
		{"/*/qmp.sock", "", {"*", "qmp.sock"}},
		{"/", "", {"*"}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct globpath glob;
		unsigned n = 0;

		assert_int_equal(globpath_init(&glob, cases[i].path), 0);
		assert_string_equal(glob.folder, cases[i].folder);
		for (; n < 3 && cases[i].levels[n]; n++)
			assert_string_equal(glob.levels[n], cases[i].levels[n]);
		assert_int_equal(glob.n, n);
		globpath_deinit(&glob);
	}
}

static void a_file_is_called_by_what_globs_stand_for(void **state)
{
	static const struct {
		const char *path, *file, *name;
	} cases[] = {
		{"/run/qemu", "web1.mon.sock", "web1.mon"},
		{"/run/qemu/*.sock", "web1.sock", "web1"},
		{"/run/qemu/*/qmp.sock", "web1.d/qmp.sock", "web1.d"},
		{"/run/*/qmp/*.sock", "red/qmp/web1.sock", "red-web1"},
		{"/run/*/*", "red/0123456789012345678901234567", ""},
		{"/run/*/*", "red/012345678901234567890123456", "red-012345678901234567890123456"},
		/* Two files in folders of two tenants never have one name. */
		{"/run/*/*.sock", "red-blue/x.sock", "red--blue-x"},
		{"/run/*/*.sock", "red/blue-x.sock", "red-blue--x"},
		{"/run/*/*.sock", "red/-x.sock", ""},
		{"/run/*/*.sock", "red-/x.sock", ""},
		{"/run/*/q.sock", "red-/q.sock", "red-"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct globpath glob;
		char name[32];

		assert_int_equal(globpath_init(&glob, cases[i].path), 0);
		globpath_name(&glob, cases[i].file, name, sizeof(name));
		assert_string_equal(name, cases[i].name);
		globpath_deinit(&glob);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_a_folder_and_levels),
		cmocka_unit_test(a_file_is_called_by_what_globs_stand_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
