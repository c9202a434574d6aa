/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/discovery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/adapters/libvirt/domains.h"
#include "broker/config/scalar.h"
#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/log.h"
#include "vmsig/vmsig_error.h"

/* An endpoint that was found. */
struct discovery_found {
	struct config *config; /* of it alone; a reference */
	bool runs;             /* else its name was taken */
	bool told;             /* that it is not served */
};

struct discovery_source {
	struct discovery *discovery;
	struct config *origin; /* what `config` is in; a reference */
	const struct config_discover *config;
	struct domains *domains;
	struct discovery_found *found; /* sorted by domain */
	size_t n;
	size_t more;
	bool mute; /* that it cannot be asked was said */
	struct discovery_source *prev, *next;
};

struct discovery {
	uv_loop_t *loop;
	struct endpoints *endpoints;
	struct discovery_source *sources;
};

/* ---- what is there ---- */

static void begin(struct discovery_source *source, struct discovery_found *found)
{
	const struct config_endpoint *endpoint = found->config->endpoints;
	int r = endpoints_discover(source->discovery->endpoints, found->config);

	found->runs = r == 0;
	if (found->told)
		return;
	found->told = r != 0;
	if (r == VMSIG_ERR_BUSY)
		log_warning("a domain is not served, because another endpoint has its name; rename "
			    "one of them, unless it is just moving here",
			LOG_STR("endpoint", endpoint->name), LOG_STR("uuid", endpoint->domain),
			LOG_STR("libvirt", endpoint->libvirt));
	else if (r)
		log_error("cannot set the endpoint up", LOG_STR("endpoint", endpoint->name),
			LOG_STR("error", error_text(r)));
}

static void lose(struct discovery_source *source, struct discovery_found *found)
{
	if (found->runs)
		endpoints_lose(source->discovery->endpoints, found->config);
	config_unref(found->config);
}

static int found_init(struct discovery_found *ret_found, const struct discovery_source *source,
	const struct domains_one *one)
{
	const char *name = scalar_is_name(one->name) ? one->name : one->uuid;

	*ret_found = (struct discovery_found){.runs = false};
	return config_discovered(
		&ret_found->config, source->config, name, one->uuid, one->labels, one->nlabels);
}

static int order(const struct discovery_found *a, const struct discovery_found *b)
{
	return strcmp(a->config->endpoints->domain, b->config->endpoints->domain);
}

/* What ended goes first, so that its name is free. Both are sorted. */
static void exchange(struct discovery_source *source, struct discovery_found *list, size_t n)
{
	size_t i = 0, j = 0;

	while (i < source->n || j < n) {
		int r = i == source->n ? 1 : j == n ? -1 : order(&source->found[i], &list[j]);

		if (r == 0 && config_endpoint_equal(source->found[i].config->endpoints,
				      list[j].config->endpoints)) {
			config_unref(list[j].config);
			list[j] = source->found[i];
		} else if (r <= 0) {
			lose(source, &source->found[i]);
		}
		i += r <= 0;
		j += r >= 0;
	}
	free(source->found);
	source->found = list;
	source->n = n;
	for (j = 0; j < n; j++) {
		if (!list[j].runs)
			begin(source, &list[j]);
	}
}

static void take(struct discovery_source *source, const struct domains_list *list)
{
	struct discovery_found *found = calloc(list->n + 1, sizeof(*found));
	size_t n = 0;

	while (found && n < list->n && found_init(&found[n], source, &list->all[n]) == 0)
		n++;
	if (n == list->n && found) {
		exchange(source, found, n);
		return;
	}
	log_error("out of memory; domains that came or went are noticed later",
		LOG_STR("libvirt", source->config->libvirt));
	while (n)
		config_unref(found[--n].config);
	free(found);
}

static void on_listed(void *arg, const struct domains_list *list, const char *why)
{
	struct discovery_source *source = arg;

	if (why[0] && !source->mute)
		log_warning("libvirt cannot be asked for its domains; those that were there are "
			    "served on, and it is tried again",
			LOG_STR("libvirt", source->config->libvirt), LOG_STR("reason", why));
	source->mute = why[0] != '\0';
	if (!list)
		return;
	if (list->more && list->more != source->more)
		log_warning("more domains than may be served; raise 'limit' or narrow 'domains'",
			LOG_STR("libvirt", source->config->libvirt), LOG_INT("more", list->more));
	source->more = list->more;
	take(source, list);
}

/* ---- sources ---- */

static void source_end(struct discovery_source *source)
{
	DL_DELETE(source->discovery->sources, source);
#ifdef VMSIG_HAVE_LIBVIRT
	domains_forget(source->domains);
#endif
	for (size_t i = 0; i < source->n; i++)
		lose(source, &source->found[i]);
	free(source->found);
	config_unref(source->origin);
	free(source);
}

static int look_out(struct discovery_source *source)
{
#ifdef VMSIG_HAVE_LIBVIRT
	const struct domains_env env = {.loop = source->discovery->loop,
		.uri = source->config->libvirt,
		.glob = source->config->domains,
		.limit = source->config->limit,
		.listed = on_listed,
		.arg = source};

	return domains_watch(&source->domains, &env);
#else
	(void)on_listed;
	return VMSIG_ERR_UNSUPPORTED;
#endif
}

static void source_begin(struct discovery *discovery, struct config *config, size_t i)
{
	struct discovery_source *source = calloc(1, sizeof(*source));
	int r = -ENOMEM;

	if (source) {
		source->discovery = discovery;
		source->origin = config_ref(config);
		source->config = &config->discover[i];
		DL_APPEND(discovery->sources, source);
		r = look_out(source);
	}
	if (!r)
		return;
	log_error("cannot look for domains", LOG_STR("libvirt", config->discover[i].libvirt),
		LOG_STR("error", error_text(r)));
	if (source)
		source_end(source);
}

static struct discovery_source *source_find(
	const struct discovery *discovery, const struct config_discover *config)
{
	struct discovery_source *source;

	DL_FOREACH (discovery->sources, source) {
		if (config_discover_equal(source->config, config))
			return source;
	}
	return NULL;
}

static bool is_wanted(const struct discovery_source *source, const struct config *config)
{
	for (size_t i = 0; i < config->ndiscover; i++) {
		if (config_discover_equal(source->config, &config->discover[i]))
			return true;
	}
	return false;
}

void discovery_adopt(struct discovery *discovery, struct config *config)
{
	struct discovery_source *source, *next;

	DL_FOREACH_SAFE (discovery->sources, source, next) {
		if (!is_wanted(source, config))
			source_end(source);
	}
	for (size_t i = 0; i < config->ndiscover; i++) {
		if (!source_find(discovery, &config->discover[i]))
			source_begin(discovery, config, i);
	}
}

int discovery_new(struct discovery **ret_discovery, uv_loop_t *loop, struct endpoints *endpoints)
{
	struct discovery *discovery = calloc(1, sizeof(*discovery));

	if (!discovery)
		return -ENOMEM;
	discovery->loop = loop;
	discovery->endpoints = endpoints;
	*ret_discovery = discovery;
	return 0;
}

void discovery_close(struct discovery *discovery)
{
	struct discovery_source *source, *next;

	if (!discovery)
		return;
	DL_FOREACH_SAFE (discovery->sources, source, next)
		source_end(source);
}

struct discovery *discovery_free(struct discovery *discovery)
{
	free(discovery);
	return NULL;
}
