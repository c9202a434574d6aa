/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints and tenants in the order of their names, and found by them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/config.h"

/* Of two with one name the later one is the one too many. */
static int endpoint_compare(const void *a, const void *b)
{
	const struct config_endpoint *const *x = a, *const *y = b;
	int r = strcmp((*x)->name, (*y)->name);

	return r ? r : (*x > *y) - (*x < *y);
}

static int tenant_compare(const void *a, const void *b)
{
	const struct grant_tenant *const *x = a, *const *y = b;
	int r = grant_order((*x)->role, (*x)->tenant.name, *y);

	return r ? r : (*x > *y) - (*x < *y);
}

int config_sort(struct config *config)
{
	config->by_name = calloc(config->nendpoints + 1, sizeof(*config->by_name));
	config->by_identity = calloc(config->ntenants + 1, sizeof(*config->by_identity));
	if (!config->by_name || !config->by_identity)
		return -ENOMEM;
	for (size_t i = 0; i < config->nendpoints; i++)
		config->by_name[i] = &config->endpoints[i];
	for (size_t i = 0; i < config->ntenants; i++)
		config->by_identity[i] = &config->tenants[i];
	qsort(config->by_name, config->nendpoints, sizeof(*config->by_name), endpoint_compare);
	qsort(config->by_identity, config->ntenants, sizeof(*config->by_identity), tenant_compare);
	return 0;
}

static int endpoint_search(const void *key, const void *element)
{
	const struct config_endpoint *const *endpoint = element;

	return strcmp(key, (*endpoint)->name);
}

const struct config_endpoint *config_endpoint_find(const struct config *config, const char *name)
{
	const struct config_endpoint **found = bsearch(name, config->by_name, config->nendpoints,
		sizeof(*config->by_name), endpoint_search);

	return found ? *found : NULL;
}
