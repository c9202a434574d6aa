/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl fleet`: who may write to which guest, as the local broker and its fleet have it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/fleet.h"
#include "clients/ctl/message.h"

static const struct ctl_command fleet_ls, fleet_hosts, fleet_where, fleet_bump;

#define HOSTS_MAX 256u

/* ---- asking ---- */

/* The answer is the connection's. */
static int ask(
	const struct ctl *ctl, struct ctl_fleet *ret_fleet, const Vmsig__FleetView **ret_view)
{
	int code = ctl_fleet_open(ctl, ret_fleet);

	if (code)
		return code;
	code = ctl_fleet_ask(ret_fleet, ret_view);
	if (code)
		ctl_fleet_close(ret_fleet);
	return code;
}

static int no_arguments(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv)
{
	int code = ctl_options(ctl, command, argc, argv, NULL, NULL, NULL);

	if (!code && optind != argc)
		code = ctl_usage(command, "it takes no arguments");
	return code;
}

/* ---- ls ---- */

/* 0: that is not known, or not told. */
static void number_add(struct table *table, uint64_t number)
{
	if (number)
		table_add(table, "%" PRIu64, number);
	else
		table_add(table, "-");
}

static void guest_add(struct table *table, const Vmsig__FleetGuest *guest)
{
	table_add(table, "%s", guest->endpoint[0] ? guest->endpoint : "-");
	table_add(table, "%s", guest->uuid);
	table_add(table, "%s", guest->state);
	table_add(table, "%s", guest->holder[0] ? guest->holder : "-");
	table_add(table, "%s", guest->name[0] ? guest->name : "-");
	number_add(table, guest->present);
	number_add(table, guest->token);
	table_add(table, "%.1f s", (double)guest->right_ms / 1000.0);
}

static int print_guests(const Vmsig__FleetView *view)
{
	static const struct table_column columns[] = {{"ENDPOINT", 0, false}, {"UUID", 0, false},
		{"STATE", 9, false}, {"HOST", 0, false}, {"AS", 0, false}, {"EPOCH", 6, true},
		{"TOKEN", 0, true}, {"RIGHT", 7, true}};
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < view->n_guests; i++)
		guest_add(&table, view->guests[i]);
	code = ctl_print_table(&table);
	table_deinit(&table);
	ctl_fleet_complain(view);
	return code;
}

static int run_ls(struct ctl *ctl, int argc, char **argv)
{
	const Vmsig__FleetView *view;
	struct ctl_fleet fleet;
	int code = no_arguments(ctl, &fleet_ls, argc, argv);

	if (!code)
		code = ask(ctl, &fleet, &view);
	if (code)
		return code;
	code = ctl->json ? ctl_print_json(ctl_message_json(&view->base)) : print_guests(view);
	ctl_fleet_close(&fleet);
	return code;
}

static const struct ctl_command fleet_ls = {
	.name = "fleet ls",
	.arguments = "",
	.summary = "List the fleet's guests, of all hosts",
	.help = "STATE is OWNED where this host may write, for RIGHT; FOREIGN where HOST may, and\n"
		"SILENT where HOST has not been heard of lately. ENDPOINT is the guest's name\n"
		"here, AS that on HOST. An administrator of a part sees guests whose endpoint\n"
		"here, or else whose name on HOST, is of that part; sensors and operators see "
		"those\n"
		"with an endpoint here that they may see, and others as the key 'fleet' of the\n"
		"policy allows. EPOCH is told of guests of this host.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet ls\n"
		"  vmsigctl fleet ls --json | jq '.guests[] | select(.state != \"OWNED\")'\n",
	.run = run_ls,
};

/* ---- hosts ---- */

/* How many guests each host has, as far as this one knows. */
static int print_hosts(const Vmsig__FleetView *view)
{
	static const struct table_column columns[] = {{"HOST", 0, false}, {"GUESTS", 6, true}};
	const char *hosts[HOSTS_MAX] = {view->host};
	unsigned counts[HOSTS_MAX] = {0};
	size_t n = 1;
	struct table table;
	int code;

	for (size_t i = 0; i < view->n_guests; i++) {
		const char *host = view->guests[i]->holder;
		size_t at = 0;

		while (at < n && strcmp(hosts[at], host) != 0)
			at++;
		if (!host[0] || at == HOSTS_MAX)
			continue;
		if (at == n)
			hosts[n++] = host;
		counts[at]++;
	}
	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < n; i++) {
		table_add(&table, "%s", hosts[i]);
		table_add(&table, "%u", counts[i]);
	}
	code = ctl_print_table(&table);
	table_deinit(&table);
	ctl_fleet_complain(view);
	return code;
}

static int run_hosts(struct ctl *ctl, int argc, char **argv)
{
	const Vmsig__FleetView *view;
	struct ctl_fleet fleet;
	int code = no_arguments(ctl, &fleet_hosts, argc, argv);

	if (!code)
		code = ask(ctl, &fleet, &view);
	if (code)
		return code;
	code = ctl->json ? ctl_print_json(ctl_message_json(&view->base)) : print_hosts(view);
	ctl_fleet_close(&fleet);
	return code;
}

static const struct ctl_command fleet_hosts = {
	.name = "fleet hosts",
	.arguments = "",
	.summary = "List hosts that have guests",
	.help = "The first one is this host.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet hosts\n",
	.run = run_hosts,
};

/* ---- where ---- */

/* Names are each host's own: that on another host is only looked at when there is none here. */
static size_t count(const Vmsig__FleetView *view, const char *name, bool there,
	const Vmsig__FleetGuest **ret_guest)
{
	size_t n = 0;

	for (size_t i = 0; i < view->n_guests; i++) {
		const Vmsig__FleetGuest *guest = view->guests[i];
		bool same = there ? !guest->endpoint[0] && strcmp(guest->name, name) == 0
				  : strcmp(guest->endpoint, name) == 0 ||
					    strcmp(guest->uuid, name) == 0;

		if (!same)
			continue;
		*ret_guest = guest;
		n++;
	}
	return n;
}

/* EXIT_OK, or the exit code after a message. */
static int find(const Vmsig__FleetView *view, const char *name, const Vmsig__FleetGuest **ret_guest)
{
	size_t n = count(view, name, false, ret_guest);

	if (!n)
		n = count(view, name, true, ret_guest);
	if (n == 1)
		return EXIT_OK;
	if (n)
		fprintf(stderr,
			"vmsigctl: %s: %zu guests of the fleet have that name; say the UUID, which "
			"'vmsigctl fleet ls' shows\n",
			name, n);
	else
		fprintf(stderr, "vmsigctl: %s: no guest of the fleet that you may see\n", name);
	return EXIT_NOT_FOUND;
}

/* A state in which the store is asked, or cannot be, says nothing of other hosts. */
static const char *holder_of(const Vmsig__FleetGuest *guest)
{
	if (guest->holder[0])
		return guest->holder;
	return strcmp(guest->state, "FOREIGN") == 0 ? "nobody" : "unknown";
}

static int print_where(const struct ctl *ctl, const Vmsig__FleetView *view, const char *name)
{
	const Vmsig__FleetGuest *guest = NULL;
	int code = find(view, name, &guest);

	ctl_fleet_complain(view);
	if (code)
		return code;
	if (ctl->json)
		return ctl_print_json(ctl_message_json(&guest->base));
	puts(holder_of(guest));
	return ctl_flush();
}

static int run_where(struct ctl *ctl, int argc, char **argv)
{
	const Vmsig__FleetView *view;
	struct ctl_fleet fleet;
	int code = ctl_options(ctl, &fleet_where, argc, argv, NULL, NULL, NULL);

	if (!code && optind + 1 != argc)
		code = ctl_usage(&fleet_where, "it takes an endpoint's name or a UUID");
	if (!code)
		code = ask(ctl, &fleet, &view);
	if (code)
		return code;
	code = print_where(ctl, view, argv[optind]);
	ctl_fleet_close(&fleet);
	return code;
}

static const struct ctl_command fleet_where = {
	.name = "fleet where",
	.arguments = "NAME|UUID",
	.summary = "Print the host that may write to a guest",
	.help = "NAME is that of an endpoint here, or else on the host that has the guest.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet where web1\n",
	.run = run_where,
};

/* ---- bump ---- */

static int run_bump(struct ctl *ctl, int argc, char **argv)
{
	Vmsig__FleetBump body = VMSIG__FLEET_BUMP__INIT;
	const Vmsig__AdminMessage *answer;
	vmsig_admin *admin;
	int code = no_arguments(ctl, &fleet_bump, argc, argv);

	if (!code)
		code = ctl_admin_connect(ctl, &admin);
	if (code)
		return code;
	code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_FLEET_BUMP, &body,
		VMSIG__ADMIN_MESSAGE__BODY_DONE, &answer, "cannot bump the fleet");
	vmsig_admin_close(admin);
	if (!code && !ctl->json)
		puts("asked for; `vmsigctl fleet ls` says when the fleet goes on");
	return code ? code : ctl_flush();
}

static const struct ctl_command fleet_bump = {
	.name = "fleet bump",
	.arguments = "",
	.summary = "Trust the fleet's etcd as it is now, after it was restored or replaced",
	.help = "First see that it is the etcd that all hosts use, and stop brokers that use "
		"another.\n"
		"Epochs and tokens go on above those that any host remembers.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet bump --identity admin\n",
	.run = run_bump,
};

/* ---- the group ---- */

static const struct ctl_action actions[] = {{"ls", &fleet_ls}, {"hosts", &fleet_hosts},
	{"leases", &ctl_fleet_leases}, {"where", &fleet_where}, {"watch", &ctl_fleet_watch},
	{"bump", &fleet_bump}};

static int run_fleet(struct ctl *ctl, int argc, char **argv)
{
	return ctl_run_action(ctl, &ctl_fleet, actions, sizeof(actions) / sizeof(actions[0]),
		"say ls, hosts, leases, where, watch or bump", argc, argv);
}

const struct ctl_command ctl_fleet = {
	.name = "fleet",
	.arguments = "ls | hosts | leases | where NAME | watch | bump",
	.summary = "Show which host may write to which guest",
	.help = "  ls             guests, of all hosts\n"
		"  hosts          hosts that have them\n"
		"  leases         their leases\n"
		"  where          the host of one\n"
		"  watch          each change of a guest's state or host\n"
		"  bump           trust the fleet's etcd as it is now\n"
		"\n"
		"The local broker is asked, for what the policy lets this identity see; nobody "
		"but\n"
		"brokers has a certificate for etcd.\n",
	.has_command = true,
	.has_actions = true,
	.run = run_fleet,
};
