/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/check.h"

#include <errno.h>
#include <fnmatch.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proto/guest/span.h"
#include "proto/wire/tls.h"

#define SUN_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

struct check {
	const struct config *config;
	FILE *out;
	size_t problems;
};

__attribute__((format(printf, 3, 0))) static void say(
	const struct check *check, const char *what, const char *format, va_list args)
{
	fprintf(check->out, "%s: %s", check->config->file, what);
	vfprintf(check->out, format, args);
	fputc('\n', check->out);
}

__attribute__((format(printf, 2, 3))) static void complain(
	struct check *check, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(check, "", format, args);
	va_end(args);
	check->problems++;
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The broker makes the last folder of a path itself. */
static bool has_grandparent(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	return is_folder(dirname(dirname(copy)));
}

static void check_tls(struct check *check)
{
	const struct config *config = check->config;
	const struct tls_files files = {
		.ca = config->ca, .cert = config->cert, .key = config->key, .crl = config->crl};
	struct tls_ctx *tls = NULL;
	char error[512];

	if (tls_ctx_new(&tls, TLS_SERVER, &files, IDENTITY_SENSOR, error, sizeof(error)))
		complain(check, "tls: %s", error);
	else if (!tls_ctx_is_current(tls, error, sizeof(error)))
		complain(check, "tls: %s: %s", config->cert, error);
	tls_ctx_unref(tls);
}

static void check_socket(struct check *check, const char *key, const char *path)
{
	struct stat st;

	if (strlen(path) > SUN_PATH_MAX)
		complain(check,
			"%s: '%s' has %zu bytes, and a socket's path at most %zu; choose a shorter "
			"one",
			key, path, strlen(path), SUN_PATH_MAX);
	else if (!has_grandparent(path))
		complain(check, "%s: the folder above that of '%s' does not exist; make it", key,
			path);
	else if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		complain(check, "%s: '%s' is there and no socket; remove it or choose another path",
			key, path);
}

static void check_state_dir(struct check *check)
{
	const char *path = check->config->state_dir;
	char copy[PATH_MAX];
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", path);
	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		complain(check, "state_dir: '%s' is no folder; choose another", path);
	else if (stat(path, &st) == 0 && st.st_mode & (S_IWGRP | S_IWOTH))
		complain(check,
			"state_dir: '%s' can be written by others (mode %04o); chmod it to 0700",
			path, st.st_mode & 07777u);
	else if (!is_folder(dirname(copy)))
		complain(check, "state_dir: '%s' cannot be made in a folder that does not exist",
			path);
}

/* Where the configured layout ends in the file. */
static uint64_t layout_end(const struct config_endpoint *endpoint)
{
	uint64_t end = 0;

	for (size_t i = 0; i < endpoint->nseg; i++) {
		uint64_t seg_end = endpoint->segs[i].file_off + endpoint->segs[i].len;

		end = seg_end > end ? seg_end : end;
	}
	return endpoint->nseg ? end : endpoint->low;
}

/* False: `*ret_size` says nothing. */
static bool check_image(struct check *check, const struct config_endpoint *endpoint,
	const char *path, uint64_t *ret_size)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		complain(check, "endpoint '%s': %s: %s", endpoint->name, path, strerror(errno));
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		complain(check, "endpoint '%s': %s is not a regular file; name the RAM image",
			endpoint->name, path);
		return false;
	}
	*ret_size = (uint64_t)st.st_size;
	return true;
}

static void check_file(struct check *check, const struct config_endpoint *endpoint)
{
	char *const *files;
	size_t n = config_endpoint_files(endpoint, &files);
	uint64_t size, sum = 0;
	bool known = true;

	for (size_t i = 0; i < n; i++) {
		if (!check_image(check, endpoint, files[i], &size)) {
			known = false;
			continue;
		}
		sum += size;
		if (i + 1 < n && size % SPAN_PAGE)
			complain(check,
				"endpoint '%s': %s has %llu bytes, and only the last of several "
				"files may end within a page of %u; make it whole pages",
				endpoint->name, files[i], (unsigned long long)size, SPAN_PAGE);
	}
	if (known && sum < layout_end(endpoint))
		complain(check,
			"endpoint '%s': %s%s %llu bytes, and the layout reaches to %llu; write "
			"the RAM's true size",
			endpoint->name, files[0], n > 1 ? " and the files behind it have" : " has",
			(unsigned long long)sum, (unsigned long long)layout_end(endpoint));
}

/* What people write from habit, with what is wrong about it. */
static const struct {
	const char *pattern; /* fnmatch(3) */
	const char *why;
	bool there; /* also where a socket has that path */
} wrong_sockets[] = {
	{"*/libvirt/qemu/*/monitor.sock",
		"that is libvirt's own monitor, which serves libvirt "
		"alone; use 'adapter: libvirt', or give the domain a second "
		"one with <qemu:commandline>",
		true},
	{"*/tcp:*",
		"the broker speaks QMP over UNIX sockets only; start QEMU with -qmp unix:SOCKET",
		false},
	{"*/telnet:*",
		"the broker speaks QMP over UNIX sockets only; start QEMU with -qmp unix:SOCKET",
		false},
	{"*/unix:*", "write the path alone, without 'unix:'", false},
	{"*,server*", "write the path alone, without QEMU's options", false},
	{"*:[0-9]*[0-9]",
		"the broker speaks QMP over UNIX sockets only; start QEMU with -qmp unix:SOCKET",
		false},
};

static void check_qemu(struct check *check, const struct config_endpoint *endpoint)
{
	char copy[PATH_MAX];
	struct stat st;
	bool there = stat(endpoint->qmp, &st) == 0;

	for (size_t i = 0; i < sizeof(wrong_sockets) / sizeof(wrong_sockets[0]); i++) {
		if (there && S_ISSOCK(st.st_mode) && !wrong_sockets[i].there)
			continue;
		if (fnmatch(wrong_sockets[i].pattern, endpoint->qmp, 0) == 0) {
			complain(check, "endpoint '%s': qmp '%s': %s", endpoint->name,
				endpoint->qmp, wrong_sockets[i].why);
			return;
		}
	}
	snprintf(copy, sizeof(copy), "%s", endpoint->qmp);
	if (strlen(endpoint->qmp) > SUN_PATH_MAX)
		complain(check, "endpoint '%s': '%s' is too long for a socket's path",
			endpoint->name, endpoint->qmp);
	else if (!is_folder(dirname(copy)))
		complain(check, "endpoint '%s': the folder of '%s' does not exist; make it",
			endpoint->name, endpoint->qmp);
	else if (there && !S_ISSOCK(st.st_mode))
		complain(check, "endpoint '%s': '%s' is no socket; start QEMU with -qmp unix:%s",
			endpoint->name, endpoint->qmp, endpoint->qmp);
}

/* Whether libvirt is there is told when it runs. */
static void check_uri(struct check *check, const char *what, const char *uri)
{
	if (!strstr(uri, ":///"))
		complain(check,
			"%s: libvirt '%s' is another host's; only this host's memory can be "
			"served, write for example qemu:///system",
			what, uri);
}

static void check_libvirt(struct check *check, const struct config_endpoint *endpoint)
{
	check_uri(check, endpoint->name, endpoint->libvirt);
}

/* A folder that is not there may be made later. */
static void check_discover(struct check *check, const struct config_discover *discover)
{
	const char *qmp = discover->qmp, *slash = qmp ? strrchr(qmp, '/') : NULL;
	struct stat st;

	if (!qmp)
		check_uri(check, "discover", discover->libvirt);
	else if (slash && !strpbrk(slash, "*?[") && stat(qmp, &st) == 0 && !S_ISDIR(st.st_mode))
		complain(check,
			"discover: qmp '%s' is no folder; name the folder of the QMP sockets, or a "
			"glob of them",
			qmp);
}

/* ---- what two must not share ---- */

enum thing { THING_IMAGE, THING_QMP, THING_RAM, THING_DOMAIN };

static const struct {
	const char *name, *advice;
} things[] = {
	[THING_IMAGE] = {"RAM image", "an image is served once, remove one of them"},
	[THING_QMP] = {"QMP socket",
		"a QMP socket serves one client, give each QEMU one of its own"},
	[THING_RAM] = {"RAM file", "a guest's RAM is a file of its own"},
	[THING_DOMAIN] = {"domain", "a domain is served once, remove one of them"},
};

/* What a path leads to; of what is not there yet the folder and its name in that; of a domain its
 * name. */
struct place {
	dev_t dev;
	ino_t ino;
	const char *name;
	const char *host; /* a domain's; else "" */
	enum thing thing;
	const struct config_endpoint *endpoint;
	const char *path; /* as it is configured */
};

static struct place place_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char copy[PATH_MAX];
	struct stat st;

	if (stat(path, &st) == 0)
		return (struct place){.dev = st.st_dev, .ino = st.st_ino, .name = "", .host = ""};
	snprintf(copy, sizeof(copy), "%s", path);
	if (!slash || stat(dirname(copy), &st) < 0)
		return (struct place){.name = path, .host = ""};
	return (struct place){.dev = st.st_dev, .ino = st.st_ino, .name = slash + 1, .host = ""};
}

static int place_compare(const struct place *x, const struct place *y)
{
	int r;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	r = strcmp(x->name, y->name);
	return r ? r : strcmp(x->host, y->host);
}

static int order_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = place_compare(x, y);

	return r ? r : (x->endpoint > y->endpoint) - (x->endpoint < y->endpoint);
}

static void complain_shared(struct check *check, const struct place *a, const struct place *b)
{
	if (a->endpoint == b->endpoint)
		complain(check,
			"endpoint '%s': its file %s is that of %s too; each part of RAM needs a "
			"file of its own",
			b->endpoint->name, b->path, a->path);
	else
		complain(check, "endpoint '%s': its %s %s is that of endpoint '%s' too; %s",
			b->endpoint->name, things[b->thing].name, b->path, a->endpoint->name,
			things[b->thing].advice);
}

static size_t list_place(struct place *places, enum thing thing,
	const struct config_endpoint *endpoint, const char *path)
{
	if (thing == THING_DOMAIN)
		*places = (struct place){.name = path, .host = endpoint->libvirt};
	else
		*places = place_of(path);
	places->thing = thing;
	places->endpoint = endpoint;
	places->path = path;
	return 1;
}

/* What the endpoint names that must be its own; has room for PLACES_MAX and its files. */
#define PLACES_MAX 2

static size_t list_endpoint(struct place *places, const struct config_endpoint *endpoint)
{
	char *const *files;
	size_t n = 0, nfiles = config_endpoint_files(endpoint, &files);

	switch (endpoint->adapter) {
	case CONFIG_ADAPTER_FILE:
		while (n < nfiles) {
			list_place(&places[n], THING_IMAGE, endpoint, files[n]);
			n++;
		}
		return n;
	case CONFIG_ADAPTER_QEMU:
		n = list_place(places, THING_QMP, endpoint, endpoint->qmp);
		return endpoint->ram
			       ? n + list_place(&places[n], THING_RAM, endpoint, endpoint->ram)
			       : n;
	default:
		return list_place(places, THING_DOMAIN, endpoint, endpoint->domain);
	}
}

static void check_shared(struct check *check)
{
	const struct config *config = check->config;
	struct place *places;
	size_t n = 0, room = 1;

	for (size_t i = 0; i < config->nendpoints; i++)
		room += PLACES_MAX + config->endpoints[i].nfiles;
	places = calloc(room, sizeof(*places));
	if (!places) {
		complain(check, "out of memory");
		return;
	}
	for (size_t i = 0; i < config->nendpoints; i++)
		n += list_endpoint(&places[n], &config->endpoints[i]);
	qsort(places, n, sizeof(*places), order_compare);
	for (size_t i = 1; i < n; i++) {
		if (place_compare(&places[i - 1], &places[i]) == 0)
			complain_shared(check, &places[i - 1], &places[i]);
	}
	free(places);
}

static void check_user(struct check *check)
{
	const struct config_sandbox *sandbox = &check->config->sandbox;

	if (sandbox->enabled && sandbox->user && !getpwnam(sandbox->user))
		complain(check,
			"sandbox.user: there is no user '%s'; make it (useradd --system %s) or "
			"name another",
			sandbox->user, sandbox->user);
}

struct plane {
	const char *key, *path;
};

static void check_planes(struct check *check)
{
	const struct config *config = check->config;
	struct plane planes[3] = {{"listen.ctx.path", config->ctx.path}};
	size_t n = 1;

	if (config->write.given)
		planes[n++] = (struct plane){"listen.write.path", config->write.path};
	if (config->admin.given)
		planes[n++] = (struct plane){"listen.admin.path", config->admin.path};
	for (size_t i = 0; i < n; i++) {
		struct place place = place_of(planes[i].path);

		check_socket(check, planes[i].key, planes[i].path);
		for (size_t j = 0; j < i; j++) {
			struct place other = place_of(planes[j].path);

			if (place_compare(&place, &other) == 0)
				complain(check, "%s: '%s' is the socket of %s too; choose another",
					planes[i].key, planes[i].path, planes[j].key);
		}
	}
}

size_t check_config(const struct config *config, FILE *out)
{
	static void (*const checks[])(struct check *, const struct config_endpoint *) = {
		[CONFIG_ADAPTER_FILE] = check_file,
		[CONFIG_ADAPTER_QEMU] = check_qemu,
		[CONFIG_ADAPTER_LIBVIRT] = check_libvirt,
	};
	struct check check = {.config = config, .out = out};

	check_tls(&check);
	check_state_dir(&check);
	check_user(&check);
	check_planes(&check);
	for (size_t i = 0; i < config->nendpoints; i++)
		checks[config->endpoints[i].adapter](&check, &config->endpoints[i]);
	for (size_t i = 0; i < config->ndiscover; i++)
		check_discover(&check, &config->discover[i]);
	check_shared(&check);
	return check.problems;
}

/* ---- what may come true later ---- */

__attribute__((format(printf, 2, 3))) static void warn(
	const struct check *check, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(check, "warning: ", format, args);
	va_end(args);
}

/* QEMU makes the file, and never the folder. */
static void warn_ram(const struct check *check, const struct config_endpoint *endpoint)
{
	char copy[PATH_MAX];

	if (endpoint->adapter != CONFIG_ADAPTER_QEMU || !endpoint->ram)
		return;
	snprintf(copy, sizeof(copy), "%s", endpoint->ram);
	if (!is_folder(dirname(copy)))
		warn(check,
			"endpoint '%s': the folder of its ram %s does not exist; make it before "
			"QEMU starts, or correct the path",
			endpoint->name, endpoint->ram);
}

static bool matches_any(const struct config *config, const struct tenant *seen, const char *pattern)
{
	for (size_t i = 0; i < config->nendpoints; i++) {
		const struct selector_subject subject =
			config_endpoint_subject(&config->endpoints[i]);

		if (selector_matches(pattern, &subject) && (!seen || tenant_sees(seen, &subject)))
			return true;
	}
	return false;
}

/* Of the endpoints that a rule names for a tenant who sees them. */
static bool writes_any(
	const struct config *config, const struct tenant *seen, const struct grant_rule *rule)
{
	for (size_t i = 0; i < config->nendpoints; i++) {
		const struct config_endpoint *endpoint = &config->endpoints[i];
		const struct selector_subject subject = config_endpoint_subject(endpoint);

		if (!endpoint->writable || !tenant_sees(seen, &subject))
			continue;
		for (size_t j = 0; j < rule->nendpoints; j++) {
			if (selector_matches(rule->endpoints[j], &subject))
				return true;
		}
	}
	return false;
}

static void warn_patterns(const struct check *check, const struct grant_tenant *tenant)
{
	const char *role = identity_role_name((enum identity_role)tenant->role);
	const struct tenant *policy = &tenant->tenant;

	for (size_t i = 0; i < policy->nendpoints; i++) {
		if (!matches_any(check->config, NULL, policy->endpoints[i]))
			warn(check,
				"tenant '%s' (%s): '%s' names none of the endpoints; correct it, "
				"or add the endpoint",
				policy->name, role, policy->endpoints[i]);
	}
	for (size_t i = 0; i < tenant->nrules; i++) {
		const struct grant_rule *rule = &tenant->rules[i];

		for (size_t j = 0; j < rule->nendpoints; j++) {
			if (!matches_any(check->config, policy, rule->endpoints[j]))
				warn(check,
					"tenant '%s' (%s): write rule '%s' names none of the "
					"endpoints that the tenant may see; correct it, or name "
					"them in its 'endpoints' as well",
					policy->name, role, rule->endpoints[j]);
		}
		if (matches_any(check->config, policy, rule->endpoints[0]) &&
			!writes_any(check->config, policy, rule))
			warn(check,
				"tenant '%s' (%s): no endpoint of the write rule for '%s' can be "
				"written to; add 'writable: yes' to those that are to be",
				policy->name, role, rule->endpoints[0]);
	}
}

/* The socket that a tenant of the role connects to. */
static void warn_plane(const struct check *check, const struct grant_tenant *tenant)
{
	const struct config *config = check->config;
	const char *plane = NULL;

	if (tenant->role == IDENTITY_OPERATOR && !config->write.given)
		plane = "write";
	else if (tenant->role & (IDENTITY_ADMIN | IDENTITY_MONITOR | IDENTITY_PROVIDER) &&
		 !config->admin.given)
		plane = "admin";
	if (plane)
		warn(check, "tenant '%s' (%s): there is no socket for it; add '%s: {}' to 'listen'",
			tenant->tenant.name, identity_role_name((enum identity_role)tenant->role),
			plane);
}

static void warn_history(const struct check *check)
{
	uint64_t seconds = check_audit_history(check->config);

	if (seconds < CHECK_HISTORY_S)
		warn(check,
			"operators that record as much as quota.audit allows fill the audit log in "
			"%llu s, and the oldest records go then; raise audit.size or lower "
			"quota.audit, or export the log as often",
			(unsigned long long)seconds);
}

static void warn_etcd(const struct check *check)
{
	const struct config_fleet *fleet = &check->config->fleet;

	for (size_t i = 0; i < fleet->netcd; i++) {
		if (strncmp(fleet->etcd[i], "http://", strlen("http://")) == 0)
			warn(check,
				"fleet: %s is asked in clear text, and whoever can connect to it "
				"can take any guest; give etcd certificates, and write https:// "
				"with ca, cert and key",
				fleet->etcd[i]);
	}
}

void check_warn(const struct config *config, FILE *out)
{
	const struct check check = {.config = config, .out = out};

	for (size_t i = 0; i < config->nendpoints; i++)
		warn_ram(&check, &config->endpoints[i]);
	/* Without any, and where some are discovered, what they will be called is not known yet. */
	for (size_t i = 0; config->nendpoints && !config->ndiscover && i < config->ntenants; i++)
		warn_patterns(&check, &config->tenants[i]);
	for (size_t i = 0; i < config->ntenants; i++)
		warn_plane(&check, &config->tenants[i]);
	if (!config->ntenants)
		warn(&check, "there are no tenants, so nobody is served; name them in 'tenants'");
	warn_history(&check);
	warn_etcd(&check);
}

const char *check_idle_pattern(const struct config *config, const struct grant_tenant *tenant)
{
	const struct tenant *policy = &tenant->tenant;

	if (!config->nendpoints || config->ndiscover)
		return NULL;
	for (size_t i = 0; i < policy->nendpoints; i++) {
		if (!matches_any(config, NULL, policy->endpoints[i]))
			return policy->endpoints[i];
	}
	for (size_t i = 0; i < tenant->nrules; i++) {
		const struct grant_rule *rule = &tenant->rules[i];

		for (size_t j = 0; j < rule->nendpoints; j++) {
			if (!matches_any(config, policy, rule->endpoints[j]))
				return rule->endpoints[j];
		}
	}
	return NULL;
}

uint64_t check_audit_history(const struct config *config)
{
	uint64_t rate = 0;

	for (size_t i = 0; config->write.given && i < config->ntenants; i++)
		rate += config->tenants[i].nrules ? config->tenants[i].audit_rate : 0;
	return rate ? config->audit.size_max / rate : UINT64_MAX;
}
