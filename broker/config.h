/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_H
#define BROKER_CONFIG_H

/*
 * vmsigd's configuration, decoded from YAML. deploy/vmsigd.example.yaml shows every key.
 * An error names file, line and what to write instead.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/core/core.h"
#include "broker/core/tenant.h"
#include "proto/identity.h"
#include "vmsig/vmsig_memctx.h"

enum config_adapter { CONFIG_ADAPTER_FILE, CONFIG_ADAPTER_QEMU };

struct config_endpoint {
	char *name;
	int adapter;   /* enum config_adapter */
	int min_guard; /* enum vmsig_guard; the endpoint is not served below this */

	/* adapter: file */
	char *path;
	uint64_t low;       /* bytes; 0 when segments are given */
	vmsig_memseg *segs; /* file adapter's layout, or NULL */
	size_t nseg;
	bool kcr3_given; /* else it is found in the image */
	uint64_t kcr3;
	uint32_t levels;  /* 4 or 5, with kcr3_given */
	uint64_t poll_ms; /* how often the file is checked for replacement or shrinking */

	/* adapter: qemu */
	char *qmp;               /* path of the QMP socket */
	uint64_t reprove_ms;     /* period of the cheap re-proof */
	uint64_t retry_ms;       /* first retry of a bootstrap or a connection; doubles */
	uint64_t retry_max_ms;   /* upper bound of the doubling */
	uint64_t qmp_timeout_ms; /* an unanswered QMP command ends the QMP connection */
};

struct config_tenant {
	struct tenant tenant; /* what the core sees */
	int role;             /* enum identity_role */
	uint32_t *uids;       /* the kernel's uids that may speak for the tenant */
	size_t nuids;
};

struct config_listen {
	char *path;
	mode_t mode; /* of the socket file */
};

struct config {
	char *file; /* where it was read from */
	unsigned refs;
	char *state_dir;
	char *ca, *cert, *key, *crl; /* crl may be NULL */
	struct config_listen ctx;
	int log_level; /* enum log_level */
	int log_json;  /* 0: logfmt */
	struct core_limits core;
	uint32_t max_connections;
	uint32_t max_frame;      /* bytes of one frame from a client */
	uint32_t max_handshakes; /* in progress at once */
	uint64_t handshake_timeout_ms;
	uint64_t tx_max;  /* bytes of a connection's send queue: hard limit */
	uint64_t tx_soft; /* held above this for soft_ms: disconnected */
	uint64_t soft_ms;
	struct config_endpoint *endpoints;
	size_t nendpoints;
	struct config_tenant *tenants;
	size_t ntenants;
};

/* Reads and checks all of it. `error` gets "FILE:LINE: what; what to write instead".
 * 0, VMSIG_ERR_BAD_REQUEST, -errno. */
__attribute__((warn_unused_result)) int config_load(
	struct config **ret_config, const char *file, char *error, size_t error_size);
/* Endpoints that run keep the configuration they were started from: it is counted. The
 * last reference frees it. Both accept NULL. */
struct config *config_ref(struct config *config);
struct config *config_unref(struct config *config);

bool config_endpoint_equal(const struct config_endpoint *a, const struct config_endpoint *b);

/* The policy's entry for a certificate's identity, or NULL: the default denies. */
const struct config_tenant *config_tenant_find(
	const struct config *config, const struct identity *identity);
bool config_tenant_has_uid(const struct config_tenant *tenant, uid_t uid);

#endif
