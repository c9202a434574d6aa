/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_TABLE_H
#define CLIENTS_COMMON_TABLE_H

/*
 * Tables for people, on standard output: columns as wide as what is in them, headings above the
 * first row. What a cell says may come from somebody who was refused: nothing that a terminal would
 * obey gets there.
 *
 * Rows that were printed cannot be moved: of a table that goes on (`audit ls` of a long log, a
 * watch) each table_print() prints the rows since the one before, and columns only grow; `width` is
 * what such a table begins with.
 */

#include <stdbool.h>
#include <stddef.h>

#define TABLE_COLUMNS_MAX 16u

struct table_column {
	const char *heading;
	int width; /* characters, at least; 0: as wide as what is in it */
	bool right;
};

enum table_colour { TABLE_PLAIN, TABLE_GOOD, TABLE_ODD };

struct table_cell {
	char *text;
	enum table_colour colour;
};

struct table {
	const struct table_column *columns; /* borrowed */
	size_t ncolumns;
	int widths[TABLE_COLUMNS_MAX];
	struct table_cell *cells; /* row by row, not printed yet */
	size_t count, room;
	bool headed, colours; /* on a terminal */
	bool failed;          /* out of memory */
};

void table_init(struct table *table, const struct table_column *columns, size_t ncolumns);
void table_deinit(struct table *table);

/* The next cell of the row; one that is empty shows as "-", in the last column as nothing. */
__attribute__((format(printf, 2, 3))) void table_add(struct table *table, const char *format, ...);
/* Of the cell that was added last; on terminals only. */
void table_colour(struct table *table, enum table_colour colour);

/* Headings, if they have not been yet, and the rows that were added since: whole ones. 0 or
 * VMSIG_ERR_NO_MEMORY, then nothing was printed. */
__attribute__((warn_unused_result)) int table_print(struct table *table);

#endif
