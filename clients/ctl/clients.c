/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl clients` and `disconnect`: who is connected to the broker, and is to be no more. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/admin.h"
#include "clients/ctl/message.h"
#include "proto/wire/identity.h"

static void row_add(struct table *table, const Vmsig__ClientInfo *info)
{
	table_add(table, "%" PRIu64, info->client);
	table_add(table, "%s", info->plane);
	table_add(table, "%s", info->role);
	table_add(table, "%s", info->tenant);
	table_add(table, "%u", info->uid);
	table_add(table, "%u", info->pid);
	table_add(table, "%.1f s", (double)info->age_ms / 1000.0);
	table_add(table, "%" PRIu64, info->queued_bytes);
	table_add(table, "%s", info->serial);
}

/* All pages. */
static int collect(const struct ctl *ctl, vmsig_admin *admin, struct table *table, json_t *array)
{
	Vmsig__ClientList body = VMSIG__CLIENT_LIST__INIT;
	bool more = true;
	int code = EXIT_OK;

	while (!code && more) {
		const Vmsig__AdminMessage *answer;

		code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_CLIENT_LIST, &body,
			VMSIG__ADMIN_MESSAGE__BODY_CLIENT_INFOS, &answer, "cannot list clients");
		if (code)
			break;
		for (size_t i = 0; i < answer->client_infos->n_clients; i++) {
			const Vmsig__ClientInfo *info = answer->client_infos->clients[i];

			if (array)
				json_array_append_new(array, ctl_message_json(&info->base));
			else
				row_add(table, info);
			body.after = info->client;
		}
		more = answer->client_infos->more && answer->client_infos->n_clients;
	}
	return code;
}

static int run_clients(struct ctl *ctl, int argc, char **argv)
{
	static const struct table_column columns[] = {{"CLIENT", 6, true}, {"PLANE", 5, false},
		{"ROLE", 8, false}, {"TENANT", 0, false}, {"UID", 6, true}, {"PID", 7, true},
		{"AGE", 9, true}, {"QUEUED", 7, true}, {"SERIAL", 0, false}};
	int code = ctl_options(ctl, &ctl_clients, argc, argv, NULL, NULL, NULL);
	json_t *array = NULL;
	vmsig_admin *admin;
	struct table table;

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(&ctl_clients, "it takes no arguments");
	code = ctl_admin_connect(ctl, &admin);
	if (code)
		return code;
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	if (ctl->json)
		array = json_array();
	code = collect(ctl, admin, &table, array);
	if (!code)
		code = array ? ctl_print_json(json_incref(array)) : ctl_print_table(&table);
	json_decref(array);
	table_deinit(&table);
	vmsig_admin_close(admin);
	return code;
}

const struct ctl_command ctl_clients = {
	.name = "clients",
	.arguments = "",
	.summary = "List who is connected to the broker, as an administrator of everything",
	.help = "QUEUED: bytes that the client has not read.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl clients --identity admin\n"
		"  vmsigctl clients --json | jq '.[] | select(.tenant == \"acme\")'\n",
	.run = run_clients,
};

/* ---- disconnect ---- */

enum { OPT_TENANT = CTL_OPT_FIRST, OPT_ROLE, OPT_UID };

static bool handle_disconnect(void *ctx, int code, const char *value)
{
	Vmsig__Disconnect *body = ctx;
	uint64_t uid;

	switch (code) {
	case OPT_TENANT:
		body->tenant = (char *)(uintptr_t)value;
		return value[0] != '\0';
	case OPT_ROLE:
		body->role = (char *)(uintptr_t)value;
		return identity_role_parse(value) != 0;
	default:
		if (!text_number(value, &uid) || uid > UINT32_MAX)
			return false;
		body->uid_given = true;
		body->uid = (uint32_t)uid;
		return true;
	}
}

static int disconnect(const struct ctl *ctl, Vmsig__Disconnect *body)
{
	const Vmsig__AdminMessage *answer;
	vmsig_admin *admin;
	int code = ctl_admin_connect(ctl, &admin);

	if (code)
		return code;
	code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_DISCONNECT, body,
		VMSIG__ADMIN_MESSAGE__BODY_DISCONNECTED, &answer, "cannot disconnect");
	if (!code && !answer->disconnected->clients)
		code = ctl_fail(VMSIG_ERR_BAD_REQUEST,
			"nobody who is connected fits that; `vmsigctl clients` shows who is");
	else if (!code && ctl->json)
		code = ctl_print_json(ctl_message_json(&answer->disconnected->base));
	else if (!code)
		printf("disconnected: %u\n", answer->disconnected->clients);
	vmsig_admin_close(admin);
	return code;
}

static int run_disconnect(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"tenant", required_argument, NULL, OPT_TENANT},
		{"role", required_argument, NULL, OPT_ROLE},
		{"uid", required_argument, NULL, OPT_UID}, {NULL, 0, NULL, 0}};
	Vmsig__Disconnect body = VMSIG__DISCONNECT__INIT;
	int code = ctl_options(ctl, &ctl_disconnect, argc, argv, own, handle_disconnect, &body);

	if (code)
		return code;
	if (optind + 1 < argc ||
		(optind < argc && (!text_number(argv[optind], &body.client) || !body.client)))
		return ctl_usage(&ctl_disconnect, "it takes the number of one client");
	if (!body.client && !body.tenant[0] && !body.role[0] && !body.uid_given)
		return ctl_usage(&ctl_disconnect, "say whom: a CLIENT, --tenant, --role or --uid");
	return disconnect(ctl, &body);
}

const struct ctl_command ctl_disconnect = {
	.name = "disconnect",
	.arguments = "[CLIENT] [--tenant NAME] [--role ROLE] [--uid UID]",
	.summary = "End connections to the broker, as an administrator of everything",
	.help = "  CLIENT         its number, as `vmsigctl clients` lists it\n"
		"  --tenant NAME  those of the tenant\n"
		"  --role ROLE    sensor, operator, admin, monitor or provider\n"
		"  --uid UID      those of the uid\n"
		"\n"
		"What fits all that is given is ended, but for the asking connection. Clients may\n"
		"come back as long as the policy lets them; a lease waits for its holder as after\n"
		"any loss of a connection (`vmsigctl lease revoke` takes it away).\n"
		"\n"
		"Examples:\n"
		"  vmsigctl disconnect 17 --identity admin\n"
		"  vmsigctl disconnect --tenant acme --role operator\n",
	.run = run_disconnect,
};
