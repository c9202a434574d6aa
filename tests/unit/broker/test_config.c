/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations, right and wrong, and what is said of the wrong ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "vmsig/vmsig_error.h"

#define TLS "tls: {ca: a, cert: b, key: c}\n"

static char dir[] = "/tmp/vmsig-config-XXXXXX";
static char path[PATH_MAX];
static char error[512];

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/vmsigd.yaml", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static int load(struct config **ret_config, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	error[0] = '\0';
	return config_load(ret_config, path, error, sizeof(error));
}

static struct config *load_good(const char *text)
{
	struct config *config = NULL;

	if (load(&config, text))
		fail_msg("%s", error);
	return config;
}

static bool sees(const struct grant_tenant *tenant, const char *name)
{
	const struct selector_subject subject = selector_named(name);

	return tenant_sees(&tenant->tenant, &subject);
}

static const struct grant_rule *rule_for(const struct grant_tenant *tenant, const char *name)
{
	const struct selector_subject subject = selector_named(name);

	return grant_write_rule(tenant, &subject);
}

static void the_least_there_is_gets_defaults(void **state)
{
	struct config *config = load_good(TLS);
	char expected[PATH_MAX + 8];

	snprintf(expected, sizeof(expected), "%s/a", dir);
	assert_string_equal(config->ca, expected);
	assert_null(config->crl);
	assert_string_equal(config->state_dir, "/var/lib/vmsig");
	assert_string_equal(config->ctx.path, "/run/vmsig/ctx.sock");
	assert_int_equal(config->ctx.mode, 0666);
	assert_int_equal(config->max_connections, 16384);
	assert_int_equal(config->core.sessions, config->max_connections);
	assert_int_equal(config->core.take_timeout_ns, 30000000000);
	assert_int_equal(config->handshake_timeout_ms, 10000);
	assert_true(config->tx_soft < config->tx_max);
	assert_int_equal(config->nendpoints, 0);
	assert_int_equal(config->ntenants, 0);
	config_unref(config);
}

static void endpoints_are_decoded(void **state)
{
	struct config *config = load_good(TLS
		"endpoints:\n"
		"  - {name: a, adapter: file, path: /ram/a, low: 512MiB, kcr3: 0x1000, levels: 5,\n"
		"     min_guard: mode, poll: 20ms}\n"
		"  - {name: b, adapter: file, path: b, segments: [{gpa: 0, len: 1GiB, offset: 0},\n"
		"     {gpa: 4GiB, len: 0x1000, offset: 1GiB}]}\n"
		"  - {name: c, adapter: qemu, qmp: /run/c, retry: 1s}\n");
	const struct config_endpoint *e = config->endpoints;

	assert_int_equal(config->nendpoints, 3);
	assert_string_equal(e[0].path, "/ram/a");
	assert_int_equal(e[0].low, 512u << 20);
	assert_true(e[0].kcr3_given);
	assert_int_equal(e[0].kcr3, 0x1000);
	assert_int_equal(e[0].levels, 5);
	assert_int_equal(e[0].min_guard, VMSIG_GUARD_MODE);
	assert_int_equal(e[0].poll_ms, 20);
	assert_false(e[1].kcr3_given);
	assert_int_equal(e[1].nseg, 2);
	assert_int_equal(e[1].segs[1].gpa, 1ull << 32);
	assert_int_equal(e[1].segs[1].len, 4096);
	assert_int_equal(e[1].segs[1].file_off, 1u << 30);
	assert_int_equal(e[2].adapter, CONFIG_ADAPTER_QEMU);
	assert_int_equal(e[2].retry_ms, 1000);
	assert_int_equal(e[2].retry_max_ms, 5000);
	config_unref(config);
}

static void the_policy_denies_what_it_does_not_name(void **state)
{
	struct config *config = load_good(
		TLS "tenants:\n"
		    "  - {name: acme, role: sensor, uids: [1000, 7], endpoints: [\"web*\"],\n"
		    "     quota: {connections: 3}}\n"
		    "  - {name: acme, role: operator, uids: [1]}\n");
	struct identity id = {.role = IDENTITY_SENSOR, .name = "acme"};
	const struct grant_tenant *tenant = grant_find(config->by_identity, config->ntenants, &id);

	assert_non_null(tenant);
	assert_true(grant_has_uid(tenant, 7));
	assert_false(grant_has_uid(tenant, 1));
	assert_true(sees(tenant, "web7"));
	assert_false(sees(tenant, "db"));
	assert_int_equal(tenant->tenant.quota.connections, 3);
	assert_int_equal(tenant->tenant.quota.subscriptions, 256);
	id.role = IDENTITY_OPERATOR;
	tenant = grant_find(config->by_identity, config->ntenants, &id);
	assert_non_null(tenant);
	assert_false(sees(tenant, "web7"));
	id.role = IDENTITY_ADMIN;
	assert_null(grant_find(config->by_identity, config->ntenants, &id));
	id = (struct identity){.role = IDENTITY_SENSOR, .name = "acm"};
	assert_null(grant_find(config->by_identity, config->ntenants, &id));
	config_unref(config);
}

static const struct {
	const char *text;
	const char *words[3]; /* the first comes right after the file's name */
} wrong[] = {
	{"", {":1: ", "empty"}},
	{"tls: {ca: a, cert: b}\n", {":1: ", "'key' is missing"}},
	{"log: {}\n", {":1: ", "'tls' is missing"}},
	{TLS "tls: {ca: a, cert: b, key: c}\n", {":2: ", "twice"}},
	{TLS "fleet: {name: f}\n", {":2: ", "'host'", "'etcd'"}},
	{TLS "fleet: {name: f, host: h, etcd: ['http://10.0.0.1:2379']}\n",
		{":2: ", "not encrypted", "https://"}},
	{TLS "fleet: {name: f, host: h, etcd: ['https://etcd:2379']}\n",
		{":2: ", "names are not looked up"}},
	{TLS "fleet: {name: f, host: h, etcd: ['https://10.0.0.1']}\n",
		{":2: ", "names are not looked up"}},
	{TLS "fleet: {name: f, host: h, etcd: ['https://10.0.0.1:2379/v3']}\n",
		{":2: ", "names are not looked up"}},
	{TLS "fleet: {name: f, host: h, etcd: ['https://[::1]:2379']}\n",
		{":2: ", "'ca', 'cert' and 'key'"}},
	{TLS "fleet: {name: f, host: h, etcd: ['http://127.0.0.1:1'], ttl: 2s}\n",
		{":2: ", "ttl is too short"}},
	{TLS "fleet: {name: f, host: h, etcd: ['http://127.0.0.1:1'], ttl: 2500ms}\n",
		{":2: ", "whole seconds"}},
	{TLS "fleet: {name: f, host: h, etcd: ['http://127.0.0.1:1'], margin: 3s}\n",
		{":2: ", "a fourth of 'ttl'"}},
	{TLS "fleet: {name: f, host: h, etcd: ['http://[::1]:1']}\n"
	     "endpoints:\n  - {name: a, adapter: qemu, qmp: /q, writable: yes}\n",
		{":4: ", "has no identity"}},
	{TLS "endpoints:\n  - {name: a, adapter: qemu, qmp: /q, uuid: a/b}\n", {":3: ", "no UUID"}},
	{TLS "endpoints:\n  - {name: a, adapter: qemu, qmp: /q, uuid: u}\n"
	     "  - {name: b, adapter: qemu, qmp: /r, uuid: u}\n",
		{":4: ", "that of endpoint 'a'"}},
	{TLS "lisen: {}\n", {":2: ", "did you mean 'listen'?"}},
	{TLS "endpoints:\n  - {name: a, adapter: file, foo: 1}\n",
		{":3: ", "there is no key 'foo'; known here: "}},
	{TLS "zzzzzzzz: {}\n", {":2: ", "known here: state_dir"}},
	{TLS "log: {level: loud}\n", {":2: ", "'loud'", "error, warning, info, debug"}},
	{TLS "log: [a]\n", {":2: ", "key: value"}},
	{TLS "endpoints: {}\n", {":2: ", "takes a list"}},
	{TLS "state_dir: [a]\n", {":2: ", "single value"}},
	{TLS "limits:\n  frame: 17\n", {":3: ", "17", "from 4096 to 1048576"}},
	{TLS "limits:\n  take_timeout: 5\n", {":3: ", "'5'", "for example 500ms, 2s"}},
	{TLS "limits: {send_queue: 64KiB, send_queue_soft: 1MiB}\n",
		{": ", "send_queue_soft is above"}},
	{TLS "a: b: c\n", {":2: ", "not valid YAML"}},
	{TLS "\tx: 1\n", {":2: ", "not valid YAML"}},
	{TLS "endpoints:\n - {name: a b, adapter: qemu, qmp: x}\n", {":3: ", "is no name"}},
	{TLS "endpoints:\n - {name: a, adapter: qemu}\n",
		{":3: ", "no QMP socket", "add 'qmp: SOCKET'"}},
	{TLS "endpoints:\n - {name: a, adapter: qemu, qmp: q, low: 1MiB}\n",
		{":3: ", "belong to the adapter 'file'"}},
#ifdef VMSIG_HAVE_LIBVIRT
	{TLS "endpoints:\n - {name: a, adapter: libvirt, domain: d,\n"
	     "    libvirt: 'qemu+ssh:///system'}\n",
		{":3: ", "starting a program"}},
	{TLS "discover:\n - {libvirt: 'qemu+ext:///system?command=x'}\n",
		{":3: ", "starting a program"}},
	{TLS "discover:\n - {libvirt: 'qemu:///system', owner: 3}\n",
		{":3: ", "belong to QMP sockets"}},
#endif
	{TLS "discover:\n - {limit: 3}\n", {":3: ", "either 'libvirt"}},
	{TLS "discover:\n - {libvirt: 'qemu:///system', qmp: q}\n", {":3: ", "and not both"}},
	{TLS "discover:\n - {qmp: 'q/*/2/3/4/5/6/7/8/9.sock'}\n",
		{":3: ", "more than 8 components"}},
	{TLS "discover:\n - {qmp: q, domains: 'web*'}\n", {":3: ", "belong to libvirt"}},
	{TLS "discover:\n - {qmp: q, name: domain}\n", {":3: ", "name"}},
	{TLS "endpoints:\n - {name: a, adapter: file, low: 1MiB}\n", {":3: ", "no path"}},
	{TLS "endpoints:\n - {name: a, adapter: file, path: p}\n", {":3: ", "either 'low"}},
	{TLS "endpoints:\n - {name: a, adapter: file, path: p, low: 1MiB, kcr3: 0x1001}\n",
		{":3: ", "not page-aligned"}},
	{TLS "endpoints:\n"
	     " - {name: a, adapter: file, path: p,\n"
	     "    segments: [{gpa: 0, len: 2MiB, offset: 0},\n"
	     "               {gpa: 1MiB, len: 2MiB, offset: 2MiB}]}\n",
		{":3: ", "overlap"}},
	{TLS "endpoints:\n"
	     " - {name: a, adapter: qemu, qmp: q}\n"
	     " - {name: a, adapter: qemu, qmp: r}\n",
		{":4: ", "taken", "line 3"}},
	{TLS "tenants:\n - {name: a, role: sensor, uids: [-1]}\n", {":3: ", "'-1'"}},
	{TLS "tenants:\n - {name: a, role: sensor, uids: []}\n", {":3: ", "0 entries"}},
	{TLS "tenants:\n"
	     " - {name: a, role: sensor, uids: [1]}\n"
	     " - {name: a, role: sensor, uids: [2]}\n",
		{":4: ", "line 3", "merge"}},
	{"{tls: {ca: a, cert: b, key: c}, ? {x: y} : 1}\n", {":1: ", "plain word"}},
	{"tls: &t {ca: *t, cert: b, key: c}\n", {":1: "}},
};

static void check_said(const char *text, const char *const words[3])
{
	struct config *config = NULL;
	int r = load(&config, text);

	if (r != VMSIG_ERR_BAD_REQUEST || config)
		fail_msg("%d for:\n%s", r, text);
	assert_memory_equal(error, path, strlen(path));
	if (strncmp(error + strlen(path), words[0], strlen(words[0])))
		fail_msg("'%s' does not name the line of:\n%s", error, text);
	for (size_t j = 1; j < 3 && words[j]; j++) {
		if (!strstr(error, words[j]))
			fail_msg("'%s' does not say '%s'", error, words[j]);
	}
}

static void what_is_wrong_is_said_with_line_and_remedy(void **state)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check_said(wrong[i].text, wrong[i].words);
}

static const char *const files[][2] = {
	{"files: [], low: 4096", "files has 0 entries; write 1 to 64"},
	{"path: a, files: [b], low: 4096", "both 'path' and 'files'"},
	{"low: 4096", "no path; add 'path: FILE'"},
	{"files: x, low: 4096", "files takes a list"},
};

static void several_files_are_a_list_of_paths(void **state)
{
	static const char good[] = "tls: {ca: a, cert: b, key: c}\nendpoints:\n"
				   "  - {name: e, adapter: file, files: [/x, y%s], low: 4096}\n";
	struct config *one, *two, *bad;
	char text[1024];

	snprintf(text, sizeof(text), good, "");
	one = load_good(text);
	assert_int_equal(one->endpoints[0].nfiles, 2);
	assert_string_equal(one->endpoints[0].files[0], "/x");
	assert_int_equal(one->endpoints[0].files[1][0], '/');
	snprintf(text, sizeof(text), good, "2");
	two = load_good(text);
	assert_true(config_endpoint_equal(&one->endpoints[0], &one->endpoints[0]));
	assert_false(config_endpoint_equal(&one->endpoints[0], &two->endpoints[0]));
	config_unref(one);
	config_unref(two);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(text, sizeof(text),
			"tls: {ca: a, cert: b, key: c}\nendpoints:\n"
			"  - {name: e, adapter: file, %s}\n",
			files[i][0]);
		assert_int_equal(load(&bad, text), VMSIG_ERR_BAD_REQUEST);
		if (!strstr(error, files[i][1]))
			fail_msg("%s", error);
	}
}

static const char *const writes[][2] = {
	{"role: sensor, uids: [1], write: [{endpoints: [a]}]", "only operators"},
	{"role: operator, uids: [1], write: [{}]", "'endpoints' is missing"},
	{"role: admin, uids: [1], fleet: [a]", "only operators and sensors"},
	{"role: sensor, uids: [1], fleet: [a, 'label:b=c']", "labels of other hosts"},
	{"role: operator, uids: [1], write: [{endpoints: [a], ttl_min: 2s, ttl_max: 1s}]",
		"ttl_min is above ttl_max"},
	{"role: operator, uids: [1], write: [{endpoints: [a], ranges: "
	 "[{gpa: 0xfffffffffffff000, len: 8KiB}]}]",
		"wraps around"},
};

static void wrong_write_rules_are_refused(void **state)
{
	struct config *config;
	char text[1024];

	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		snprintf(text, sizeof(text),
			"tls: {ca: a, cert: b, key: c}\ntenants:\n  - {name: t, %s}\n",
			writes[i][0]);
		assert_int_equal(load(&config, text), VMSIG_ERR_BAD_REQUEST);
		if (!strstr(error, writes[i][1]))
			fail_msg("%s", error);
	}
}

static void the_first_rule_that_matches_counts(void **state)
{
	struct config *config =
		load_good("tls: {ca: a, cert: b, key: c}\n"
			  "tenants:\n"
			  "  - {name: t, role: operator, uids: [1], endpoints: ['web*'], write: [\n"
			  "      {endpoints: [web1], priority_max: 1}, {endpoints: ['web*', x], "
			  "leases: 2}]}\n"
			  "  - {name: u, role: operator, uids: [1], endpoints: ['*']}\n");
	const struct grant_tenant *t = &config->tenants[0];

	assert_int_equal(rule_for(t, "web1")->priority_max, 1);
	assert_int_equal(rule_for(t, "web2")->leases, 2);
	assert_null(rule_for(t, "db1"));
	/* Named by a rule, but not to be seen. */
	assert_null(rule_for(t, "x"));
	assert_null(rule_for(&config->tenants[1], "web1"));
	config_unref(config);
}

static void a_file_that_is_not_there_is_named(void **state)
{
	struct config *config = NULL;

	assert_int_equal(
		config_load(&config, "/nonexistent/x.yaml", error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/x.yaml"));
	assert_int_equal(config_load(&config, dir, error, sizeof(error)), VMSIG_ERR_BAD_REQUEST);
	assert_non_null(strstr(error, "not a file"));
}

static void expect_bad(const char *text, const char *words)
{
	struct config *config = NULL;

	assert_int_equal(load(&config, text), VMSIG_ERR_BAD_REQUEST);
	if (!strstr(error, words))
		fail_msg("no '%s' in: %s", words, error);
}

/* Ten levels of nine references each would be billions of values if they were copied. */
static void aliases_are_refused(void **state)
{
	expect_bad(TLS "log: &a [x]\n"
		       "limits: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
		       "endpoints: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n",
		"vmsigd.yaml:3: aliases (*name) are not known here");
}

static void a_second_document_is_no_secret(void **state)
{
	expect_bad(TLS "---\ntenants: []\n", "vmsigd.yaml:2: a second document begins here");
}

/* A parser that goes on would not come back for minutes, or use up the host. */
static void a_file_costs_what_a_file_may(void **state)
{
	size_t size = 4u << 20;
	char *text = malloc(size + 1);

	assert_non_null(text);
	memset(text, '[', size);
	text[size] = '\0';
	expect_bad(text, "nested too deeply");
	for (size_t i = 0; i < size; i += 2)
		memcpy(text + i, "- ", 2);
	expect_bad(text, "nested too deeply");
	memcpy(text, "a: [", 4);
	for (size_t i = 4; i < size; i += 2)
		memcpy(text + i, "1,", 2);
	expect_bad(text, "more in the file than any configuration has");
	free(text);
}

static void octal_is_not_guessed(void **state)
{
	expect_bad(TLS "tenants: [{name: a, role: sensor, uids: [010]}]\n", "'010' is no value");
}

static void the_end_can_be_marked(void **state)
{
	struct config *config = load_good(TLS "...\n");

	assert_true(config->ended);
	config_unref(config);
	config = load_good(TLS);
	assert_false(config->ended);
	config_unref(config);
}

static void many_names_are_found(void **state)
{
	size_t size = 4u << 20, n = 20000;
	char *text = malloc(size), name[32];
	struct config *config;
	int at = snprintf(text, size, TLS "limits: {endpoints: 100000}\nendpoints:\n");

	for (size_t i = 0; i < n; i++)
		at += snprintf(text + at, size - (size_t)at,
			"- {name: e%zu, adapter: qemu, qmp: q%zu}\n", (i * 7919) % n, i);
	config = load_good(text);
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "e%zu", i);
		assert_string_equal(config_endpoint_find(config, name)->name, name);
	}
	assert_null(config_endpoint_find(config, "e"));
	config_unref(config);
	snprintf(text + at, size - (size_t)at, "- {name: e5, adapter: qemu, qmp: q}\n");
	expect_bad(text, "vmsigd.yaml:20004: the name 'e5' is taken by the endpoint in line");
	free(text);
}

static void the_example_is_valid(void **state)
{
	struct config *config = NULL;

	if (config_load(&config, EXAMPLE_CONFIG, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(config->nendpoints, 4);
	assert_int_equal(config->ntenants, 3);
	config_unref(config);
}

/* Each "#key: value" of the example, put in force, is known and equals the default. */
static void what_the_example_comments_out_is_the_default(void **state)
{
	const size_t numbers = offsetof(struct grant_rule, ttl_min_ns);
	struct config *with = NULL, *without = NULL;
	char line[512], text[32768] = "";
	FILE *file = fopen(EXAMPLE_CONFIG, "re");
	int uncommented = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		char *hash = line + strspn(line, " ");

		if (*hash == '#' && hash[1] != ' ' && hash[1] != '\n' && !strstr(line, "crl:")) {
			memmove(hash, hash + 1, strlen(hash));
			uncommented++;
		} else if (strncmp(hash, "#  connections:", 15) == 0 ||
			   strncmp(hash, "#  subscriptions:", 17) == 0 ||
			   strncmp(hash, "#  pending:", 11) == 0 ||
			   strncmp(hash, "#  queued:", 10) == 0) {
			memmove(hash, hash + 1, strlen(hash));
			uncommented++;
		}
		assert_true(strlen(text) + strlen(line) < sizeof(text));
		strcat(text, line);
	}
	fclose(file);
	assert_true(uncommented >= 20);
	assert_int_equal(config_load(&without, EXAMPLE_CONFIG, error, sizeof(error)), 0);
	with = load_good(text);
	assert_string_equal(with->state_dir, without->state_dir);
	assert_memory_equal(&with->core, &without->core, sizeof(with->core));
	assert_int_equal(with->max_connections, without->max_connections);
	assert_int_equal(with->max_handshakes, without->max_handshakes);
	assert_int_equal(with->max_frame, without->max_frame);
	assert_int_equal(with->handshake_timeout_ms, without->handshake_timeout_ms);
	assert_int_equal(with->tx_max, without->tx_max);
	assert_int_equal(with->tx_soft, without->tx_soft);
	assert_int_equal(with->soft_ms, without->soft_ms);
	assert_int_equal(with->vouch_ns, without->vouch_ns);
	for (size_t i = 0; i < with->nendpoints; i++) {
		const struct config_endpoint *a = &with->endpoints[i];
		const struct config_endpoint *b = &without->endpoints[i];

		assert_int_equal(a->min_guard, b->min_guard);
		assert_int_equal(a->poll_ms, b->poll_ms);
		assert_int_equal(a->reprove_ms, b->reprove_ms);
		assert_int_equal(a->retry_ms, b->retry_ms);
		assert_int_equal(a->retry_max_ms, b->retry_max_ms);
		assert_int_equal(a->qmp_timeout_ms, b->qmp_timeout_ms);
	}
	assert_memory_equal(&with->tenants[0].tenant.quota, &without->tenants[0].tenant.quota,
		sizeof(with->tenants[0].tenant.quota));
	assert_int_equal(with->tenants[0].queued_max, without->tenants[0].queued_max);
	assert_memory_equal(&with->leases, &without->leases, sizeof(with->leases));
	assert_memory_equal(&with->audit, &without->audit, sizeof(with->audit));
	assert_int_equal(with->tenants[1].nrules, 1);
	/* Behind the lists, which are allocated, there is nothing but numbers. */
	assert_memory_equal((const char *)with->tenants[1].rules + numbers,
		(const char *)without->tenants[1].rules + numbers,
		sizeof(struct grant_rule) - numbers);
	assert_int_equal(with->tenants[0].tenant.min_guard, without->tenants[0].tenant.min_guard);
	config_unref(with);
	config_unref(without);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_there_is_gets_defaults),
		cmocka_unit_test(endpoints_are_decoded),
		cmocka_unit_test(the_policy_denies_what_it_does_not_name),
		cmocka_unit_test(what_is_wrong_is_said_with_line_and_remedy),
		cmocka_unit_test(several_files_are_a_list_of_paths),
		cmocka_unit_test(wrong_write_rules_are_refused),
		cmocka_unit_test(the_first_rule_that_matches_counts),
		cmocka_unit_test(a_file_that_is_not_there_is_named),
		cmocka_unit_test(aliases_are_refused),
		cmocka_unit_test(a_second_document_is_no_secret),
		cmocka_unit_test(a_file_costs_what_a_file_may),
		cmocka_unit_test(octal_is_not_guessed),
		cmocka_unit_test(the_end_can_be_marked),
		cmocka_unit_test(many_names_are_found),
		cmocka_unit_test(the_example_is_valid),
		cmocka_unit_test(what_the_example_comments_out_is_the_default),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
