/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/mtree.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmsig/vmsig_error.h"

#define HEX_DIGITS 16 /* TARGET_FMT_plx */
#define LINE_LOGGED 80

struct text {
	const char *at;
	const char *end;
};

static bool text_starts(const struct text *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return (size_t)(text->end - text->at) >= n && memcmp(text->at, prefix, n) == 0;
}

static bool text_skip(struct text *text, const char *prefix)
{
	if (!text_starts(text, prefix))
		return false;
	text->at += strlen(prefix);
	return true;
}

static bool text_drop_end(struct text *text, const char *suffix)
{
	size_t n = strlen(suffix);

	if ((size_t)(text->end - text->at) < n || memcmp(text->end - n, suffix, n) != 0)
		return false;
	text->end -= n;
	return true;
}

static bool text_line(struct text *text, struct text *ret_line)
{
	const char *newline;

	if (text->at == text->end)
		return false;
	newline = memchr(text->at, '\n', (size_t)(text->end - text->at));
	*ret_line = (struct text){text->at, newline ? newline : text->end};
	text->at = newline ? newline + 1 : text->end;
	text_drop_end(ret_line, "\r");
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool text_hex(struct text *text, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (text->end - text->at < HEX_DIGITS)
		return false;
	for (int i = 0; i < HEX_DIGITS; i++) {
		int digit = hex_digit(text->at[i]);

		if (digit < 0)
			return false;
		value = value << 4 | (unsigned)digit;
	}
	text->at += HEX_DIGITS;
	*ret_value = value;
	return true;
}

static bool text_priority(struct text *text)
{
	if (!text_skip(text, " (prio "))
		return false;
	text_skip(text, "-");
	while (text->at < text->end && *text->at >= '0' && *text->at <= '9')
		text->at++;
	return text_skip(text, ", ");
}

/* "NAME @OFFSET", then the accelerator's name when it has mapped the window. */
static bool range_name(struct text text, struct mtree_range *range)
{
	size_t len;

	while (text_drop_end(&text, " KVM") || text_drop_end(&text, " "))
		;
	range->off = 0;
	if (text.end - text.at > HEX_DIGITS + 2) {
		struct text offset = {text.end - HEX_DIGITS - 2, text.end};

		if (text_skip(&offset, " @") && text_hex(&offset, &range->off))
			text.end -= HEX_DIGITS + 2;
	}
	len = (size_t)(text.end - text.at);
	if (len == 0)
		return false;
	if (len >= sizeof(range->name))
		len = sizeof(range->name) - 1;
	memcpy(range->name, text.at, len);
	range->name[len] = 0;
	return true;
}

/* START-END (prio N, TYPE): NAME @OFFSET. `ret_memory` is false for MMIO. */
static bool range_parse(struct text line, struct mtree_range *range, bool *ret_memory)
{
	uint64_t last;

	if (!text_hex(&line, &range->gpa) || !text_skip(&line, "-") || !text_hex(&line, &last) ||
		!text_priority(&line))
		return false;
	*ret_memory = text_starts(&line, "ram): ") || text_starts(&line, "rom): ");
	if (!*ret_memory)
		return true;
	if (last < range->gpa || last - range->gpa == UINT64_MAX)
		return false;
	range->len = last - range->gpa + 1;
	line.at += strlen("ram): ");
	return range_name(line, range);
}

static int range_append(struct mtree *mtree, const struct mtree_range *range)
{
	struct mtree_range *last = mtree->nranges ? &mtree->ranges[mtree->nranges - 1] : NULL;
	struct mtree_range *grown;

	if (mtree->nranges == MTREE_MAX_RANGES || range->off > UINT64_MAX - range->len)
		return VMSIG_ERR_BAD_REQUEST;
	if (last && (range->gpa < last->gpa || range->gpa - last->gpa < last->len))
		return VMSIG_ERR_BAD_REQUEST;
	if ((mtree->nranges & (mtree->nranges - 1)) == 0) {
		size_t capacity = mtree->nranges ? mtree->nranges * 2 : 1;

		grown = reallocarray(mtree->ranges, capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		mtree->ranges = grown;
	}
	mtree->ranges[mtree->nranges++] = *range;
	return 0;
}

/* Leaves in `text` what follows the heading of the wanted view. */
static bool find_view(struct text *text)
{
	struct text line;

	while (text_line(text, &line)) {
		if (text_starts(&line, " AS \"memory\","))
			return true;
	}
	return false;
}

static int view_parse(struct mtree *mtree, struct text text, struct text *ret_line)
{
	struct text line;
	int r;

	while (text_line(&text, &line) && !text_starts(&line, "FlatView #")) {
		struct mtree_range range;
		bool memory;

		*ret_line = line;
		if (!text_skip(&line, "  ") || text_starts(&line, "No rendered"))
			continue;
		if (!range_parse(line, &range, &memory))
			return VMSIG_ERR_BAD_REQUEST;
		r = memory ? range_append(mtree, &range) : 0;
		if (r)
			return r;
	}
	return 0;
}

int mtree_parse(
	struct mtree *ret_mtree, const char *text, size_t len, char *error, size_t error_size)
{
	struct mtree mtree = {0};
	struct text rest = {text, text + len};
	struct text line = {text, text};
	int r;

	if (!find_view(&rest)) {
		snprintf(error, error_size,
			"`info mtree -f` shows no flat view of the address space \"memory\"");
		return VMSIG_ERR_BAD_REQUEST;
	}
	r = view_parse(&mtree, rest, &line);
	if (r) {
		int n = line.end - line.at > LINE_LOGGED ? LINE_LOGGED : (int)(line.end - line.at);

		if (r == -ENOMEM)
			snprintf(error, error_size,
				"the broker has no memory for the guest's memory map; it is tried "
				"again");
		else
			snprintf(error, error_size,
				"`info mtree -f` has a line that makes no sense: %.*s", n, line.at);
		mtree_deinit(&mtree);
		return r;
	}
	*ret_mtree = mtree;
	return 0;
}

void mtree_deinit(struct mtree *mtree)
{
	free(mtree->ranges);
	*mtree = (struct mtree){0};
}
