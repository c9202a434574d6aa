/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/equal.h"

#include <string.h>
#include <sys/types.h>

static const void *at(const void *object, size_t offset)
{
	return (const char *)object + offset;
}

const char *equal_text(const void *object, size_t offset)
{
	return *(char *const *)at(object, offset);
}

size_t equal_count(const void *object, const struct decode_field *field)
{
	return *(const size_t *)at(object, field->count_offset);
}

const char *equal_text_of(const void *object, const struct decode_field *field, size_t index)
{
	return (*(char *const *const *)at(object, field->offset))[index];
}

bool equal_is_text(enum decode_type type)
{
	return type <= DECODE_NAME;
}

bool equal_is_text_list(enum decode_type type)
{
	return type == DECODE_STRING_LIST || type == DECODE_PATH_LIST || type == DECODE_LABELS;
}

uint64_t equal_number(const void *object, const struct decode_field *field)
{
	const void *value = at(object, field->offset);

	switch (field->type) {
	case DECODE_UINT32:
		return *(const uint32_t *)value;
	case DECODE_MODE:
		return *(const mode_t *)value;
	case DECODE_BOOL:
		return *(const bool *)value;
	case DECODE_ENUM:
		return (uint64_t) * (const int *)value;
	default:
		return *(const uint64_t *)value;
	}
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool element_equal(
	const struct decode_field *field, const char *a, const char *b, size_t index)
{
	if (field->type == DECODE_LIST)
		return equal_structs(
			field->fields, a + index * field->size, b + index * field->size);
	if (field->type == DECODE_UINT32_LIST)
		return ((const uint32_t *)(const void *)a)[index] ==
		       ((const uint32_t *)(const void *)b)[index];
	return same_text(
		((char *const *)(const void *)a)[index], ((char *const *)(const void *)b)[index]);
}

static bool list_equal(const struct decode_field *field, const void *a, const void *b)
{
	const char *x = equal_text(a, field->offset), *y = equal_text(b, field->offset);
	size_t n = equal_count(a, field);

	if (n != equal_count(b, field))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!element_equal(field, x, y, i))
			return false;
	}
	return true;
}

bool equal_value(const struct decode_field *field, const void *a, const void *b)
{
	if (field->given_offset && *(const bool *)at(a, field->given_offset) !=
					   *(const bool *)at(b, field->given_offset))
		return false;
	if (field->type == DECODE_MAP)
		return equal_structs(field->fields, a, b);
	if (field->type == DECODE_LIST || field->type == DECODE_UINT32_LIST ||
		equal_is_text_list(field->type))
		return list_equal(field, a, b);
	if (equal_is_text(field->type))
		return same_text(equal_text(a, field->offset), equal_text(b, field->offset));
	return equal_number(a, field) == equal_number(b, field);
}

bool equal_structs(const struct decode_field *fields, const void *a, const void *b)
{
	for (; fields->key; fields++) {
		if (!equal_value(fields, a, b))
			return false;
	}
	return true;
}
