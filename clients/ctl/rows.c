/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/rows.h"

int ctl_rows_print(const struct ctl *ctl, const struct ctl_rows *rows, const void *items,
	size_t count, size_t size)
{
	json_t *array = ctl->json ? json_array() : NULL;
	struct table table;
	int code;

	table_init(&table, rows->columns, rows->ncolumns);
	for (size_t i = 0; i < count; i++) {
		const void *item = (const char *)items + i * size;

		if (ctl->json)
			json_array_append_new(array, rows->json(item));
		else
			rows->add(&table, item);
	}
	code = ctl->json ? ctl_print_json(array) : ctl_print_table(&table);
	table_deinit(&table);
	return code;
}
