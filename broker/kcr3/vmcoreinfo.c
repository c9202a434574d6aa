/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/kcr3/vmcoreinfo.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

enum value_type { VALUE_RELEASE, VALUE_HEX, VALUE_DECIMAL, VALUE_SIGNED, VALUE_FLAG };

static const struct key {
	const char *name;
	enum value_type type;
	size_t offset;
	bool required;
} keys[] = {
	{"OSRELEASE", VALUE_RELEASE, offsetof(struct vmcoreinfo, release), true},
	{"SYMBOL(swapper_pg_dir)", VALUE_HEX, offsetof(struct vmcoreinfo, swapper_pg_dir), true},
	{"SYMBOL(init_uts_ns)", VALUE_HEX, offsetof(struct vmcoreinfo, init_uts_ns), true},
	{"OFFSET(uts_namespace.name)", VALUE_DECIMAL, offsetof(struct vmcoreinfo, uts_name), true},
	{"NUMBER(phys_base)", VALUE_SIGNED, offsetof(struct vmcoreinfo, phys_base), true},
	{"NUMBER(sme_mask)", VALUE_DECIMAL, offsetof(struct vmcoreinfo, sme_mask), false},
	{"NUMBER(pgtable_l5_enabled)", VALUE_FLAG, offsetof(struct vmcoreinfo, five_levels), false},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))
#define NUMBER_MAX 24 /* characters of a 64-bit number in any base we read */

static int parse_release(const char *value, size_t len, char *release)
{
	if (!len || len >= KCR3_RELEASE_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < len; i++) {
		if (!isgraph((unsigned char)value[i]))
			return VMSIG_ERR_BAD_REQUEST;
	}
	memcpy(release, value, len);
	release[len] = '\0';
	return 0;
}

static int parse_value(const struct key *key, const char *value, size_t len, void *field)
{
	char number[NUMBER_MAX + 1], *end;

	if (key->type == VALUE_RELEASE)
		return parse_release(value, len, field);
	if (!len || len > NUMBER_MAX || isspace((unsigned char)value[0]))
		return VMSIG_ERR_BAD_REQUEST;
	memcpy(number, value, len);
	number[len] = '\0';
	errno = 0;
	if (key->type == VALUE_SIGNED)
		*(int64_t *)field = strtoll(number, &end, 10);
	else if (key->type == VALUE_FLAG)
		*(bool *)field = strtoull(number, &end, 10) != 0;
	else
		*(uint64_t *)field = strtoull(number, &end, key->type == VALUE_HEX ? 16 : 10);
	return errno || *end ? VMSIG_ERR_BAD_REQUEST : 0;
}

static const struct key *key_find(const char *name, size_t len)
{
	for (size_t i = 0; i < KEYS; i++) {
		if (strlen(keys[i].name) == len && memcmp(keys[i].name, name, len) == 0)
			return &keys[i];
	}
	return NULL;
}

static int parse_line(const char *line, size_t len, struct vmcoreinfo *info, uint32_t *seen)
{
	const char *equals = memchr(line, '=', len);
	const struct key *key = equals ? key_find(line, (size_t)(equals - line)) : NULL;
	uint32_t bit;

	if (!key)
		return 0;
	bit = 1u << (key - keys);
	if (*seen & bit)
		return VMSIG_ERR_BAD_REQUEST;
	*seen |= bit;
	return parse_value(
		key, equals + 1, len - (size_t)(equals + 1 - line), (char *)info + key->offset);
}

static bool has_required(uint32_t seen)
{
	for (size_t i = 0; i < KEYS; i++) {
		if (keys[i].required && !(seen & 1u << i))
			return false;
	}
	return true;
}

int vmcoreinfo_parse(const char *text, size_t size, struct vmcoreinfo *ret_info)
{
	struct vmcoreinfo info = {
		.len = strnlen(text, size < VMCOREINFO_MAX ? size : VMCOREINFO_MAX)};
	uint32_t seen = 0;
	size_t at = 0;

	if (info.len < 10 || memcmp(text, "OSRELEASE=", 10) != 0)
		return VMSIG_ERR_BAD_REQUEST;
	while (at < info.len) {
		const char *newline = memchr(text + at, '\n', info.len - at);
		size_t len = newline ? (size_t)(newline - text) - at : info.len - at;
		int r = parse_line(text + at, len, &info, &seen);

		if (r)
			return r;
		at += len + 1;
	}
	if (!has_required(seen))
		return VMSIG_ERR_BAD_REQUEST;
	*ret_info = info;
	return 0;
}
