/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl ls` and `info`: the endpoints that may be seen, and the context of one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/ctl/ctl.h"

static json_t *endpoint_json(const vmsig_endpoint *endpoint)
{
	return json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:b, s:I, s:s, s:o}", "name",
		endpoint->name, "id", (json_int_t)endpoint->id, "epoch",
		(json_int_t)endpoint->epoch, "state", vmsig_state_name(endpoint->state), "guard",
		vmsig_guard_name(endpoint->guard), "adapter", endpoint->adapter, "ram_bytes",
		(json_int_t)endpoint->ram_bytes, "writable", endpoint->writable, "subscribers",
		(json_int_t)endpoint->subscribers, "detail", endpoint->detail, "system",
		ctl_system_json(&endpoint->system));
}

static int list(const struct ctl *ctl, vmsig_endpoint_list **ret_list)
{
	vmsig *v;
	int code = ctl_connect(ctl, &v), r;

	if (code)
		return code;
	r = vmsig_list(v, ret_list, -1);
	if (r)
		code = ctl_fail(r, "cannot list: %s", vmsig_last_error(v));
	vmsig_close(v);
	return code;
}

static const char *size_text(uint64_t bytes, char buf[static 24])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	if (!bytes)
		return "-";
	while (bytes % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, 24, "%" PRIu64 " %s", bytes, units[unit]);
	return buf;
}

static int print_table(const vmsig_endpoint_list *endpoints)
{
	static const struct table_column columns[] = {{"NAME", 0, false}, {"STATE", 8, false},
		{"EPOCH", 7, true}, {"GUARD", 8, false}, {"RAM", 9, true}, {"ADAPTER", 7, false},
		{"DETAIL", 0, false}};
	char size[24], system[CTL_SYSTEM_MAX];
	struct table table;
	int code;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < endpoints->count; i++) {
		const vmsig_endpoint *endpoint = &endpoints->endpoints[i];

		table_add(&table, "%s", endpoint->name);
		table_add(&table, "%s", vmsig_state_name(endpoint->state));
		table_colour(&table, endpoint->state == VMSIG_STATE_READY ? TABLE_GOOD : TABLE_ODD);
		table_add(&table, "%u", endpoint->epoch);
		table_add(&table, "%s", vmsig_guard_name(endpoint->guard));
		table_add(&table, "%s", size_text(endpoint->ram_bytes, size));
		table_add(&table, "%s", endpoint->adapter);
		table_add(&table, "%s",
			endpoint->detail[0] ? endpoint->detail
					    : ctl_system_text(&endpoint->system, system));
	}
	code = ctl_print_table(&table);
	table_deinit(&table);
	return code;
}

static int run_ls(struct ctl *ctl, int argc, char **argv)
{
	vmsig_endpoint_list *endpoints;
	int code = ctl_options(ctl, &ctl_ls, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind != argc)
		return ctl_usage(&ctl_ls, "it takes no arguments");
	code = list(ctl, &endpoints);
	if (code)
		return code;
	if (ctl->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < endpoints->count; i++)
			json_array_append_new(array, endpoint_json(&endpoints->endpoints[i]));
		code = ctl_print_json(array);
	} else {
		code = print_table(endpoints);
	}
	vmsig_endpoint_list_free(endpoints);
	return code;
}

const struct ctl_command ctl_ls = {
	.name = "ls",
	.arguments = "",
	.summary = "List the endpoints that this identity may see",
	.help = "Examples:\n"
		"  vmsigctl ls\n"
		"  vmsigctl ls --json | jq '.[] | select(.state == \"ready\") | .name'\n",
	.run = run_ls,
};

/* ---- info ---- */

static json_t *segments_json(const struct context *context)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < context->nseg; i++)
		json_array_append_new(
			array, json_pack("{s:o, s:o, s:o}", "gpa", value_hex(context->segs[i].gpa),
				       "len", value_hex(context->segs[i].len), "offset",
				       value_hex(context->segs[i].file_off)));
	return array;
}

/* Also of a single one: {"offset", "size"}, in the order in which they lie end to end. */
static json_t *files_json(const struct context *context)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);
	json_t *array = json_array();
	uint64_t at = 0;
	struct stat st;

	if (!files && fstat(context->delivery.ram_fd, &st) == 0)
		json_array_append_new(array, json_pack("{s:o, s:o}", "offset", value_hex(0), "size",
						     value_hex((uint64_t)st.st_size)));
	for (uint32_t i = 0; i < n; i++) {
		json_array_append_new(array, json_pack("{s:o, s:o}", "offset", value_hex(at),
						     "size", value_hex(files[i].size)));
		at += files[i].size;
	}
	return array;
}

static int print_context_json(const char *name, const struct context *context)
{
	const vmsig_memctx *pod = &context->pod;

	return ctl_print_json(json_pack(
		"{s:s, s:I, s:s, s:s, s:o, s:o, s:i, s:b, s:b, s:b, s:o, s:o, s:o}", "name", name,
		"epoch", (json_int_t)pod->epoch, "state", vmsig_state_name(context_state(context)),
		"guard", vmsig_guard_name(context->delivery.guard), "kcr3", value_hex(pod->kcr3),
		"low", value_hex(pod->low), "levels", pod->flags & VMSIG_MEMCTX_LA57 ? 5 : 4,
		"read_only", (pod->flags & VMSIG_MEMCTX_RDONLY) != 0, "la57",
		(pod->flags & VMSIG_MEMCTX_LA57) != 0, "sparse",
		(pod->flags & VMSIG_MEMCTX_SPARSE) != 0, "segments", segments_json(context),
		"files", files_json(context), "system",
		ctl_system_json(&context->delivery.system)));
}

static void print_files(const struct context *context)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);
	uint64_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		printf("%s  0x%" PRIx64 "-0x%" PRIx64 "\n", i ? "        " : "files   ", at,
			at + files[i].size - 1);
		at += files[i].size;
	}
}

static void print_context(const char *name, const struct context *context)
{
	const vmsig_system *system = &context->delivery.system;
	const vmsig_memctx *pod = &context->pod;

	printf("name      %s\nstate     %s\nepoch     %u\nguard     %s\n", name,
		vmsig_state_name(context_state(context)), pod->epoch,
		vmsig_guard_name(context->delivery.guard));
	printf("os        %s%s%s\nproof     %s\n", vmsig_os_name(system->os),
		system->release[0] ? " " : "", system->release, vmsig_proof_name(system->proof));
	printf("kcr3      0x%" PRIx64 "  (%u levels)\nlow       0x%" PRIx64 "\nsparse    %s\n",
		pod->kcr3, pod->flags & VMSIG_MEMCTX_LA57 ? 5u : 4u, pod->low,
		pod->flags & VMSIG_MEMCTX_SPARSE ? "yes" : "no");
	if (!context->nseg)
		puts("segments  none: RAM is [0, low) and what follows in the file is at 4 GiB");
	for (uint32_t i = 0; i < context->nseg; i++)
		printf("%s  0x%011" PRIx64 "-0x%011" PRIx64 "  at 0x%" PRIx64 "\n",
			i ? "        " : "segments", context->segs[i].gpa,
			context->segs[i].gpa + context->segs[i].len - 1, context->segs[i].file_off);
	print_files(context);
}

static int run_info(struct ctl *ctl, int argc, char **argv)
{
	struct context context;
	int code = ctl_options(ctl, &ctl_info, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_info, "it takes one ENDPOINT");
	code = ctl_context_open(ctl, argv[optind], &context);
	if (code)
		return code;
	if (ctl->json)
		code = print_context_json(argv[optind], &context);
	else
		print_context(argv[optind], &context);
	context_close(&context);
	return code;
}

const struct ctl_command ctl_info = {
	.name = "info",
	.arguments = "ENDPOINT",
	.summary = "Show an endpoint's current context: system, kernel root, RAM layout, guard",
	.help = "Examples:\n"
		"  vmsigctl info web1\n"
		"  vmsigctl info web1 --json | jq -r .kcr3\n"
		"  vmsigctl info web1 --json | jq -r .system.proof\n",
	.run = run_info,
};
