/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/os/windows/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "clients/os/names.h"
#include "clients/os/windows/exports.h"
#include "vmsig/vmsig_error.h"

/* Two names of one address in the order that they would have alone. */
static int by_addr(const void *a, const void *b)
{
	const vmsig_name *one = a, *two = b;

	if (one->addr != two->addr)
		return one->addr < two->addr ? -1 : 1;
	return strcmp(one->name, two->name);
}

int windows_symbols_read(struct windows_kernel *kernel)
{
	vmsig_name_list list = {0};
	bool missing;
	int r = windows_exports(kernel, &kernel->image, &list, &missing);

	/* What is offered in another's place has no address here. */
	if (list.count)
		qsort(list.names, list.count, sizeof(*list.names), by_addr);
	kernel->symbols = (struct windows_symbols){.names = list.names, .count = list.count};
	return r;
}

void windows_symbols_deinit(struct windows_symbols *symbols)
{
	vmsig_name_list list = {.names = symbols->names, .count = symbols->count};

	names_clear(&list);
	free(symbols->names);
	*symbols = (struct windows_symbols){0};
}

bool windows_symbols_find(
	const struct windows_symbols *symbols, const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < symbols->count; i++) {
		if (symbols->names[i].addr && strcmp(symbols->names[i].name, name) == 0) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

bool windows_symbols_before(const struct windows_symbols *symbols, uint64_t addr, size_t *ret_index)
{
	size_t low = 0, high = symbols->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->names[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || !symbols->names[low - 1].addr)
		return false;
	*ret_index = low - 1;
	return true;
}

uint64_t windows_symbols_addr(const struct windows_symbols *symbols, const char *name)
{
	size_t index;

	return windows_symbols_find(symbols, name, &index) ? symbols->names[index].addr : 0;
}
