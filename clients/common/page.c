/* SPDX-License-Identifier: Apache-2.0 */
/* vasprintf(3). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clients/common/page.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define USAGE "usage: "
#define COLUMN_MIN 8 /* what begins from here on is in a list's second column */

struct page_line {
	const char *text;
	size_t len;
	size_t start;  /* where its first word begins */
	size_t indent; /* where its text begins: below that it goes on */
};

static size_t spaces(const char *text, size_t len, size_t from)
{
	while (from < len && text[from] == ' ')
		from++;
	return from;
}

static size_t indent_of(const struct page_line *line)
{
	if (line->len > strlen(USAGE) && strncmp(line->text, USAGE, strlen(USAGE)) == 0)
		return strlen(USAGE);
	for (size_t at = line->start; line->start && at + 2 < line->len; at++) {
		if (line->text[at] == ' ' && line->text[at + 1] == ' ')
			return spaces(line->text, line->len, at);
	}
	return line->start;
}

static struct page_line line_at(const char *text)
{
	struct page_line line = {.text = text, .len = strcspn(text, "\n")};

	line.start = spaces(text, line.len, 0);
	line.indent = indent_of(&line);
	return line;
}

static const char *line_behind(const struct page_line *line)
{
	return line->text + line->len + (line->text[line->len] == '\n');
}

static bool is_command(const struct page_line *line)
{
	return line->start && line->start < COLUMN_MIN && line->indent == line->start;
}

/* The end of the paragraph that begins with the line; `ret_wide`: one of its lines is too long. */
static const char *paragraph_end(const struct page_line *first, bool *ret_wide)
{
	struct page_line line = *first;

	*ret_wide = false;
	do {
		*ret_wide = *ret_wide || line.len > PAGE_WIDTH;
		line = line_at(line_behind(&line));
	} while (first->len && line.len && !is_command(first) && line.start == first->indent &&
		 line.indent == line.start);
	return line.text;
}

/* Up to where a line may be broken: not within [...]. */
static size_t word_len(const char *text, const char *end)
{
	size_t len = 0, depth = 0;

	for (; text + len < end && text[len] != '\n' && (depth || text[len] != ' '); len++)
		depth = text[len] == '[' ? depth + 1 : depth - (depth && text[len] == ']');
	return len;
}

static void fill(FILE *to, const struct page_line *first, const char *end)
{
	const char *at = first->text + first->indent;
	size_t column = first->indent;

	fprintf(to, "%.*s", (int)first->indent, first->text);
	while (at < end) {
		size_t len = word_len(at, end);

		if (column > first->indent && column + 1 + len > PAGE_WIDTH) {
			fprintf(to, "\n%*s", (int)first->indent, "");
			column = first->indent;
		}
		fprintf(to, "%s%.*s", column > first->indent ? " " : "", (int)len, at);
		column += len + (column > first->indent);
		at += len;
		at += strspn(at, " \n") < (size_t)(end - at) ? strspn(at, " \n")
							     : (size_t)(end - at);
	}
	fputc('\n', to);
}

static void text_print(FILE *to, const char *text)
{
	while (*text) {
		const struct page_line line = line_at(text);
		bool wide;
		const char *end = paragraph_end(&line, &wide);

		if (wide && !is_command(&line))
			fill(to, &line, end);
		else
			fprintf(to, "%.*s", (int)(end - text), text);
		text = end;
	}
}

void page_print(FILE *to, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int r;

	va_start(args, format);
	r = vasprintf(&text, format, args);
	va_end(args);
	if (r < 0) {
		va_start(args, format);
		vfprintf(to, format, args);
		va_end(args);
		return;
	}
	text_print(to, text);
	free(text);
}
