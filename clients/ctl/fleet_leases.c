/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl fleet leases`: the leases of the fleet's guests that this host has. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/fleet.h"

/* What is asked of the broker. */
struct leases {
	const Vmsig__FleetView *view;
	vmsig_lease_entries *entries;
};

/* NULL: the endpoint is none of the fleet's. */
static const Vmsig__FleetGuest *guest_of(const struct leases *leases, const char *endpoint)
{
	const Vmsig__FleetView *view = leases->view;

	for (size_t i = 0; i < view->n_guests; i++) {
		if (strcmp(view->guests[i]->endpoint, endpoint) == 0)
			return view->guests[i];
	}
	return NULL;
}

static void lease_add(struct table *table, const vmsig_lease_entry *lease,
	const Vmsig__FleetGuest *guest, const char *host)
{
	table_add(table, "%" PRIu64, lease->id);
	table_add(table, "%s", lease->endpoint);
	table_add(table, "%s", guest->uuid);
	table_add(table, "%s", host);
	table_add(table, "%s", vmsig_lease_state_name(lease->state));
	table_add(table, "%u", lease->epoch);
	table_add(table, "%s/%u%s", lease->tenant, lease->uid, lease->connected ? "" : " (away)");
	table_add(table, "%.1f s", lease->remaining_ms / 1000.0);
}

static int print_leases(const struct leases *leases)
{
	static const struct table_column columns[] = {{"ID", 6, true}, {"ENDPOINT", 0, false},
		{"UUID", 0, false}, {"HOST", 0, false}, {"STATE", 8, false}, {"EPOCH", 6, true},
		{"HOLDER", 0, false}, {"LEFT", 8, true}};
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < leases->entries->count; i++) {
		const vmsig_lease_entry *lease = &leases->entries->entries[i];
		const Vmsig__FleetGuest *guest = guest_of(leases, lease->endpoint);

		if (guest)
			lease_add(&table, lease, guest, leases->view->host);
	}
	code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

static json_t *lease_json(
	const vmsig_lease_entry *lease, const Vmsig__FleetGuest *guest, const char *host)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:i, s:s, s:i, s:b, s:i}", "id",
		(json_int_t)lease->id, "endpoint", lease->endpoint, "uuid", guest->uuid, "host",
		host, "state", vmsig_lease_state_name(lease->state), "epoch", (int)lease->epoch,
		"tenant", lease->tenant, "uid", (int)lease->uid, "connected", lease->connected,
		"remaining_ms", (int)lease->remaining_ms);
}

static int print_json(const struct leases *leases)
{
	json_t *array = json_array();

	for (size_t i = 0; i < leases->entries->count; i++) {
		const vmsig_lease_entry *lease = &leases->entries->entries[i];
		const Vmsig__FleetGuest *guest = guest_of(leases, lease->endpoint);

		if (guest)
			json_array_append_new(array, lease_json(lease, guest, leases->view->host));
	}
	return ctl_print_json(array);
}

/* What is not in the list, and who has it. */
static void tell_of_others(const Vmsig__FleetView *view)
{
	for (size_t i = 0; i < view->n_guests; i++) {
		const Vmsig__FleetGuest *guest = view->guests[i];

		if (guest->holder[0] && strcmp(guest->holder, view->host) != 0)
			ctl_note("%s: host '%s' has it, whose broker knows its leases",
				guest->endpoint, guest->holder);
	}
}

static int run_leases(struct ctl *ctl, int argc, char **argv)
{
	struct leases leases = {0};
	vmsig_admin *admin;
	int code = ctl_options(ctl, &ctl_fleet_leases, argc, argv, NULL, NULL, NULL), r;

	if (!code && optind != argc)
		code = ctl_usage(&ctl_fleet_leases, "it takes no arguments");
	if (!code)
		code = ctl_admin_connect(ctl, &admin);
	if (code)
		return code;
	r = vmsig_admin_leases(admin, &leases.entries, (int)ctl->wait_ms);
	code = r ? ctl_fail(r, "cannot list leases: %s", vmsig_admin_last_error(admin))
		 : ctl_fleet_ask(ctl, admin, &leases.view);
	if (!code) {
		code = ctl->json ? print_json(&leases) : print_leases(&leases);
		tell_of_others(leases.view);
		ctl_fleet_complain(leases.view);
	}
	vmsig_lease_entries_free(leases.entries);
	vmsig_admin_close(admin);
	return code;
}

const struct ctl_command ctl_fleet_leases = {
	.name = "fleet leases",
	.arguments = "",
	.summary = "List the leases of the fleet's guests that this host has",
	.help = "Of a guest that another host has, that host's broker knows the leases.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet leases --identity admin\n"
		"  vmsigctl fleet leases --json | jq '.[] | select(.connected | not)'\n",
	.run = run_leases,
};
