/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints that nobody has written down: configurations of one, made of what was found. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/config.h"

static int copy_text(char **ret_copy, const char *text)
{
	*ret_copy = text ? strdup(text) : NULL;
	return text && !*ret_copy ? -ENOMEM : 0;
}

static bool has_key_of(const struct config_endpoint *endpoint, const char *label)
{
	size_t len = strcspn(label, "=") + 1;

	for (size_t i = 0; i < endpoint->nlabels; i++) {
		if (strncmp(endpoint->labels[i], label, len) == 0)
			return true;
	}
	return false;
}

static int label_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int merge_labels(struct config_endpoint *endpoint, char *const *own, size_t nown,
	char *const *found, size_t nfound)
{
	endpoint->labels = calloc(nown + nfound + 1, sizeof(*endpoint->labels));
	if (!endpoint->labels)
		return -ENOMEM;
	for (size_t i = 0; i < nown + nfound; i++) {
		const char *label = i < nown ? own[i] : found[i - nown];

		if (has_key_of(endpoint, label))
			continue;
		if (copy_text(&endpoint->labels[endpoint->nlabels], label))
			return -ENOMEM;
		endpoint->nlabels++;
	}
	qsort(endpoint->labels, endpoint->nlabels, sizeof(*endpoint->labels), label_compare);
	return 0;
}

int config_discovered(struct config **ret_config, const struct config_discover *discover,
	const struct config_found *found)
{
	const struct config_endpoint *pattern = &discover->endpoint;
	struct config *config = calloc(1, sizeof(*config));
	struct config_endpoint *endpoint = calloc(1, sizeof(*endpoint));

	if (!config || !endpoint) {
		free(config);
		free(endpoint);
		return -ENOMEM;
	}
	*endpoint = (struct config_endpoint){
		.adapter = found->qmp ? CONFIG_ADAPTER_QEMU : CONFIG_ADAPTER_LIBVIRT,
		.min_guard = pattern->min_guard,
		.writable = pattern->writable,
		.owner = pattern->owner,
		.qmp_dev = found->dev,
		.qmp_ino = found->ino,
		.reprove_ms = pattern->reprove_ms,
		.retry_ms = pattern->retry_ms,
		.retry_max_ms = pattern->retry_max_ms,
		.qmp_timeout_ms = pattern->qmp_timeout_ms};
	*config = (struct config){.refs = 1, .endpoints = endpoint, .nendpoints = 1};
	if (copy_text(&endpoint->name, found->name) ||
		copy_text(&endpoint->domain, found->domain) ||
		copy_text(&endpoint->uuid, found->domain) ||
		copy_text(&endpoint->qmp, found->qmp) ||
		copy_text(&endpoint->libvirt, discover->libvirt) ||
		copy_text(&endpoint->pids, pattern->pids) ||
		merge_labels(endpoint, pattern->labels, pattern->nlabels, found->labels,
			found->nlabels)) {
		config_unref(config);
		return -ENOMEM;
	}
	*ret_config = config;
	return 0;
}

int config_provided(struct config **ret_config, const struct config_endpoint *offered)
{
	struct config *config = calloc(1, sizeof(*config));
	struct config_endpoint *endpoint = calloc(1, sizeof(*endpoint));
	size_t bytes = offered->nseg * sizeof(*offered->segs);

	if (!config || !endpoint) {
		free(config);
		free(endpoint);
		return -ENOMEM;
	}
	*endpoint = *offered;
	endpoint->name = NULL;
	endpoint->segs = bytes ? malloc(bytes) : NULL;
	*config = (struct config){.refs = 1, .endpoints = endpoint, .nendpoints = 1};
	if (copy_text(&endpoint->name, offered->name) || (bytes && !endpoint->segs)) {
		config_unref(config);
		return -ENOMEM;
	}
	if (bytes)
		memcpy(endpoint->segs, offered->segs, bytes);
	*ret_config = config;
	return 0;
}
