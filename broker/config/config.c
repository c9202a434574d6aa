/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/decode.h"
#include "broker/config/equal.h"
#include "broker/config/keys.h"
#include "broker/config/url.h"
#include "proto/guest/pgwalk.h"
#include "proto/guest/physmap.h"
#include "vmsig/vmsig_error.h"

/* ---- what the keys cannot say ---- */

struct config_check {
	const struct config *config;
	const struct decode_lines *lines;
	char *error;
	size_t error_size;
};

__attribute__((format(printf, 4, 5))) static int complain(
	const struct config_check *check, const char *list, size_t index, const char *format, ...)
{
	int n = check->lines
			? snprintf(check->error, check->error_size, "%s:%u: ", check->config->file,
				  decode_line(check->lines, list, index))
			: snprintf(check->error, check->error_size, "%s: ", check->config->file);
	va_list args;

	va_start(args, format);
	if (n >= 0 && (size_t)n < check->error_size)
		vsnprintf(check->error + n, check->error_size - (size_t)n, format, args);
	va_end(args);
	return VMSIG_ERR_BAD_REQUEST;
}

static int check_file_endpoint(
	const struct config_check *check, const struct config_endpoint *endpoint, size_t i)
{
	struct physmap map = PHYSMAP_INIT;
	int r;

	if (!endpoint->path && !endpoint->nfiles)
		return complain(check, "endpoints", i,
			"endpoint '%s' has the adapter 'file' but no path; add 'path: FILE'",
			endpoint->name);
	if (endpoint->path && endpoint->nfiles)
		return complain(check, "endpoints", i,
			"endpoint '%s' has both 'path' and 'files'; name each file in 'files'",
			endpoint->name);
	if (endpoint->ram)
		return complain(check, "endpoints", i,
			"endpoint '%s': ram belongs to the adapter 'qemu'; here the file is 'path'",
			endpoint->name);
	if (!endpoint->low == !endpoint->nseg)
		return complain(check, "endpoints", i,
			"endpoint '%s' needs either 'low: SIZE' (RAM below 4 GiB, from the start "
			"of "
			"the file) or 'segments', and not both",
			endpoint->name);
	if (endpoint->kcr3_given && (endpoint->kcr3 & ~PGWALK_ADDR_MASK))
		return complain(check, "endpoints", i,
			"endpoint '%s': kcr3 is not page-aligned; write CR3 without its low 12 "
			"bits",
			endpoint->name);
	if (!endpoint->nseg)
		return 0;
	r = physmap_init(&map, endpoint->segs, endpoint->nseg, UINT64_MAX);
	physmap_deinit(&map);
	return r > 0 ? complain(check, "endpoints", i,
			       "endpoint '%s': its segments overlap or wrap around; write disjoint "
			       "ranges",
			       endpoint->name)
		     : r;
}

static int check_qemu_endpoint(
	const struct config_check *check, const struct config_endpoint *endpoint, size_t i)
{
	if (!endpoint->qmp)
		return complain(check, "endpoints", i,
			"endpoint '%s' has the adapter 'qemu' but no QMP socket; add 'qmp: SOCKET' "
			"and start QEMU with -qmp unix:SOCKET,server=on,wait=off",
			endpoint->name);
	if (endpoint->path || endpoint->nfiles || endpoint->low || endpoint->nseg ||
		endpoint->kcr3_given)
		return complain(check, "endpoints", i,
			"endpoint '%s': path, files, low, segments and kcr3 belong to the adapter "
			"'file'; the adapter 'qemu' finds them out",
			endpoint->name);
	if (endpoint->retry_max_ms < endpoint->retry_ms)
		return complain(check, "endpoints", i,
			"endpoint '%s': retry_max is below retry; write a larger retry_max",
			endpoint->name);
	return 0;
}

/* Transports of libvirt but sockets start programs, as ssh; vmsigd starts none. */
static bool starts_programs(const char *uri)
{
	const char *plus = memchr(uri, '+', strcspn(uri, ":"));

	return plus && strncmp(plus, "+unix:", strlen("+unix:")) != 0;
}

static int complain_program(
	const struct config_check *check, const char *list, size_t i, const char *uri)
{
	return complain(check, list, i,
		"libvirt '%s' is reached by starting a program, which vmsigd does not; write for "
		"example qemu:///system",
		uri);
}

static int check_libvirt_endpoint(
	const struct config_check *check, const struct config_endpoint *endpoint, size_t i)
{
#ifndef VMSIG_HAVE_LIBVIRT
	return complain(check, "endpoints", i,
		"endpoint '%s': this vmsigd was built without libvirt; build it where libvirt's "
		"development files are (deploy/install-deps), or give the domain a QMP socket and "
		"use the adapter 'qemu'",
		endpoint->name);
#endif
	if (!endpoint->libvirt || !endpoint->domain)
		return complain(check, "endpoints", i,
			"endpoint '%s' has the adapter 'libvirt' but no %s; add %s", endpoint->name,
			endpoint->libvirt ? "domain" : "URI",
			endpoint->libvirt ? "'domain: NAME' or its UUID"
					  : "'libvirt: qemu:///system'");
	if (starts_programs(endpoint->libvirt))
		return complain_program(check, "endpoints", i, endpoint->libvirt);
	if (endpoint->path || endpoint->nfiles || endpoint->low || endpoint->nseg ||
		endpoint->kcr3_given || endpoint->qmp)
		return complain(check, "endpoints", i,
			"endpoint '%s': path, files, low, segments, kcr3 and qmp belong to other "
			"adapters; the adapter 'libvirt' finds them out",
			endpoint->name);
	return 0;
}

static int check_domains(
	const struct config_check *check, const struct config_discover *discover, size_t i)
{
#ifndef VMSIG_HAVE_LIBVIRT
	return complain(check, "discover", i,
		"this vmsigd was built without libvirt, so it cannot find domains; build it where "
		"libvirt's development files are (deploy/install-deps)");
#endif
	if (starts_programs(discover->libvirt))
		return complain_program(check, "discover", i, discover->libvirt);
	if (discover->endpoint.owner != UINT32_MAX || discover->naming != CONFIG_NAMING_NAME)
		return complain(check, "discover", i,
			"name and owner belong to QMP sockets; a domain has its own name");
	return 0;
}

/* From the first one with a glob on; without any, none. */
static unsigned count_levels(const char *path)
{
	const char *at = strpbrk(path, "*?[");
	unsigned n = at != NULL;

	for (; at && *at; at++)
		n += *at == '/' && at[1] && at[1] != '/';
	return n;
}

static int check_sockets(
	const struct config_check *check, const struct config_discover *discover, size_t i)
{
	if (count_levels(discover->qmp) > CONFIG_GLOBS_MAX)
		return complain(check, "discover", i,
			"qmp '%s': it has more than %d components from the first glob on; name "
			"more of the folder",
			discover->qmp, CONFIG_GLOBS_MAX);
	if (discover->endpoint.pids || strcmp(discover->domains, "*") != 0)
		return complain(check, "discover", i,
			"domains and pids belong to libvirt; a glob of sockets stands in 'qmp'");
	if (discover->endpoint.writable && check->config->fleet.given)
		return complain(check, "discover", i,
			"in a fleet a guest that is writable needs an identity that is not its "
			"QEMU's word; configure such endpoints with 'uuid', and leave 'writable' "
			"away here");
	return 0;
}

static int check_discover(const struct config_check *check)
{
	for (size_t i = 0; i < check->config->ndiscover; i++) {
		const struct config_discover *discover = &check->config->discover[i];
		int r;

		if (!discover->libvirt == !discover->qmp)
			return complain(check, "discover", i,
				"it needs either 'libvirt: URI' or 'qmp: FOLDER' (or a glob of "
				"QMP sockets), and not both");
		if (discover->endpoint.retry_max_ms < discover->endpoint.retry_ms)
			return complain(check, "discover", i,
				"retry_max is below retry; write a larger retry_max");
		r = discover->qmp ? check_sockets(check, discover, i)
				  : check_domains(check, discover, i);
		if (r)
			return r;
	}
	return 0;
}

static int check_adapter(
	const struct config_check *check, const struct config_endpoint *endpoint, size_t i)
{
	static int (*const checks[])(
		const struct config_check *, const struct config_endpoint *, size_t) = {
		[CONFIG_ADAPTER_FILE] = check_file_endpoint,
		[CONFIG_ADAPTER_QEMU] = check_qemu_endpoint,
		[CONFIG_ADAPTER_LIBVIRT] = check_libvirt_endpoint,
	};

	return checks[endpoint->adapter](check, endpoint, i);
}

static int check_endpoints(const struct config_check *check)
{
	const struct config *config = check->config;

	if (config->nendpoints > config->core.endpoints)
		return complain(check, "endpoints", config->core.endpoints,
			"more endpoints than limits.endpoints (%u); raise the limit",
			config->core.endpoints);
	for (size_t i = 0; i < config->nendpoints; i++) {
		int r = check_adapter(check, &config->endpoints[i], i);

		if (r)
			return r;
	}
	for (size_t i = 1; i < config->nendpoints; i++) {
		const struct config_endpoint *a = config->by_name[i - 1], *b = config->by_name[i];

		if (strcmp(a->name, b->name) == 0)
			return complain(check, "endpoints", (size_t)(b - config->endpoints),
				"the name '%s' is taken by the endpoint in line %u; choose another",
				b->name,
				decode_line(check->lines, "endpoints",
					(size_t)(a - config->endpoints)));
	}
	return 0;
}

static int check_rules(
	const struct config_check *check, const struct grant_tenant *tenant, size_t index)
{
	if (tenant->nrules && tenant->role != IDENTITY_OPERATOR)
		return complain(check, "tenants", index,
			"the %s '%s' has a 'write' section, which only operators can use; remove "
			"it or make it role: operator",
			identity_role_name((enum identity_role)tenant->role), tenant->tenant.name);
	for (size_t i = 0; i < tenant->nrules; i++) {
		const struct grant_rule *rule = &tenant->rules[i];

		if (rule->ttl_min_ns > rule->ttl_max_ns)
			return complain(check, "tenants", index,
				"operator '%s': ttl_min is above ttl_max; write a smaller one",
				tenant->tenant.name);
		for (size_t j = 0; j < rule->nranges; j++) {
			if (rule->ranges[j].gpa + (rule->ranges[j].len - 1) < rule->ranges[j].gpa)
				return complain(check, "tenants", index,
					"operator '%s': a range wraps around; write a smaller len",
					tenant->tenant.name);
		}
	}
	return 0;
}

/* Administrators and monitors see guests without an endpoint here by their `endpoints`. */
static int check_away(
	const struct config_check *check, const struct grant_tenant *tenant, size_t index)
{
	const struct tenant *policy = &tenant->tenant;

	if (policy->nfleet && tenant->role != IDENTITY_OPERATOR && tenant->role != IDENTITY_SENSOR)
		return complain(check, "tenants", index,
			"the %s '%s' has a 'fleet' list, which only operators and sensors can use; "
			"remove it, its 'endpoints' name those guests as well",
			identity_role_name((enum identity_role)tenant->role), policy->name);
	for (size_t i = 0; i < policy->nfleet; i++) {
		if (strncmp(policy->fleet[i], SELECTOR_LABEL, strlen(SELECTOR_LABEL)) == 0)
			return complain(check, "tenants", index,
				"tenant '%s': 'fleet' has '%s', but labels of other hosts' "
				"endpoints are not known here; write globs of their names",
				policy->name, policy->fleet[i]);
	}
	return 0;
}

static int check_tenants(const struct config_check *check)
{
	const struct config *config = check->config;

	for (size_t i = 0; i < config->ntenants; i++) {
		int r = check_rules(check, &config->tenants[i], i);

		if (!r)
			r = check_away(check, &config->tenants[i], i);
		if (r)
			return r;
	}
	for (size_t i = 1; i < config->ntenants; i++) {
		const struct grant_tenant *a = config->by_identity[i - 1];
		const struct grant_tenant *b = config->by_identity[i];

		if (grant_order(a->role, a->tenant.name, b) == 0)
			return complain(check, "tenants", (size_t)(b - config->tenants),
				"the %s '%s' stands in line %u already; merge the two",
				identity_role_name((enum identity_role)b->role), b->tenant.name,
				decode_line(
					check->lines, "tenants", (size_t)(a - config->tenants)));
	}
	return 0;
}

__attribute__((format(printf, 2, 3))) static int complain_fleet(
	const struct config_check *check, const char *format, ...)
{
	int n = snprintf(check->error, check->error_size, "%s:%u: ", check->config->file,
		decode_line_of(check->lines, "fleet"));
	va_list args;

	va_start(args, format);
	if (n >= 0 && (size_t)n < check->error_size)
		vsnprintf(check->error + n, check->error_size - (size_t)n, format, args);
	va_end(args);
	return VMSIG_ERR_BAD_REQUEST;
}

static int check_etcd(const struct config_check *check)
{
	const struct config_fleet *fleet = &check->config->fleet;

	for (size_t i = 0; i < fleet->netcd; i++) {
		struct url url;

		if (!url_read(&url, fleet->etcd[i]))
			return complain_fleet(check,
				"fleet.etcd: '%s' is no URL of an etcd member by its address; "
				"write for example https://10.0.0.1:2379 (names are not looked up)",
				fleet->etcd[i]);
		if (!url.tls && !url.loopback)
			return complain_fleet(check,
				"fleet.etcd: '%s' is not encrypted, and whoever is on the way "
				"could own any guest; write https://",
				fleet->etcd[i]);
		if (url.tls && (!fleet->ca || !fleet->cert || !fleet->key))
			return complain_fleet(check,
				"fleet.etcd: '%s' needs 'ca', 'cert' and 'key' in 'fleet'",
				fleet->etcd[i]);
	}
	return 0;
}

/* Of a fleet's guests each has one identity on all hosts, and no other here. */
static int check_identities(const struct config_check *check)
{
	const struct config *config = check->config;

	for (size_t i = 0; i < config->nendpoints; i++) {
		const struct config_endpoint *endpoint = &config->endpoints[i];

		if (!endpoint->uuid) {
			if (!config->fleet.given || !endpoint->writable)
				continue;
			return complain(check, "endpoints", i,
				"endpoint '%s' is writable in a fleet and has no identity; add "
				"'uuid: UUID' of the guest, the same on all hosts",
				endpoint->name);
		}
		if (!url_is_identity(endpoint->uuid))
			return complain(check, "endpoints", i,
				"endpoint '%s': '%s' is no UUID; write up to 36 letters, digits "
				"and '-'",
				endpoint->name, endpoint->uuid);
		for (size_t j = 0; j < i; j++) {
			if (config->endpoints[j].uuid &&
				strcmp(config->endpoints[j].uuid, endpoint->uuid) == 0)
				return complain(check, "endpoints", i,
					"endpoint '%s': its uuid is that of endpoint '%s' too",
					endpoint->name, config->endpoints[j].name);
		}
	}
	return 0;
}

static int check_fleet(const struct config_check *check)
{
	const struct config_fleet *fleet = &check->config->fleet;
	uint64_t right_ns = fleet->ttl_ms * (1000000 - (uint64_t)fleet->rho_ppm);

	if (!fleet->given)
		return 0;
	if (!fleet->name || !fleet->host || !fleet->netcd)
		return complain_fleet(check,
			"'fleet' needs 'name' (of the fleet), 'host' (of this host in it) and "
			"'etcd' (URLs of its members)");
	if (fleet->ttl_ms % 1000)
		return complain_fleet(check, "fleet.ttl: write whole seconds");
	if (fleet->margin_ns > fleet->ttl_ms * 1000000 / 4)
		return complain_fleet(check, "fleet.margin: write no more than a fourth of 'ttl'");
	/* A renewal every third of it has to come back in time. */
	if (right_ns < fleet->margin_ns + fleet->timeout_ms * 1000000)
		return complain_fleet(check,
			"fleet.ttl is too short: what is left of it after rho and margin has to be "
			"more than timeout; raise it");
	return check_etcd(check);
}

static int check_limits(const struct config_check *check)
{
	if (check->config->tx_soft <= check->config->tx_max)
		return 0;
	snprintf(check->error, check->error_size,
		"%s: limits.send_queue_soft is above limits.send_queue; write a smaller one",
		check->config->file);
	return VMSIG_ERR_BAD_REQUEST;
}

int config_load(struct config **ret_config, const char *file, char *error, size_t error_size)
{
	struct decode_lines *lines;
	int r = config_load_lines(ret_config, &lines, file, error, error_size);

	if (!r)
		decode_lines_free(lines);
	return r;
}

int config_load_lines(struct config **ret_config, struct decode_lines **ret_lines, const char *file,
	char *error, size_t error_size)
{
	struct config *config = calloc(1, sizeof(*config));
	struct decode_lines *lines = NULL;
	struct config_check check = {.config = config, .error = error, .error_size = error_size};
	int r = -ENOMEM;

	snprintf(error, error_size, "%s: out of memory", file);
	if (!config)
		goto fail;
	config->refs = 1;
	config->file = strdup(file);
	if (!config->file)
		goto fail;
	r = decode_file(file, keys_config, config, &lines, error, error_size);
	if (r)
		goto fail;
	check.lines = lines;
	config->ctx.given = true;
	config->core.sessions = config->max_connections;
	config->ended = decode_is_ended(lines);
	r = config_sort(config);
	if (!r)
		r = check_limits(&check);
	if (!r)
		r = check_endpoints(&check);
	if (!r)
		r = check_fleet(&check);
	if (!r)
		r = check_identities(&check);
	if (!r)
		r = check_discover(&check);
	if (!r)
		r = check_tenants(&check);
	if (r)
		goto fail;
	*ret_lines = lines;
	*ret_config = config;
	return 0;
fail:
	decode_lines_free(lines);
	config_unref(config);
	return r;
}

int config_endpoint_load(struct config **ret_config, const char *text, const struct config *beside,
	char *error, size_t error_size)
{
	struct config *config = calloc(1, sizeof(*config));
	const struct config_check check = {
		.config = config, .error = error, .error_size = error_size};
	int r = -ENOMEM;

	snprintf(error, error_size, "out of memory");
	if (!config)
		return r;
	config->refs = 1;
	config->core.endpoints = 1;
	config->file = strdup("the endpoint");
	config->endpoints = calloc(1, sizeof(*config->endpoints));
	if (config->file && config->endpoints) {
		config->nendpoints = 1;
		r = decode_text(config->file, text, beside->file, keys_endpoint, config->endpoints,
			error, error_size);
	}
	if (!r)
		r = config_sort(config);
	if (!r)
		r = check_endpoints(&check);
	if (r) {
		config_unref(config);
		return r;
	}
	*ret_config = config;
	return 0;
}

struct config *config_ref(struct config *config)
{
	if (config)
		config->refs++;
	return config;
}

struct config *config_unref(struct config *config)
{
	if (!config || --config->refs)
		return NULL;
	decode_free(keys_config, config);
	free(config->by_name);
	free(config->by_identity);
	free(config->file);
	free(config);
	return NULL;
}

bool config_endpoint_equal(const struct config_endpoint *a, const struct config_endpoint *b)
{
	return equal_structs(keys_endpoint, a, b);
}

bool config_discover_equal(const struct config_discover *a, const struct config_discover *b)
{
	return equal_structs(keys_discover, a, b);
}
