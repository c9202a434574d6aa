/* SPDX-License-Identifier: Apache-2.0 */
/* Types as debuggers take them, read by the rules of DWARF: entries are whole, lead to one another,
 * and end where they say, whatever a guest says of its types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <bpf/btf.h>
#include <string.h>

#include "clients/common/dwarf.h"

#define UNIT_HEADER 11u
#define ENTRIES_MAX 64u
#define ABBREVIATIONS_MAX 64u

/* Attributes and forms by their numbers in DWARF 4. */
enum { AT_NAME = 3, AT_BYTE_SIZE = 0x0b, AT_MEMBER_LOCATION = 0x38, AT_TYPE = 0x49 };

struct entry {
	size_t at;
	unsigned tag, depth;
	uint64_t name, size, location, type;
};

struct unit {
	const struct dwarf *dwarf;
	size_t abbreviations[ABBREVIATIONS_MAX]; /* where each begins, behind its number */
	struct entry entries[ENTRIES_MAX];
	size_t count;
};

static uint64_t load(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, bytes, size);
	return value;
}

static void read_abbreviations(struct unit *unit)
{
	const uint8_t *bytes = unit->dwarf->abbrev;
	size_t at = 0;

	while (bytes[at]) {
		assert_true(bytes[at] < ABBREVIATIONS_MAX);
		unit->abbreviations[bytes[at]] = at + 1;
		for (at += 3; bytes[at] || bytes[at + 1]; at += 2)
			assert_true(at + 2 < unit->dwarf->abbrev_len);
		at += 2;
	}
	assert_int_equal(at + 1, unit->dwarf->abbrev_len);
}

static size_t size_of_form(uint8_t form)
{
	static const struct {
		uint8_t form;
		size_t size;
	} sizes[] = {{0x06, 4}, {0x07, 8}, {0x0b, 1}, {0x0e, 4}, {0x13, 4}, {0x19, 0}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sizes[i].form == form)
			return sizes[i].size;
	}
	fail_msg("form %#x", form);
	return 0;
}

static size_t read_attribute(
	const struct unit *unit, size_t at, uint8_t attribute, uint8_t form, struct entry *entry)
{
	const uint8_t *bytes = unit->dwarf->info;
	uint64_t value;

	if (form == 0x08)
		return at + strlen((const char *)bytes + at) + 1;
	value = load(bytes + at, size_of_form(form));
	if (attribute == AT_NAME)
		entry->name = value;
	else if (attribute == AT_BYTE_SIZE)
		entry->size = value;
	else if (attribute == AT_MEMBER_LOCATION)
		entry->location = value;
	else if (attribute == AT_TYPE)
		entry->type = value;
	return at + size_of_form(form);
}

static void read_entries(struct unit *unit)
{
	const uint8_t *bytes = unit->dwarf->info;
	size_t at = UNIT_HEADER;
	unsigned depth = 0;

	assert_int_equal(load(bytes, 4) + 4, unit->dwarf->info_len);
	while (at < unit->dwarf->info_len) {
		const uint8_t *abbreviation = unit->dwarf->abbrev + unit->abbreviations[bytes[at]];
		struct entry *entry = &unit->entries[unit->count];

		if (!bytes[at++]) {
			depth--;
			continue;
		}
		assert_true(unit->count++ < ENTRIES_MAX);
		*entry = (struct entry){.at = at - 1, .tag = abbreviation[0], .depth = depth};
		for (size_t i = 2; abbreviation[i]; i += 2)
			at = read_attribute(unit, at, abbreviation[i], abbreviation[i + 1], entry);
		depth += abbreviation[1];
	}
	assert_int_equal(at, unit->dwarf->info_len);
	assert_int_equal(depth, 0);
}

static const struct entry *entry_at(const struct unit *unit, uint64_t at)
{
	for (size_t i = 0; i < unit->count; i++) {
		if (unit->entries[i].at == at)
			return &unit->entries[i];
	}
	fail_msg("no entry begins at %#llx", (unsigned long long)at);
	return NULL;
}

static void read_unit(struct unit *unit, struct dwarf *dwarf, const struct btf *btf)
{
	assert_int_equal(dwarf_init(dwarf, btf, NULL), 0); /* no symbol is asked for */
	*unit = (struct unit){.dwarf = dwarf};
	read_abbreviations(unit);
	read_entries(unit);
	for (size_t i = 0; i < unit->count; i++) {
		if (unit->entries[i].type)
			assert_int_equal(entry_at(unit, unit->entries[i].type)->depth, 1);
	}
}

static const struct entry *entry_named(
	const struct unit *unit, const struct btf *btf, const char *name)
{
	for (size_t i = 1; i < unit->count; i++) {
		if (strcmp(btf__name_by_offset(btf, (uint32_t)unit->entries[i].name), name) == 0)
			return &unit->entries[i];
	}
	fail_msg("no entry is %s", name);
	return NULL;
}

/* struct node { int value; struct node *next; unsigned low : 3; char name[16]; } */
static void members_are_where_they_are(void **state)
{
	struct btf *btf = btf__new_empty();
	int number = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	int letter = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
	int name = btf__add_array(btf, number, letter, 16);
	int pointer = btf__add_ptr(btf, number + 4);
	int node = btf__add_struct(btf, "node", 40);
	const struct entry *entry;
	struct dwarf dwarf;
	struct unit unit;

	(void)state;
	assert_int_equal(btf__add_field(btf, "value", number, 0, 0), 0);
	assert_int_equal(btf__add_field(btf, "next", pointer, 64, 0), 0);
	assert_int_equal(btf__add_field(btf, "low", number, 128, 3), 0);
	assert_int_equal(btf__add_field(btf, "name", name, 160, 0), 0);
	assert_int_equal(node, number + 4);
	read_unit(&unit, &dwarf, btf);
	entry = entry_named(&unit, btf, "node");
	assert_int_equal(entry->size, 40);
	assert_ptr_equal(
		entry_at(&unit, entry_at(&unit, entry_named(&unit, btf, "next")->type)->type),
		entry);
	assert_int_equal(entry_named(&unit, btf, "next")->location, 8);
	assert_int_equal(entry_named(&unit, btf, "name")->location, 20);
	entry = entry_at(&unit, entry_named(&unit, btf, "name")->type);
	assert_string_equal(
		btf__name_by_offset(btf, (uint32_t)entry_at(&unit, entry->type)->name), "char");
	dwarf_deinit(&dwarf);
	btf__free(btf);
}

/* Chains that lead into themselves are void, and so is what is no type. */
static void chains_without_end_are_void(void **state)
{
	struct btf *btf = btf__new_empty();
	int self = btf__add_typedef(btf, "self", 1), one = btf__add_ptr(btf, 3);
	int other = btf__add_const(btf, one);
	int away = btf__add_volatile(btf, 0x7fffffff);
	int function = btf__add_func(btf, "function", BTF_FUNC_GLOBAL, 5);
	struct dwarf dwarf;
	struct unit unit;

	(void)state;
	assert_int_equal(self, 1);
	assert_int_equal(one, 2);
	assert_int_equal(other, 3);
	assert_true(away > 0 && function > 0);
	assert_true(btf__add_ptr(btf, function) > 0);
	read_unit(&unit, &dwarf, btf);
	for (size_t i = 1; i < unit.count; i++)
		assert_int_equal(unit.entries[i].type, 0);
	assert_int_equal(unit.count, 6);
	dwarf_deinit(&dwarf);
	btf__free(btf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_where_they_are),
		cmocka_unit_test(chains_without_end_are_void),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
