/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/guest/vmcoreinfo.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

enum value_type { VALUE_RELEASE, VALUE_HEX, VALUE_DECIMAL, VALUE_SIGNED, VALUE_LEVELS };

/* What is not required came later than 4.13. */
static const struct key {
	const char *name;
	enum value_type type;
	size_t offset;
	bool required;
} keys[] = {
	{"OSRELEASE", VALUE_RELEASE, offsetof(struct vmcoreinfo, release), true},
	{"SYMBOL(swapper_pg_dir)", VALUE_HEX, offsetof(struct vmcoreinfo, swapper_pg_dir), true},
	{"SYMBOL(init_uts_ns)", VALUE_HEX, offsetof(struct vmcoreinfo, init_uts_ns), true},
	{"NUMBER(phys_base)", VALUE_SIGNED, offsetof(struct vmcoreinfo, phys_base), true},
	{"OFFSET(uts_namespace.name)", VALUE_DECIMAL, offsetof(struct vmcoreinfo, uts_name), false},
	{"NUMBER(sme_mask)", VALUE_DECIMAL, offsetof(struct vmcoreinfo, sme_mask), false},
	{"NUMBER(pgtable_l5_enabled)", VALUE_LEVELS, offsetof(struct vmcoreinfo, levels), false},
	{"KERNELOFFSET", VALUE_HEX, offsetof(struct vmcoreinfo, kernel_offset), false},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))
/* struct uts_namespace began with a struct kref until 5.11, which took it out and says where the
 * name is from then on. */
#define UTS_NAME_BEFORE_5_11 4
#define NUMBER_MAX 24 /* characters of a 64-bit number in any base we read */

static int parse_release(const char *value, size_t len, char *release)
{
	if (!len || len >= VMSIG_RELEASE_MAX)
		return VMSIG_ERR_BAD_REQUEST;
	for (size_t i = 0; i < len; i++) {
		if (!isgraph((unsigned char)value[i]))
			return VMSIG_ERR_BAD_REQUEST;
	}
	memcpy(release, value, len);
	release[len] = '\0';
	return 0;
}

/* Only digits, with a sign where the kernel prints one: strtoull() alone takes "-1" and "+1",
 * spaces and "0x". */
static bool is_number(enum value_type type, const char *value, size_t len)
{
	size_t sign = type == VALUE_SIGNED && len && value[0] == '-';

	if (len <= sign || len > NUMBER_MAX)
		return false;
	for (size_t i = sign; i < len; i++) {
		unsigned char c = (unsigned char)value[i];

		if (!(type == VALUE_HEX ? isxdigit(c) : isdigit(c)))
			return false;
	}
	return true;
}

static int parse_value(const struct key *key, const char *value, size_t len, void *field)
{
	char number[NUMBER_MAX + 1];

	if (key->type == VALUE_RELEASE)
		return parse_release(value, len, field);
	if (!is_number(key->type, value, len))
		return VMSIG_ERR_BAD_REQUEST;
	memcpy(number, value, len);
	number[len] = '\0';
	errno = 0;
	if (key->type == VALUE_SIGNED)
		*(int64_t *)field = strtoll(number, NULL, 10);
	else if (key->type == VALUE_LEVELS)
		*(unsigned *)field = strtoull(number, NULL, 10) ? 5 : 4;
	else
		*(uint64_t *)field = strtoull(number, NULL, key->type == VALUE_HEX ? 16 : 10);
	return errno ? VMSIG_ERR_BAD_REQUEST : 0;
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

/* The whole lines in front of the first byte that is no text. A text that fills its page has
 * no NUL, and its last line may be cut: a number in it would be read wrong. */
static size_t text_len(const char *text, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\n')
			len = i + 1;
		else if (!isprint((unsigned char)text[i]))
			break;
	}
	return len;
}

/* A kernel that panics and has a crash kernel appends CRASHTIME (crash_save_vmcoreinfo() of
 * kernel/kexec_core.c). What comes before is what it was. */
static size_t len_before_crash(const char *text, size_t len)
{
	static const char key[] = "CRASHTIME=";
	size_t start = len ? len - 1 : 0, digits;

	while (start && text[start - 1] != '\n')
		start--;
	digits = start + sizeof(key) - 1;
	if (digits + 1 >= len || memcmp(text + start, key, sizeof(key) - 1) != 0)
		return len;
	return is_number(VALUE_DECIMAL, text + digits, len - 1 - digits) ? start : len;
}

int vmcoreinfo_parse(const char *text, size_t size, struct vmcoreinfo *ret_info)
{
	struct vmcoreinfo info = {.uts_name = UTS_NAME_BEFORE_5_11,
		.len = text_len(text, size < VMCOREINFO_MAX ? size : VMCOREINFO_MAX)};
	uint32_t seen = 0;
	size_t at = 0;

	info.len = len_before_crash(text, info.len);
	if (info.len < 10 || memcmp(text, "OSRELEASE=", 10) != 0)
		return VMSIG_ERR_BAD_REQUEST;
	while (at < info.len) {
		const char *newline = memchr(text + at, '\n', info.len - at);
		size_t len = (size_t)(newline - text) - at;
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
