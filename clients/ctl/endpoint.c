/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl endpoint`: the broker's endpoints, for administrators. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/admin.h"
#include "clients/ctl/hosted.h"
#include "clients/ctl/message.h"

#define NUMBERS 7      /* columns between STATE and FROM */
#define YAML_MAX 7000u /* bytes: what a request may have */

static const struct ctl_command endpoint_ls, endpoint_add, endpoint_remove, endpoint_invalidate;

/* ---- ls ---- */

/* Brokers of before know two. */
static const char *origin_of(const Vmsig__Hosted *endpoint)
{
	return endpoint->origin[0] ? endpoint->origin : endpoint->added ? "added" : "config";
}

static void row_add(struct table *table, const Vmsig__Hosted *endpoint)
{
	table_add(table, "%s", endpoint->name);
	table_add(table, "%s", vmsig_state_name(endpoint->state));
	table_colour(table, endpoint->state == VMSIG_STATE_READY ? TABLE_GOOD : TABLE_ODD);
	table_add(table, "%u", endpoint->epoch);
	table_add(table, "%s", endpoint->adapter);
	table_add(table, "%u", endpoint->subscribers);
	table_add(table, "%u", endpoint->leases);
	table_add(table, "%u", endpoint->waiters);
	table_add(table, "%" PRIu64, endpoint->writes);
	table_add(table, "%" PRIu64, endpoint->refused);
	table_add(table, "%s", origin_of(endpoint));
	table_add(table, "%s", endpoint->uuid[0] ? endpoint->uuid : "-");
	table_add(table, "%s", endpoint->detail);
}

/* What was discovered and is none. */
static void unserved_add(struct table *table, const Vmsig__Unserved *one)
{
	table_add(table, "%s", one->name[0] ? one->name : "-");
	table_add(table, "unserved");
	table_colour(table, TABLE_ODD);
	for (unsigned i = 0; i < NUMBERS; i++)
		table_add(table, "-");
	table_add(table, "%s", one->origin);
	table_add(table, "-");
	table_add(table, "%s: %s", one->place, one->detail);
}

static void unserved_append(json_t *array, const Vmsig__Unserved *one)
{
	json_t *object = ctl_message_json(&one->base);

	json_object_set_new(object, "unserved", json_true());
	json_array_append_new(array, object);
}

static int print_list(const struct ctl *ctl, const struct hosted_list *list)
{
	static const struct table_column columns[] = {{"NAME", 0, false}, {"STATE", 8, false},
		{"EPOCH", 7, true}, {"ADAPTER", 7, false}, {"HOLDERS", 7, true},
		{"LEASES", 6, true}, {"WAITING", 7, true}, {"WRITES", 8, true},
		{"REFUSED", 7, true}, {"FROM", 8, false}, {"UUID", 0, false}, {"DETAIL", 0, false}};
	const Vmsig__HostedInfos *last = list->pages[list->npages - 1];
	struct table table;
	int code;

	if (ctl->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < list->n; i++)
			json_array_append_new(array, ctl_hosted_json(list->endpoints[i]));
		for (size_t i = 0; i < last->n_unserved; i++)
			unserved_append(array, last->unserved[i]);
		return ctl_print_json(array);
	}
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < list->n; i++)
		row_add(&table, list->endpoints[i]);
	for (size_t i = 0; i < last->n_unserved; i++)
		unserved_add(&table, last->unserved[i]);
	code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

static int run_ls(struct ctl *ctl, int argc, char **argv)
{
	int code = ctl_options(ctl, &endpoint_ls, argc, argv, NULL, NULL, NULL);
	struct hosted_list list = {0};
	vmsig_admin *admin;

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(&endpoint_ls, "it takes no arguments");
	code = ctl_admin_connect(ctl, &admin);
	if (code)
		return code;
	code = ctl_hosted_list(ctl, admin, &list);
	if (!code)
		code = print_list(ctl, &list);
	ctl_hosted_clear(&list);
	vmsig_admin_close(admin);
	return code;
}

static const struct ctl_command endpoint_ls = {
	.name = "endpoint ls",
	.arguments = "",
	.summary = "List endpoints with their holders, leases and writes",
	.help = "Examples:\n"
		"  vmsigctl endpoint ls --identity admin\n"
		"FROM says who named it: config, added, or how it was discovered: qmp, libvirt,\n"
		"provider. What was discovered and is not served stands below, with what to do.\n",
	.run = run_ls,
};

/* ---- add ---- */

/* "labels.env=prod" goes into the mapping `labels`. */
static bool pair_add(json_t *endpoint, const char *pair)
{
	const char *equals = strchr(pair, '='), *dot;
	char key[80];
	json_t *map = endpoint;

	if (!equals || equals == pair || (size_t)(equals - pair) >= sizeof(key))
		return false;
	snprintf(key, sizeof(key), "%.*s", (int)(equals - pair), pair);
	dot = strchr(key, '.');
	if (dot && strncmp(key, "labels.", 7) == 0) {
		map = json_object_get(endpoint, "labels");
		if (!map) {
			map = json_object();
			json_object_set_new(endpoint, "labels", map);
		}
		return json_object_set_new(map, dot + 1, json_string(equals + 1)) == 0;
	}
	return json_object_set_new(map, key, json_string(equals + 1)) == 0;
}

static int read_yaml(const char *path, char text[static YAML_MAX + 1])
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	size_t len;

	if (!file)
		return ctl_fail(VMSIG_ERR_IO, "%s: %s", path, strerror(errno));
	len = fread(text, 1, YAML_MAX + 1, file);
	if (file != stdin)
		fclose(file);
	if (len > YAML_MAX)
		return ctl_fail(VMSIG_ERR_BAD_REQUEST, "%s: more than %u bytes", path, YAML_MAX);
	text[len] = '\0';
	return EXIT_OK;
}

/* One request that is answered with Done. */
static int tell(const struct ctl *ctl, Vmsig__AdminRequest__BodyCase body_case, void *body,
	const char *done, const char *name)
{
	const Vmsig__AdminMessage *answer;
	vmsig_admin *admin;
	int code = ctl_admin_connect(ctl, &admin);

	if (code)
		return code;
	code = ctl_admin_ask(
		ctl, admin, body_case, body, VMSIG__ADMIN_MESSAGE__BODY_DONE, &answer, name);
	if (!code && ctl->json)
		code = ctl_print_json(json_pack("{s:s}", done, name));
	else if (!code)
		printf("%s: %s\n", done, name);
	vmsig_admin_close(admin);
	return code;
}

/* JSON is YAML. */
static int add_pairs(const struct ctl *ctl, int n, char **words)
{
	Vmsig__EndpointAdd body = VMSIG__ENDPOINT_ADD__INIT;
	json_t *endpoint = json_pack("{s:s}", "name", words[0]);
	int code = EXIT_OK;

	for (int i = 1; !code && i < n; i++) {
		if (!pair_add(endpoint, words[i]))
			code = ctl_usage(&endpoint_add, "'%s' is no KEY=VALUE", words[i]);
	}
	body.yaml = code ? NULL : json_dumps(endpoint, 0);
	json_decref(endpoint);
	if (code)
		return code;
	if (!body.yaml)
		return ctl_fail(VMSIG_ERR_BAD_REQUEST, "'%s' is no text", words[0]);
	code = tell(ctl, VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_ADD, &body, "added", words[0]);
	free(body.yaml);
	return code;
}

static int add_yaml(const struct ctl *ctl, const char *path)
{
	Vmsig__EndpointAdd body = VMSIG__ENDPOINT_ADD__INIT;
	char text[YAML_MAX + 1];
	int code = read_yaml(path, text);

	if (code)
		return code;
	body.yaml = text;
	return tell(ctl, VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_ADD, &body, "added", path);
}

enum { OPT_YAML = CTL_OPT_FIRST };

static bool handle_add(void *ctx, int code, const char *value)
{
	*(const char **)ctx = value;
	return code == OPT_YAML;
}

static int run_add(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"yaml", required_argument, NULL, OPT_YAML}, {NULL, 0, NULL, 0}};
	const char *path = NULL;
	int code = ctl_options(ctl, &endpoint_add, argc, argv, own, handle_add, &path);

	if (code)
		return code;
	if (path && optind == argc)
		return add_yaml(ctl, path);
	if (path || optind == argc)
		return ctl_usage(&endpoint_add, "it takes NAME KEY=VALUE..., or --yaml FILE");
	return add_pairs(ctl, argc - optind, argv + optind);
}

static const struct ctl_command endpoint_add = {
	.name = "endpoint add",
	.arguments = "NAME KEY=VALUE... | --yaml FILE",
	.summary = "Serve an endpoint that is not in the configuration",
	.help = "  --yaml FILE  one element of the configuration's `endpoints`; -: standard input\n"
		"\n"
		"Keys are those of the configuration. It is served until it is removed, until the\n"
		"configuration names it, or until the broker ends: what is to last belongs there.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl endpoint add web9 adapter=qemu qmp=/run/vmsig/qmp/web9.sock \\\n"
		"      writable=yes labels.env=prod\n",
	.run = run_add,
};

/* ---- remove, invalidate ---- */

static int one_name(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv)
{
	int code = ctl_options(ctl, command, argc, argv, NULL, NULL, NULL);

	if (!code && optind + 1 != argc)
		code = ctl_usage(command, "it takes the NAME of an endpoint");
	return code;
}

static int run_remove(struct ctl *ctl, int argc, char **argv)
{
	Vmsig__EndpointRemove body = VMSIG__ENDPOINT_REMOVE__INIT;
	int code = one_name(ctl, &endpoint_remove, argc, argv);

	if (code)
		return code;
	body.name = argv[optind];
	return tell(ctl, VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_REMOVE, &body, "removed", body.name);
}

static const struct ctl_command endpoint_remove = {
	.name = "endpoint remove",
	.arguments = "NAME",
	.summary = "Serve an endpoint that was added no more",
	.help = "Examples:\n"
		"  vmsigctl endpoint remove web9\n",
	.run = run_remove,
};

static int run_invalidate(struct ctl *ctl, int argc, char **argv)
{
	Vmsig__EndpointInvalidate body = VMSIG__ENDPOINT_INVALIDATE__INIT;
	int code = one_name(ctl, &endpoint_invalidate, argc, argv);

	if (code)
		return code;
	body.name = argv[optind];
	return tell(ctl, VMSIG__ADMIN_REQUEST__BODY_ENDPOINT_INVALIDATE, &body, "invalidated",
		body.name);
}

static const struct ctl_command endpoint_invalidate = {
	.name = "endpoint invalidate",
	.arguments = "NAME",
	.summary = "End an endpoint's epoch, as a reset of the guest does",
	.help = "Contexts are void, leases end, and the guest is looked at anew.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl endpoint invalidate web1\n",
	.run = run_invalidate,
};

/* ---- the group ---- */

static const struct ctl_action actions[] = {{"ls", &endpoint_ls}, {"add", &endpoint_add},
	{"remove", &endpoint_remove}, {"invalidate", &endpoint_invalidate}};

static int run_endpoint(struct ctl *ctl, int argc, char **argv)
{
	return ctl_run_action(ctl, &ctl_endpoint, actions, sizeof(actions) / sizeof(actions[0]),
		"say ls, add, remove or invalidate", argc, argv);
}

const struct ctl_command ctl_endpoint = {
	.name = "endpoint",
	.arguments = "ls | add NAME KEY=VALUE... | remove NAME | invalidate NAME",
	.summary = "List, add and end endpoints of the broker, as an administrator",
	.help = "  ls             list those that this administrator may see\n"
		"  add            serve one that is not in the configuration\n"
		"  remove         and no more\n"
		"  invalidate     end an epoch\n"
		"\n"
		"`vmsigctl endpoint add -h` and so on have options and examples.\n",
	.has_command = true,
	.has_actions = true,
	.run = run_endpoint,
};
