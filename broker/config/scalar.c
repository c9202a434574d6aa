/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/scalar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define NAME_MAX_BYTES 63u

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{"", 1},
	{"KiB", 1ull << 10},
	{"MiB", 1ull << 20},
	{"GiB", 1ull << 30},
	{"TiB", 1ull << 40},
	{NULL, 0},
};

static const struct unit milli_units[] = {
	{"ms", 1},
	{"s", 1000},
	{"min", 60ull * 1000},
	{"h", 3600ull * 1000},
	{NULL, 0},
};

static const struct unit nano_units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000ull * 1000},
	{"s", 1000ull * 1000 * 1000},
	{"min", 60ull * 1000 * 1000 * 1000},
	{"h", 3600ull * 1000 * 1000 * 1000},
	{NULL, 0},
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct notation {
	const struct unit *units;
	int base; /* of strtoull(3); 0 takes 0x too */
	const char *example;
} notations[] = {
	[DECODE_UINT32] = {no_units, 0, "100"},
	[DECODE_UINT64] = {no_units, 0, "0x2a000000"},
	[DECODE_SIZE] = {size_units, 0, "512MiB"},
	[DECODE_MILLIS] = {milli_units, 10, "500ms, 2s or 5min"},
	[DECODE_NANOS] = {nano_units, 10, "500ms, 2s or 5min"},
	[DECODE_MODE] = {no_units, 8, "0660"},
};

static int parse_bool(const char *text, uint64_t *ret_value)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0)
		*ret_value = 1;
	else if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0)
		*ret_value = 0;
	else
		return VMSIG_ERR_BAD_REQUEST;
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int scalar_parse(
	enum decode_type type, const char *text, uint64_t *ret_value, const char **ret_example)
{
	const struct notation *notation = &notations[type];
	unsigned long long number;
	char *end;

	if (type == DECODE_BOOL) {
		*ret_example = "true or false";
		return parse_bool(text, ret_value);
	}
	*ret_example = notation->example;
	/* strtoull(3) would take a sign and leading spaces, and 010 for 8. */
	if (!is_digit(text[0]) || (!notation->base && text[0] == '0' && is_digit(text[1])))
		return VMSIG_ERR_BAD_REQUEST;
	errno = 0;
	number = strtoull(text, &end, notation->base);
	if (errno || end == text)
		return VMSIG_ERR_BAD_REQUEST;
	for (const struct unit *unit = notation->units; unit->name; unit++) {
		if (strcmp(unit->name, end) != 0)
			continue;
		if (number > UINT64_MAX / unit->factor)
			return VMSIG_ERR_BAD_REQUEST;
		*ret_value = number * unit->factor;
		return 0;
	}
	return VMSIG_ERR_BAD_REQUEST;
}

void scalar_format(enum decode_type type, uint64_t value, char *buf, size_t size)
{
	const struct unit *unit, *best;

	if (type == DECODE_BOOL) {
		snprintf(buf, size, "%s", value ? "yes" : "no");
		return;
	}
	if (type == DECODE_MODE) {
		snprintf(buf, size, "%04llo", (unsigned long long)value);
		return;
	}
	best = notations[type].units;
	for (unit = best; unit->name; unit++) {
		if (value >= unit->factor && value % unit->factor == 0)
			best = unit;
	}
	snprintf(buf, size, "%llu%s", (unsigned long long)(value / best->factor), best->name);
}

static bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
}

bool scalar_is_name(const char *text)
{
	size_t len = strlen(text);

	if (!len || len > NAME_MAX_BYTES || !is_word_char(text[0]))
		return false;
	for (size_t i = 1; i < len; i++) {
		if (!is_word_char(text[i]) && !strchr("._-", text[i]))
			return false;
	}
	return true;
}
