/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/additions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

static const char *name_of(const struct addition *addition)
{
	return addition->config->endpoints[0].name;
}

struct addition *additions_find(const struct additions *additions, const char *name)
{
	struct addition *addition;

	DL_FOREACH (additions->list, addition) {
		if (strcmp(name_of(addition), name) == 0)
			return addition;
	}
	return NULL;
}

int additions_take(
	struct additions *additions, struct config *config, struct addition **ret_addition)
{
	struct addition *addition = calloc(1, sizeof(*addition));

	if (!addition) {
		config_unref(config);
		return -ENOMEM;
	}
	addition->config = config;
	DL_APPEND(additions->list, addition);
	*ret_addition = addition;
	return 0;
}

void additions_drop(struct additions *additions, struct addition *addition)
{
	DL_DELETE(additions->list, addition);
	config_unref(addition->config);
	free(addition);
}

void additions_sift(struct additions *additions, const struct config *config)
{
	struct addition *addition, *next;

	DL_FOREACH_SAFE (additions->list, addition, next) {
		if (config_endpoint_find(config, name_of(addition)))
			additions_drop(additions, addition);
	}
}

void additions_deinit(struct additions *additions)
{
	struct addition *addition, *next;

	DL_FOREACH_SAFE (additions->list, addition, next)
		additions_drop(additions, addition);
}
