/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_CONFIG_H
#define BROKER_CONFIG_CONFIG_H

/*
 * vmsigd's configuration, decoded from YAML. deploy/vmsigd.example.yaml shows every key.
 * An error names file, line and what to write instead.
 *
 *   config       one configuration: read, checked, counted
 *   decode       documents into structs, by tables
 *   decode_type  values of one key, by type
 *   discovered   what nobody has written down
 *   document     YAML within bounds
 *   equal        values of two structs
 *   explain      who may do what, and which line says so
 *   keys         what each key is called, may be, and is without being written
 *   lookup       by name
 *   scalar       values as people write them
 *   url          where an etcd is, and who a guest is
 *   settings     what there is to configure
 *   compare      what is different between two
 *   check        what --check looks at
 */

#include <stdbool.h>
#include <stddef.h>

#include "broker/config/settings.h"

/* Reads and checks all of it. `error` gets "FILE:LINE: what; what to write instead".
 * 0, VMSIG_ERR_BAD_REQUEST, -errno. */
__attribute__((warn_unused_result)) int config_load(
	struct config **ret_config, const char *file, char *error, size_t error_size);
/* The same, with where in the file everything stands, for decode_lines_free(). */
struct decode_lines;
__attribute__((warn_unused_result)) int config_load_lines(struct config **ret_config,
	struct decode_lines **ret_lines, const char *file, char *error, size_t error_size);
/* A configuration of nothing but one endpoint, of a text as it stands in the list `endpoints`.
 * Paths are taken from the folder of the configuration `beside`. The same. */
__attribute__((warn_unused_result)) int config_endpoint_load(struct config **ret_config,
	const char *text, const struct config *beside, char *error, size_t error_size);
/* Endpoints that run keep the configuration they were started from: it is counted. The
 * last reference frees it. Both accept NULL. */
struct config *config_ref(struct config *config);
struct config *config_unref(struct config *config);

/* What was found there: a domain of libvirt (domain), or a QMP socket (qmp, dev, ino). */
struct config_found {
	const char *name; /* that the endpoint gets */
	const char *domain;
	const char *qmp;
	dev_t dev;
	ino_t ino;
	char *const *labels; /* beside those of the source, which come before them */
	size_t nlabels;
};

/* A configuration of nothing but that endpoint. -ENOMEM. */
__attribute__((warn_unused_result)) int config_discovered(struct config **ret_config,
	const struct config_discover *discover, const struct config_found *found);
/* Likewise of an endpoint that a provider offers, which is copied. -ENOMEM. */
__attribute__((warn_unused_result)) int config_provided(
	struct config **ret_config, const struct config_endpoint *offered);
bool config_discover_equal(const struct config_discover *a, const struct config_discover *b);

bool config_endpoint_equal(const struct config_endpoint *a, const struct config_endpoint *b);

/* Fills by_name and by_identity; once the rest is there. -ENOMEM. */
__attribute__((warn_unused_result)) int config_sort(struct config *config);

/* By its name, or NULL. */
const struct config_endpoint *config_endpoint_find(const struct config *config, const char *name);

#endif
