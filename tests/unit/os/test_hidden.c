/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's lists do not have is found in its memory, whether or not it carries types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "clients/os/finding.h"
#include "clients/os/linux/hidden.h"
#include "clients/os/linux/module.h"
#include "tests/unit/os/objects.h"
#include "vmsig/vmsig_error.h"

#define PRESENT 3u
#define LARGE 0x80u
#define SELF_AT 0x58u

/* Where there are modules, from the first on: the upper half of all memory. */
#define MODULES_GPA (OBJECTS_SIZE / 2)
#define TABLES_GPA 0x8000u
#define MODULE_AT 0x1240u /* aligned to cache lines */

static void put(struct objects *objects, uint64_t gpa, uint64_t word)
{
	memory_put(&objects->memory, gpa, word);
}

static void map_modules(struct objects *objects)
{
	uint64_t first = LINUX_MODULES_FIRST;

	put(objects, objects->memory.kernel.root + (first >> 39 & 511) * 8, TABLES_GPA | PRESENT);
	put(objects, TABLES_GPA + (first >> 30 & 511) * 8, (TABLES_GPA + 0x1000) | PRESENT);
	put(objects, TABLES_GPA + 0x1000 + (first >> 21 & 511) * 8, MODULES_GPA | PRESENT | LARGE);
	vmsig_mem_flush(objects->memory.kernel.mem);
}

static void make_module(struct objects *objects, uint64_t at, const char *name)
{
	uint64_t gpa = MODULES_GPA + at;

	put(objects, gpa + 8, 0xdead000000000100ull); /* as it is left when it is unlinked */
	put(objects, gpa + 16, 0xdead000000000122ull);
	memcpy(objects->memory.bytes + gpa + LINUX_MODULE_NAME_AT, name, strlen(name) + 1);
	put(objects, gpa + SELF_AT, LINUX_MODULES_FIRST + at);
}

static void set_field(struct objects *objects, enum linux_field field, uint32_t at, bool known)
{
	objects->memory.kernel.fields.field[field].offset = at;
	objects->memory.kernel.fields.field[field].known = known;
}

static int setup(void **state)
{
	struct objects *objects = calloc(1, sizeof(*objects));
	uint64_t head = objects_at(OBJECTS_SYMBOLS);

	assert_non_null(objects);
	assert_true(objects_make(objects));
	map_modules(objects);
	set_field(objects, LINUX_MODULE_LIST, 8, true);
	set_field(objects, LINUX_MODULE_NAME, LINUX_MODULE_NAME_AT, true);
	set_field(objects, LINUX_MODULE_SELF, SELF_AT, true);
	/* None is listed. */
	objects_put(objects, head, head);
	objects_put(objects, head + 8, head);
	*state = objects;
	return 0;
}

static int teardown(void **state)
{
	struct objects *objects = *state;

	objects_free(objects);
	free(objects);
	return 0;
}

/* What was found, of one or none. */
static void check(struct objects *objects, const char *text)
{
	vmsig_finding_list findings = {0};

	assert_int_equal(linux_hidden_modules(&objects->memory.kernel, &findings), 0);
	assert_false(findings.partial);
	assert_int_equal(findings.count, text ? 1 : 0);
	if (text)
		assert_string_equal(findings.findings[0].text, text);
	finding_clear(&findings);
	free(findings.findings);
}

static void module_is_found_by_its_pointer(void **state)
{
	check(*state, NULL);
	make_module(*state, MODULE_AT, "rootkit");
	check(*state, "module rootkit is not in the list of modules");
}

/* A kernel without types of which no module was ever listed: what it has not said where is found
 * nevertheless, and that there is none is an answer. */
static void module_is_found_without_its_place(void **state)
{
	struct objects *objects = *state;

	set_field(objects, LINUX_MODULE_SELF, 0, false);
	check(objects, NULL);
	make_module(objects, MODULE_AT, "rootkit");
	check(objects, "module rootkit is not in the list of modules");
}

/* What leads to itself and does not begin as a module does. */
static void other_objects_are_no_modules(void **state)
{
	struct objects *objects = *state;
	uint64_t at = MODULE_AT;

	set_field(objects, LINUX_MODULE_SELF, 0, false);
	make_module(objects, at, "no text: \x01");
	check(objects, NULL);
	make_module(objects, at, "text");
	put(objects, MODULES_GPA + at, 4);
	check(objects, NULL);
	put(objects, MODULES_GPA + at, 0);
	put(objects, MODULES_GPA + at + SELF_AT, 0);
	check(objects, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(module_is_found_by_its_pointer, setup, teardown),
		cmocka_unit_test_setup_teardown(module_is_found_without_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(other_objects_are_no_modules, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
