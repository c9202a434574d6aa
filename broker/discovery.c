/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/discovery.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "broker/adapters/libvirt/domains.h"
#include "broker/adapters/libvirt/labels.h"
#include "broker/adapters/qemu/interview.h"
#include "broker/adapters/qemu/sockets.h"
#include "broker/config/scalar.h"
#include "broker/endpoints.h"
#include "broker/error_text.h"
#include "broker/findings.h"
#include "broker/log.h"
#include "broker/policy/share.h"
#include "broker/policy/selector.h"
#include "vmsig/vmsig_error.h"

struct source_ops;

struct discovery_source {
	struct discovery *discovery;
	const struct source_ops *ops;
	struct config *origin; /* what `config` is in; a reference */
	const struct config_discover *config;
	struct domains *domains;
	struct sockets *sockets;
	struct findings findings;
	struct share_task begin; /* of what was found */
	size_t more;
	bool mute; /* that it cannot be asked was said */
	struct discovery_source *prev, *next;
};

/* A kind of source. */
struct source_ops {
	const char *key; /* in `discover`, and the origin of its endpoints */
	bool (*is_of)(const struct config_discover *config);
	int (*watch)(struct discovery_source *source);
	void (*forget)(struct discovery_source *source);
	/* The configuration has changed beside it; or NULL. */
	void (*look)(struct discovery_source *source);
};

struct discovery {
	struct discovery_env env;
	struct config *config; /* the newest; a reference */
	struct share *share;
	const char **taken; /* sockets that it names, sorted */
	size_t ntaken;
	struct discovery_source *sources;
};

static void on_begin(struct share_task *task)
{
	struct discovery_source *source =
		(struct discovery_source *)((char *)task -
					    offsetof(struct discovery_source, begin));

	if (findings_go_on(&source->findings))
		share_task_ready(task);
}

static const char *place_of(const struct config_discover *config)
{
	return config->qmp ? config->qmp : config->libvirt;
}

/* Takes over the list, of which `n` are made. */
static void take(struct discovery_source *source, struct finding *list, size_t n, size_t all)
{
	if (list && n == all) {
		findings_take(&source->findings, list, n);
		share_task_ready(&source->begin);
		return;
	}
	log_error("out of memory; what came or went is noticed later",
		LOG_STR(source->ops->key, place_of(source->config)));
	while (n)
		config_unref(list[--n].config);
	free(list);
}

/* ---- libvirt ---- */

#ifdef VMSIG_HAVE_LIBVIRT
static int domain_found(struct finding *ret_found, const struct discovery_source *source,
	const struct domains_one *one)
{
	const struct config_found found = {
		.name = scalar_is_name(one->name) ? one->name : one->uuid,
		.domain = one->uuid,
		.labels = one->labels,
		.nlabels = one->nlabels};

	*ret_found = (struct finding){.runs = false};
	return config_discovered(&ret_found->config, source->config, &found);
}

static void on_domains(void *arg, const struct domains_list *list, const char *why)
{
	struct discovery_source *source = arg;
	struct finding *found;
	size_t n = 0;

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
	found = calloc(list->n + 1, sizeof(*found));
	while (found && n < list->n && domain_found(&found[n], source, &list->all[n]) == 0)
		n++;
	take(source, found, n, list->n);
}

static int watch_domains(struct discovery_source *source)
{
	const struct domains_env env = {.loop = source->discovery->env.loop,
		.uri = source->config->libvirt,
		.glob = source->config->domains,
		.limit = source->config->limit,
		.listed = on_domains,
		.arg = source};

	return domains_watch(&source->domains, &env);
}

static void forget_domains(struct discovery_source *source)
{
	domains_forget(source->domains);
}
#else
static int watch_domains(struct discovery_source *source)
{
	return VMSIG_ERR_UNSUPPORTED;
}

static void forget_domains(struct discovery_source *source)
{
}
#endif

static bool is_libvirt(const struct config_discover *config)
{
	return config->libvirt != NULL;
}

/* ---- QMP sockets ---- */

/* "": there is none that an endpoint can have. */
static void name_socket(char name[static INTERVIEW_NAME_MAX], const struct discovery_source *source,
	const struct sockets_found *one)
{
	int naming = source->config->naming;

	if (naming == CONFIG_NAMING_FILE)
		sockets_name(source->sockets, one->file, name, INTERVIEW_NAME_MAX);
	else
		snprintf(name, INTERVIEW_NAME_MAX, "%s",
			naming == CONFIG_NAMING_NAME && scalar_is_name(one->name) ? one->name
										  : one->uuid);
	if (!scalar_is_name(name))
		name[0] = '\0';
}

/* The labels are what nobody else can have: not QEMU's name, which may be any. */
static int socket_labels(char ***labels, size_t *nlabels, const struct sockets_found *one)
{
	int r = one->uuid[0] ? labels_add_pair(labels, nlabels, "uuid", one->uuid) : 0;

	return r ? r : labels_add_pair(labels, nlabels, "socket", one->file);
}

static int socket_found(struct finding *ret_found, const struct discovery_source *source,
	const struct sockets_found *one)
{
	char name[INTERVIEW_NAME_MAX], **labels = NULL;
	struct config_found found = {
		.name = name, .qmp = one->path, .dev = one->dev, .ino = one->ino};
	int r = socket_labels(&labels, &found.nlabels, one);

	*ret_found = (struct finding){.since_ns = one->born_ns};
	name_socket(name, source, one);
	ret_found->nameless = !name[0];
	snprintf(ret_found->uuid, sizeof(ret_found->uuid), "%s", one->uuid);
	found.labels = labels;
	if (!r)
		r = config_discovered(&ret_found->config, source->config, &found);
	labels_free(labels, found.nlabels);
	return r;
}

/* One that was found before, and is called as it was. */
static bool is_known(struct finding *ret_found, const struct discovery_source *source,
	const struct sockets_found *one)
{
	const struct config_endpoint key = {
		.qmp = (char *)(uintptr_t)one->path, .qmp_dev = one->dev, .qmp_ino = one->ino};
	const struct finding *known = findings_at(&source->findings, &key);
	char name[INTERVIEW_NAME_MAX];

	if (!known || strcmp(known->uuid, one->uuid) != 0)
		return false;
	name_socket(name, source, one);
	if (strcmp(name, known->config->endpoints->name) != 0)
		return false;
	*ret_found = *known;
	ret_found->config = config_ref(known->config);
	return true;
}

/* Sorted by file, and so by path: below one folder. */
static void on_sockets(void *arg, const struct sockets_list *list)
{
	struct discovery_source *source = arg;
	struct finding *found = calloc(list->n + 1, sizeof(*found));
	size_t n = 0;

	while (found && n < list->n &&
		(is_known(&found[n], source, &list->all[n]) ||
			socket_found(&found[n], source, &list->all[n]) == 0))
		n++;
	take(source, found, n, list->n);
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_taken(void *arg, const char *path)
{
	const struct discovery_source *source = arg;
	const struct discovery *discovery = source->discovery;

	return discovery->ntaken && bsearch(&path, discovery->taken, discovery->ntaken,
					    sizeof(const char *), compare_paths);
}

/* What was not listed yet is neither. */
static bool is_lost(void *arg, const struct sockets_found *one)
{
	const struct discovery_source *source = arg;
	const struct config_endpoint key = {
		.qmp = (char *)(uintptr_t)one->path, .qmp_dev = one->dev, .qmp_ino = one->ino};
	const struct finding *found = findings_at(&source->findings, &key);

	return found && (!found->runs || endpoints_is_gone(source->discovery->env.endpoints,
						 found->config->endpoints->name));
}

static int watch_sockets(struct discovery_source *source)
{
	const struct sockets_env env = {.loop = source->discovery->env.loop,
		.jobs = source->discovery->env.jobs,
		.shares = source->discovery->env.shares,
		.config = source->config,
		.listed = on_sockets,
		.is_taken = is_taken,
		.is_lost = is_lost,
		.arg = source};

	return sockets_watch(&source->sockets, &env);
}

static void forget_sockets(struct discovery_source *source)
{
	sockets_forget(source->sockets);
}

static void look_for_sockets(struct discovery_source *source)
{
	sockets_look(source->sockets);
}

static bool is_qmp(const struct config_discover *config)
{
	return config->qmp != NULL;
}

/* ---- sources ---- */

static const struct source_ops kinds[] = {
	{"libvirt", is_libvirt, watch_domains, forget_domains, NULL},
	{"qmp", is_qmp, watch_sockets, forget_sockets, look_for_sockets},
};

/* One of them, as the configuration is checked for. */
static const struct source_ops *kind_of(const struct config_discover *config)
{
	size_t i = 0;

	while (i + 1 < sizeof(kinds) / sizeof(kinds[0]) && !kinds[i].is_of(config))
		i++;
	return &kinds[i];
}

/* `watched`: its kind has something to forget. */
static void source_end(struct discovery_source *source, bool watched)
{
	DL_DELETE(source->discovery->sources, source);
	if (watched)
		source->ops->forget(source);
	share_task_cancel(&source->begin);
	findings_deinit(&source->findings);
	config_unref(source->origin);
	free(source);
}

static void source_begin(struct discovery *discovery, size_t i)
{
	const struct config_discover *config = &discovery->config->discover[i];
	struct discovery_source *source = calloc(1, sizeof(*source));
	int r = -ENOMEM;

	if (source) {
		source->discovery = discovery;
		source->ops = kind_of(config);
		share_task_init(&source->begin, discovery->share, on_begin);
		source->findings = (struct findings){
			.endpoints = discovery->env.endpoints, .key = source->ops->key};
		source->origin = config_ref(discovery->config);
		source->config = config;
		/* One that has ended is not in the list, which the analyser does not see. */
		DL_APPEND(discovery->sources, source); /* NOLINT(clang-analyzer-unix.Malloc) */
		r = source->ops->watch(source);
	}
	if (!r)
		return;
	log_error("cannot look for endpoints", LOG_STR(kind_of(config)->key, place_of(config)),
		LOG_STR("error", error_text(r)));
	if (source)
		source_end(source, false);
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

/* Those that endpoints of the configuration have, and the broker's own. */
static void take_note(struct discovery *discovery)
{
	const struct config *config = discovery->config;
	const char *own[] = {config->ctx.path, config->write.path, config->admin.path};
	size_t n = 0, nown = sizeof(own) / sizeof(own[0]);

	free(discovery->taken);
	discovery->taken = calloc(config->nendpoints + nown, sizeof(const char *));
	for (size_t i = 0; discovery->taken && i < config->nendpoints; i++) {
		if (config->endpoints[i].qmp)
			discovery->taken[n++] = config->endpoints[i].qmp;
	}
	for (size_t i = 0; discovery->taken && i < nown; i++) {
		if (own[i])
			discovery->taken[n++] = own[i];
	}
	discovery->ntaken = n;
	if (n)
		qsort(discovery->taken, n, sizeof(const char *), compare_paths);
}

void discovery_adopt(struct discovery *discovery, struct config *config)
{
	struct config *old = discovery->config;
	struct discovery_source *source, *next;

	discovery->config = config_ref(config);
	take_note(discovery);
	config_unref(old);
	DL_FOREACH_SAFE (discovery->sources, source, next) {
		if (!is_wanted(source, config))
			source_end(source, true);
		else if (source->ops->look)
			source->ops->look(source);
	}
	for (size_t i = 0; i < config->ndiscover; i++) {
		if (!source_find(discovery, &config->discover[i]))
			source_begin(discovery, i);
	}
}

/* ---- what is not served ---- */

static void list_unserved(const struct discovery_source *source, const struct finding *found,
	steward_unserved_fn each, void *arg)
{
	const struct config_endpoint *endpoint = found->config->endpoints;
	const struct steward_unserved one = {.subject = config_endpoint_subject(endpoint),
		.origin = source->ops->key,
		.place = endpoint->domain ? endpoint->domain : endpoint->qmp,
		.why = findings_why(found)};

	each(arg, &one);
}

/* One that has not said what it is called is known by its file. */
static void list_troubled(
	const struct discovery_source *source, steward_unserved_fn each, void *arg)
{
	struct sockets_trouble trouble;
	size_t cursor = 0;

	while (source->sockets && sockets_next_trouble(source->sockets, &cursor, &trouble)) {
		const struct steward_unserved one = {.subject = selector_named(trouble.file),
			.origin = source->ops->key,
			.place = trouble.file,
			.why = trouble.why};

		each(arg, &one);
	}
}

void discovery_unserved(const struct discovery *discovery, steward_unserved_fn each, void *arg)
{
	const struct discovery_source *source;

	DL_FOREACH (discovery->sources, source) {
		for (size_t i = 0; i < source->findings.n; i++) {
			const struct finding *found = &source->findings.all[i];

			/* Or it is about to be. */
			if (!found->runs && findings_why(found)[0])
				list_unserved(source, found, each, arg);
		}
		list_troubled(source, each, arg);
	}
}

/* ---- life ---- */

int discovery_new(struct discovery **ret_discovery, const struct discovery_env *env)
{
	struct discovery *discovery = calloc(1, sizeof(*discovery));
	int r = discovery ? share_get(env->shares, SHARE_BROKER, "discovery", &discovery->share)
			  : -ENOMEM;

	if (r) {
		free(discovery);
		return r;
	}
	discovery->env = *env;
	*ret_discovery = discovery;
	return 0;
}

void discovery_close(struct discovery *discovery)
{
	struct discovery_source *source, *next;

	if (!discovery)
		return;
	DL_FOREACH_SAFE (discovery->sources, source, next)
		source_end(source, true);
}

struct discovery *discovery_free(struct discovery *discovery)
{
	if (!discovery)
		return NULL;
	share_unref(discovery->share);
	free(discovery->taken);
	config_unref(discovery->config);
	free(discovery);
	return NULL;
}
