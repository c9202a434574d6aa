/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/tls_set.h"

static int load(struct tls_ctx **ret_context, const struct plane_ops *plane,
	const struct config *config, char *error, size_t error_size)
{
	const struct tls_files files = {
		.ca = config->ca, .cert = config->cert, .key = config->key, .crl = config->crl};

	return tls_ctx_new(ret_context, TLS_SERVER, &files, plane->roles, error, error_size);
}

int tls_set_add(struct tls_set *set, const struct plane_ops *plane, const struct config *config,
	char *error, size_t error_size)
{
	int r = load(&set->contexts[set->n], plane, config, error, error_size);

	if (!r)
		set->planes[set->n++] = plane;
	return r;
}

int tls_set_load(struct tls_set *set, const struct config *config, char *error, size_t error_size)
{
	for (size_t i = 0; i < set->n; i++) {
		int r = load(&set->contexts[i], set->planes[i], config, error, error_size);

		if (r)
			return r;
	}
	return 0;
}

struct tls_ctx *tls_set_find(const struct tls_set *set, const struct plane_ops *plane)
{
	for (size_t i = 0; i < set->n; i++) {
		if (set->planes[i] == plane)
			return set->contexts[i];
	}
	return NULL;
}

void tls_set_deinit(struct tls_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		tls_ctx_unref(set->contexts[i]);
	*set = TLS_SET_INIT;
}
