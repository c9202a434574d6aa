/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl lease`: what is held, given back or taken away. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/admin.h"
#include "clients/ctl/operator.h"

#define RANGES_SHOWN 3u   /* in a table */
#define RANGE_TEXT_MAX 40 /* two numbers of 64 bits */

static const struct ctl_command lease_ls, lease_release, lease_revoke;

/* ---- ls ---- */

static json_t *entry_json(const vmsig_lease_entry *entry)
{
	json_t *json = json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:o}", "id",
		(json_int_t)entry->id, "endpoint", entry->endpoint, "state",
		vmsig_lease_state_name(entry->state), "epoch", (json_int_t)entry->epoch, "priority",
		(json_int_t)entry->priority, "ttl_ms", (json_int_t)entry->ttl_ms, "remaining_ms",
		(json_int_t)entry->remaining_ms, "mine", entry->mine, "connected", entry->connected,
		"ranges", value_ranges(entry->ranges, entry->nranges));

	/* Who others are is not told to an operator. */
	if (entry->tenant[0]) {
		json_object_set_new(json, "tenant", json_string(entry->tenant));
		json_object_set_new(json, "uid", json_integer(entry->uid));
	}
	return json;
}

static const char *holder_text(const vmsig_lease_entry *entry, char *buf, size_t size)
{
	const char *away = entry->connected ? "" : " (away)";

	if (entry->tenant[0])
		snprintf(buf, size, "%s/%u%s", entry->tenant, entry->uid, away);
	else
		snprintf(buf, size, "-%s", away);
	return buf;
}

/* The broker tells of a lease without ranges as one of every address there is. */
static bool is_all(const vmsig_lease_entry *entry)
{
	return !entry->nranges || (entry->nranges == 1 && entry->ranges[0].start == 0 &&
					  entry->ranges[0].last == UINT64_MAX);
}

static void ranges_text(const vmsig_lease_entry *entry, char *buf, size_t size)
{
	size_t len = 0;

	if (is_all(entry)) {
		snprintf(buf, size, "all");
		return;
	}
	for (size_t i = 0; i < entry->nranges && i < RANGES_SHOWN; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s0x%" PRIx64 "+0x%" PRIx64,
			i ? "," : "", entry->ranges[i].start,
			entry->ranges[i].last - entry->ranges[i].start + 1);
	if (entry->nranges > RANGES_SHOWN)
		snprintf(buf + len, size - len, " and %zu more", entry->nranges - RANGES_SHOWN);
}

static int print_table(const vmsig_lease_entries *entries)
{
	static const struct table_column columns[] = {{"ID", 6, true}, {"ENDPOINT", 0, false},
		{"STATE", 8, false}, {"HOLDER", 0, false}, {"PRIORITY", 8, true}, {"TTL", 8, true},
		{"LEFT", 8, true}, {"RANGES", 0, false}};
	char holder[VMSIG_NAME_MAX + 32], ranges[RANGES_SHOWN * RANGE_TEXT_MAX + 32];
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < entries->count; i++) {
		const vmsig_lease_entry *entry = &entries->entries[i];

		ranges_text(entry, ranges, sizeof(ranges));
		table_add(&table, "%" PRIu64, entry->id);
		table_add(&table, "%s", entry->endpoint);
		table_add(&table, "%s", vmsig_lease_state_name(entry->state));
		table_add(&table, "%s", holder_text(entry, holder, sizeof(holder)));
		table_add(&table, "%u", entry->priority);
		table_add(&table, "%.1f s", entry->ttl_ms / 1000.0);
		table_add(&table, "%.1f s", entry->remaining_ms / 1000.0);
		table_add(&table, "%s", ranges);
	}
	code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

static int list_own(const struct ctl *ctl, vmsig_lease_entries **ret_entries)
{
	vmsig_writer *writer;
	int code = ctl_writer_open(ctl, &writer), r;

	if (code)
		return code;
	r = vmsig_lease_list(writer, ret_entries, (int)ctl->wait_ms);
	if (r)
		code = ctl_fail(r, "cannot list leases: %s", vmsig_writer_last_error(writer));
	vmsig_writer_close(writer);
	return code;
}

static int list_all(const struct ctl *ctl, vmsig_lease_entries **ret_entries)
{
	vmsig_admin *admin;
	int code = ctl_admin_connect(ctl, &admin), r;

	if (code)
		return code;
	r = vmsig_admin_leases(admin, ret_entries, (int)ctl->wait_ms);
	if (r)
		code = ctl_fail(r, "cannot list leases: %s", vmsig_admin_last_error(admin));
	vmsig_admin_close(admin);
	return code;
}

enum { OPT_ALL = CTL_OPT_FIRST };

static bool handle_ls(void *ctx, int code, const char *value)
{
	*(bool *)ctx = true;
	return code == OPT_ALL;
}

static int run_ls(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"all", no_argument, NULL, OPT_ALL}, {NULL, 0, NULL, 0}};
	vmsig_lease_entries *entries;
	bool all = false;
	int code = ctl_options(ctl, &lease_ls, argc, argv, own, handle_ls, &all);

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(&lease_ls, "it takes no arguments");
	code = all ? list_all(ctl, &entries) : list_own(ctl, &entries);
	if (code)
		return code;
	if (ctl->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < entries->count; i++)
			json_array_append_new(array, entry_json(&entries->entries[i]));
		code = ctl_print_json(array);
	} else {
		code = print_table(entries);
	}
	vmsig_lease_entries_free(entries);
	return code;
}

static const struct ctl_command lease_ls = {
	.name = "lease ls",
	.arguments = "[--all]",
	.summary = "List the leases of this identity, and those that are in its way",
	.help = "  --all  every lease and waiter of the broker; needs an admin's identity\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease ls\n"
		"  vmsigctl lease ls --all --identity admin --json | jq '.[].tenant'\n",
	.run = run_ls,
};

/* ---- release, revoke ---- */

static int report(const struct ctl *ctl, const char *what, uint64_t id)
{
	if (ctl->json)
		return ctl_print_json(json_pack("{s:I}", what, (json_int_t)id));
	printf("%s: lease %" PRIu64 "\n", what, id);
	return EXIT_OK;
}

static int release(const struct ctl *ctl, uint64_t id, uint64_t token)
{
	vmsig_writer *writer;
	vmsig_lease *lease = NULL;
	int code = ctl_writer_open(ctl, &writer), r;

	if (code)
		return code;
	r = vmsig_lease_use(writer, id, token, &lease, (int)ctl->wait_ms);
	if (!r)
		r = vmsig_lease_release_wait(lease, (int)ctl->wait_ms);
	if (r)
		code = ctl_lease_fail(ctl, writer, r, id, getenv(CTL_ENV_ENDPOINT), "release");
	vmsig_lease_free(lease);
	vmsig_writer_close(writer);
	return code ? code : report(ctl, "released", id);
}

enum { OPT_TOKEN = CTL_OPT_FIRST };

static bool handle_release(void *ctx, int code, const char *value)
{
	*(const char **)ctx = value;
	return code == OPT_TOKEN;
}

static int run_release(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"token", required_argument, NULL, OPT_TOKEN}, {NULL, 0, NULL, 0}};
	const char *text = NULL;
	uint64_t id, token;
	int code = ctl_options(ctl, &lease_release, argc, argv, own, handle_release, &text);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&lease_release, "it takes the ID of a lease");
	code = ctl_lease_words(&lease_release, argv[optind], text, &id, &token);
	return code ? code : release(ctl, id, token);
}

static const struct ctl_command lease_release = {
	.name = "lease release",
	.arguments = "ID [--token N]",
	.summary = "Give a lease back before its time",
	.help = "  --token N  of the lease (default: VMSIG_TOKEN, as `lease acquire` sets it);\n"
		"             0 of a request that still waits\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease release \"$VMSIG_LEASE\"\n",
	.run = run_release,
};

static int run_revoke(struct ctl *ctl, int argc, char **argv)
{
	vmsig_admin *admin;
	uint64_t id;
	int code = ctl_options(ctl, &lease_revoke, argc, argv, NULL, NULL, NULL), r;

	if (code)
		return code;
	if (optind + 1 != argc || !text_number(argv[optind], &id))
		return ctl_usage(&lease_revoke, "it takes the ID of a lease");
	code = ctl_admin_connect(ctl, &admin);
	if (code)
		return code;
	r = vmsig_admin_revoke(admin, id, (int)ctl->wait_ms);
	if (r)
		code = ctl_fail(r, "cannot revoke lease %" PRIu64 ": %s", id,
			vmsig_admin_last_error(admin));
	vmsig_admin_close(admin);
	return code ? code : report(ctl, "revoked", id);
}

static const struct ctl_command lease_revoke = {
	.name = "lease revoke",
	.arguments = "ID",
	.summary = "Take a lease away from its holder, as an administrator",
	.help = "It is over when this returns: nothing is written under it any more.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease revoke 17 --identity admin\n",
	.run = run_revoke,
};

/* ---- the group ---- */

static const struct ctl_action actions[] = {{"acquire", &ctl_lease_acquire}, {"ls", &lease_ls},
	{"release", &lease_release}, {"resume", &ctl_lease_resume}, {"revoke", &lease_revoke}};

static int run_lease(struct ctl *ctl, int argc, char **argv)
{
	return ctl_run_action(ctl, &ctl_lease, actions, sizeof(actions) / sizeof(actions[0]),
		"say acquire, ls, release, resume or revoke", argc, argv);
}

const struct ctl_command ctl_lease = {
	.name = "lease",
	.arguments = "acquire ENDPOINT -- CMD | ls | release ID | resume ID -- CMD | revoke ID",
	.summary = "Hold, list and end leases: the right to write to a guest",
	.help = "  acquire        hold a lease while a command runs\n"
		"  ls             list leases\n"
		"  release        give one back\n"
		"  resume         go on with one: of a guest that has moved here, say\n"
		"  revoke         take one away\n"
		"\n"
		"`vmsigctl lease acquire -h` and so on have options and examples.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease acquire web1 -- ./patch-guest\n"
		"  vmsigctl lease ls\n",
	.has_command = true,
	.has_actions = true,
	.run = run_lease,
};
