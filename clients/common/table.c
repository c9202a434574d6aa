/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/common/text.h"
#include "vmsig/vmsig_error.h"

#define ROOM_FIRST 64u

void table_init(struct table *table, const struct table_column *columns, size_t ncolumns)
{
	assert(ncolumns > 0 && ncolumns <= TABLE_COLUMNS_MAX);
	*table = (struct table){
		.columns = columns, .ncolumns = ncolumns, .colours = isatty(STDOUT_FILENO) == 1};
	for (size_t i = 0; i < ncolumns; i++)
		table->widths[i] = columns[i].width;
}

static void cells_clear(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i].text);
	table->count = 0;
}

void table_deinit(struct table *table)
{
	cells_clear(table);
	free(table->cells);
	table->cells = NULL;
	table->room = 0;
}

static bool reserve(struct table *table)
{
	size_t room = table->room ? 2 * table->room : ROOM_FIRST;
	struct table_cell *cells;

	if (table->count < table->room)
		return true;
	cells = reallocarray(table->cells, room, sizeof(*cells));
	if (!cells)
		return false;
	table->cells = cells;
	table->room = room;
	return true;
}

void table_add(struct table *table, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int len = -1;

	va_start(args, format);
	if (!table->failed && reserve(table))
		len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		table->failed = true;
		return;
	}
	text_clean(text);
	table->cells[table->count++] = (struct table_cell){.text = text};
}

void table_colour(struct table *table, enum table_colour colour)
{
	if (table->count)
		table->cells[table->count - 1].colour = colour;
}

static void fit(struct table *table, size_t column, const char *text)
{
	int width = (int)strlen(text);

	if (width > table->widths[column])
		table->widths[column] = width;
}

static void print_cell(const struct table *table, size_t column, const struct table_cell *cell)
{
	static const char *const begins[] = {"", "\033[32m", "\033[33m"};
	bool last = column + 1 == table->ncolumns, coloured = table->colours && cell->colour;
	const char *text = cell->text[0] || last ? cell->text : "-";
	int pad = last && !table->columns[column].right ? 0
							: table->widths[column] - (int)strlen(text);

	if (column && (!last || text[0]))
		fputs("  ", stdout);
	if (table->columns[column].right)
		printf("%*s", pad, "");
	printf("%s%s%s", coloured ? begins[cell->colour] : "", text, coloured ? "\033[0m" : "");
	if (!table->columns[column].right)
		printf("%*s", pad, "");
	if (last)
		putchar('\n');
}

static void print_headings(struct table *table)
{
	for (size_t i = 0; i < table->ncolumns; i++) {
		char heading[64];
		const struct table_cell cell = {.text = heading};

		snprintf(heading, sizeof(heading), "%s", table->columns[i].heading);
		print_cell(table, i, &cell);
	}
	table->headed = true;
}

int table_print(struct table *table)
{
	if (table->failed)
		return VMSIG_ERR_NO_MEMORY;
	assert(table->count % table->ncolumns == 0);
	for (size_t i = 0; !table->headed && i < table->ncolumns; i++)
		fit(table, i, table->columns[i].heading);
	for (size_t i = 0; i < table->count; i++)
		fit(table, i % table->ncolumns, table->cells[i].text);
	if (!table->headed)
		print_headings(table);
	for (size_t i = 0; i < table->count; i++)
		print_cell(table, i % table->ncolumns, &table->cells[i]);
	cells_clear(table);
	return 0;
}
