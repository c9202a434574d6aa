/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmsigctl fleet leases`: the leases of the fleet's guests. Of those that this host has its broker
 * knows all; of others etcd has what was granted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/fleet.h"
#include "clients/ctl/operator.h"

#define CANNOT_LIST "cannot list leases"

/* What is asked of the broker. */
struct leases {
	const Vmsig__FleetView *view;
	vmsig_lease_entries *entries;
};

static bool is_here(const Vmsig__FleetView *view, const Vmsig__FleetGuest *guest)
{
	return strcmp(guest->holder, view->host) == 0;
}

/* Of a guest that this host has; NULL: the endpoint is none. */
static const Vmsig__FleetGuest *guest_of(const struct leases *leases, const char *endpoint)
{
	const Vmsig__FleetView *view = leases->view;

	for (size_t i = 0; i < view->n_guests; i++) {
		if (strcmp(view->guests[i]->endpoint, endpoint) == 0)
			return is_here(view, view->guests[i]) ? view->guests[i] : NULL;
	}
	return NULL;
}

/* ---- text ---- */

static void guest_add(struct table *table, uint64_t id, const Vmsig__FleetGuest *guest)
{
	table_add(table, "%" PRIu64, id);
	table_add(table, "%s", ctl_fleet_name(guest));
	table_add(table, "%s", guest->uuid);
	table_add(table, "%s", guest->holder);
}

/* Who others are is not told to an operator. */
static void holder_add(struct table *table, const char *tenant, uint32_t uid, const char *away)
{
	if (tenant[0])
		table_add(table, "%s/%u%s", tenant, uid, away);
	else
		table_add(table, "-%s", away);
}

static void lease_add(
	struct table *table, const vmsig_lease_entry *lease, const Vmsig__FleetGuest *guest)
{
	guest_add(table, lease->id, guest);
	table_add(table, "%s", vmsig_lease_state_name(lease->state));
	table_add(table, "%u", lease->epoch);
	holder_add(table, lease->tenant, lease->uid, lease->connected ? "" : " (away)");
	table_add(table, "%.1f s", lease->remaining_ms / 1000.0);
}

static void away_add(struct table *table, const Vmsig__FleetGuest *guest)
{
	for (size_t i = 0; i < guest->n_leases; i++) {
		const Vmsig__FleetLease *lease = guest->leases[i];

		guest_add(table, lease->lease, guest);
		table_add(table, "granted");
		table_add(table, "%u", lease->epoch);
		holder_add(table, lease->tenant, lease->uid, "");
		table_add(table, "-");
	}
}

static int print_leases(const struct leases *leases)
{
	static const struct table_column columns[] = {{"ID", 6, true}, {"ENDPOINT", 0, false},
		{"UUID", 0, false}, {"HOST", 0, false}, {"STATE", 8, false}, {"EPOCH", 6, true},
		{"HOLDER", 0, false}, {"LEFT", 8, true}};
	const Vmsig__FleetView *view = leases->view;
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < leases->entries->count; i++) {
		const vmsig_lease_entry *lease = &leases->entries->entries[i];
		const Vmsig__FleetGuest *guest = guest_of(leases, lease->endpoint);

		if (guest)
			lease_add(&table, lease, guest);
	}
	for (size_t i = 0; i < view->n_guests; i++) {
		if (!is_here(view, view->guests[i]))
			away_add(&table, view->guests[i]);
	}
	code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

/* ---- JSON ---- */

static json_t *guest_json(uint64_t id, const Vmsig__FleetGuest *guest, const char *state,
	uint32_t epoch, const char *tenant, uint32_t uid)
{
	json_t *json = json_pack("{s:I, s:s, s:s, s:s, s:s, s:I}", "id", (json_int_t)id, "endpoint",
		ctl_fleet_name(guest), "uuid", guest->uuid, "host", guest->holder, "state", state,
		"epoch", (json_int_t)epoch);

	if (tenant[0]) {
		json_object_set_new(json, "tenant", json_string(tenant));
		json_object_set_new(json, "uid", json_integer(uid));
	}
	return json;
}

static json_t *lease_json(const vmsig_lease_entry *lease, const Vmsig__FleetGuest *guest)
{
	json_t *json = guest_json(lease->id, guest, vmsig_lease_state_name(lease->state),
		lease->epoch, lease->tenant, lease->uid);

	json_object_set_new(json, "connected", json_boolean(lease->connected));
	json_object_set_new(json, "remaining_ms", json_integer(lease->remaining_ms));
	return json;
}

static void away_json(json_t *array, const Vmsig__FleetGuest *guest)
{
	for (size_t i = 0; i < guest->n_leases; i++) {
		const Vmsig__FleetLease *lease = guest->leases[i];
		json_t *json = guest_json(
			lease->lease, guest, "granted", lease->epoch, lease->tenant, lease->uid);

		json_object_set_new(json, "ttl_ms", json_integer(lease->ttl_ms));
		json_array_append_new(array, json);
	}
}

static int print_json(const struct leases *leases)
{
	const Vmsig__FleetView *view = leases->view;
	json_t *array = json_array();

	for (size_t i = 0; i < leases->entries->count; i++) {
		const vmsig_lease_entry *lease = &leases->entries->entries[i];
		const Vmsig__FleetGuest *guest = guest_of(leases, lease->endpoint);

		if (guest)
			json_array_append_new(array, lease_json(lease, guest));
	}
	for (size_t i = 0; i < view->n_guests; i++) {
		if (!is_here(view, view->guests[i]))
			away_json(array, view->guests[i]);
	}
	return ctl_print_json(array);
}

/* ---- the command ---- */

static int list_all(const struct ctl_fleet *fleet, vmsig_lease_entries **ret_entries)
{
	int r = vmsig_admin_leases(fleet->admin, ret_entries, (int)fleet->ctl->wait_ms);

	return r ? ctl_fail(r, CANNOT_LIST ": %s", vmsig_admin_last_error(fleet->admin)) : EXIT_OK;
}

static int list_own(const struct ctl_fleet *fleet, vmsig_lease_entries **ret_entries)
{
	vmsig_writer *writer;
	int code, r;

	if (fleet->ctl->socket)
		return ctl_usage(&ctl_fleet_leases,
			"an operator's are at two sockets, which --socket cannot name; set "
			"VMSIG_SOCKET and VMSIG_WRITE_SOCKET");
	code = ctl_writer_open(fleet->ctl, &writer);
	if (code)
		return code;
	r = vmsig_lease_list(writer, ret_entries, (int)fleet->ctl->wait_ms);
	if (r)
		code = ctl_fail(r, CANNOT_LIST ": %s", vmsig_writer_last_error(writer));
	vmsig_writer_close(writer);
	return code;
}

/* Of this host. */
static int list(const struct ctl_fleet *fleet, vmsig_lease_entries **ret_entries)
{
	switch (fleet->role) {
	case IDENTITY_SENSOR:
		ctl_fail_with(VMSIG_ERR_FORBIDDEN, "ask as an operator or an administrator",
			CANNOT_LIST ": sensors have none");
		return EXIT_NOT_FOUND;
	case IDENTITY_OPERATOR:
		return list_own(fleet, ret_entries);
	default:
		return list_all(fleet, ret_entries);
	}
}

static int run_leases(struct ctl *ctl, int argc, char **argv)
{
	struct leases leases = {0};
	struct ctl_fleet fleet;
	int code = ctl_options(ctl, &ctl_fleet_leases, argc, argv, NULL, NULL, NULL);

	if (!code && optind != argc)
		code = ctl_usage(&ctl_fleet_leases, "it takes no arguments");
	if (!code)
		code = ctl_fleet_open(ctl, &fleet);
	if (code)
		return code;
	code = list(&fleet, &leases.entries);
	if (!code)
		code = ctl_fleet_ask(&fleet, &leases.view);
	if (!code) {
		code = ctl->json ? print_json(&leases) : print_leases(&leases);
		ctl_fleet_complain(leases.view);
	}
	vmsig_lease_entries_free(leases.entries);
	ctl_fleet_close(&fleet);
	return code;
}

const struct ctl_command ctl_fleet_leases = {
	.name = "fleet leases",
	.arguments = "",
	.summary = "List the leases of the fleet's guests, of all hosts",
	.help = "Of a guest that another host has, what was granted and has not ended (state\n"
		"granted): how long it lasts yet, and who waits, that host's broker knows.\n"
		"ENDPOINT is the guest's name here, or else on HOST. An operator is not told "
		"whose\n"
		"others' leases are; it asks ctx.sock and write.sock.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl fleet leases\n"
		"  vmsigctl fleet leases --json | jq '.[] | select(.host == \"host2\")'\n",
	.run = run_leases,
};
