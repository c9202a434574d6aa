/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_ROWS_H
#define CLIENTS_CTL_ROWS_H

/* A list of like things: to people a table with a row for each, to programs one array. */

#include "clients/ctl/ctl.h"

struct ctl_rows {
	const struct table_column *columns;
	size_t ncolumns;
	json_t *(*json)(const void *item);
	void (*add)(struct table *table, const void *item); /* the cells of its row */
};

/* EXIT_OK, or the exit code after a message. `items` are `count` of `size` bytes. */
int ctl_rows_print(const struct ctl *ctl, const struct ctl_rows *rows, const void *items,
	size_t count, size_t size);

#endif
