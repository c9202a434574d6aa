/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/linux/field.h"

#include <stddef.h>

static const struct {
	const char *path, *other;
	bool optional;
} fields[LINUX_FIELDS] = {
#define LINUX_FIELD_ENTRY(field, path, other, optional) {path, other, optional},
	LINUX_FIELD_LIST(LINUX_FIELD_ENTRY)
#undef LINUX_FIELD_ENTRY
};

const char *linux_field_path(enum linux_field field)
{
	return fields[field].path;
}

const char *linux_field_other(enum linux_field field)
{
	return fields[field].other;
}

bool linux_field_is_optional(enum linux_field field)
{
	return fields[field].optional;
}

size_t linux_field_count(const struct linux_fields *known)
{
	size_t n = 0;

	for (enum linux_field field = 0; field < LINUX_FIELDS; field++)
		n += known->field[field].known;
	return n;
}

static const char *const structs[LINUX_STRUCTS] = {
#define LINUX_STRUCT_ENTRY(id, name) #name,
	LINUX_STRUCT_LIST(LINUX_STRUCT_ENTRY)
#undef LINUX_STRUCT_ENTRY
};

const char *linux_struct_name(enum linux_struct which)
{
	return structs[which];
}
