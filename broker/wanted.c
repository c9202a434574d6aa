/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/wanted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An entry that could not be added has hh.tbl == NULL; the default would exit. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct wanted_one {
	struct config *config; /* of it alone; a reference */
	UT_hash_handle hh;
};

static struct wanted_one *one_of(struct wanted_one *table, const char *name)
{
	struct wanted_one *one = NULL;

	HASH_FIND(hh, table, name, strlen(name), one);
	return one;
}

static const char *name_of(const struct wanted_one *one)
{
	return one->config->endpoints->name;
}

static int put(struct wanted_one **table, struct config *config)
{
	struct wanted_one *one = calloc(1, sizeof(*one));

	if (!one)
		return -ENOMEM;
	one->config = config;
	HASH_ADD_KEYPTR(hh, *table, name_of(one), strlen(name_of(one)), one);
	if (!one->hh.tbl) {
		free(one);
		return -ENOMEM;
	}
	config_ref(config);
	return 0;
}

static void drop(struct wanted_one **table, struct wanted_one *one)
{
	HASH_DEL(*table, one);
	config_unref(one->config);
	free(one);
}

static void drop_all(struct wanted_one **table)
{
	struct wanted_one *one, *next;

	HASH_ITER (hh, *table, one, next)
		drop(table, one);
}

void wanted_configure(struct wanted *wanted, struct config *config)
{
	struct wanted_one *one, *next;

	wanted->config = config;
	HASH_ITER (hh, wanted->added, one, next) {
		if (config_endpoint_find(config, name_of(one)))
			drop(&wanted->added, one);
	}
}

void wanted_deinit(struct wanted *wanted)
{
	drop_all(&wanted->added);
	drop_all(&wanted->found);
}

const struct config_endpoint *wanted_find(
	const struct wanted *wanted, const char *name, struct config **ret_origin)
{
	const struct config_endpoint *named = config_endpoint_find(wanted->config, name);
	const struct wanted_one *one = named ? NULL : one_of(wanted->added, name);

	if (!named && !one)
		one = one_of(wanted->found, name);
	*ret_origin = one ? one->config : wanted->config;
	return one ? one->config->endpoints : named;
}

int wanted_add(struct wanted *wanted, struct config *config)
{
	return put(&wanted->added, config);
}

bool wanted_is_added(const struct wanted *wanted, const char *name)
{
	return one_of(wanted->added, name) != NULL;
}

const char *wanted_origin(const struct wanted *wanted, const char *name)
{
	static const char *const ways[] = {
		[CONFIG_ADAPTER_QEMU] = "qmp",
		[CONFIG_ADAPTER_PROVIDER] = "provider",
		[CONFIG_ADAPTER_LIBVIRT] = "libvirt",
	};
	const struct wanted_one *found;

	if (config_endpoint_find(wanted->config, name))
		return "config";
	if (wanted_is_added(wanted, name))
		return "added";
	found = one_of(wanted->found, name);
	return found ? ways[found->config->endpoints->adapter] : NULL;
}

void wanted_drop(struct wanted *wanted, const char *name)
{
	struct wanted_one *one = one_of(wanted->added, name);

	if (one)
		drop(&wanted->added, one);
}

int wanted_discover(struct wanted *wanted, struct config *config)
{
	return put(&wanted->found, config);
}

bool wanted_lose(struct wanted *wanted, const struct config *config)
{
	struct wanted_one *one = one_of(wanted->found, config->endpoints->name);

	if (!one || one->config != config)
		return false;
	drop(&wanted->found, one);
	return true;
}
