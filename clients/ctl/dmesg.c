/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl dmesg`: what a guest's kernel has said. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/ctl/guest.h"

static json_t *record_json(const vmsig_log_record *record)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "sequence", (json_int_t)record->sequence,
		"time_ns", (json_int_t)record->time_ns, "facility", (json_int_t)record->facility,
		"level", (json_int_t)record->level, "text", value_text(record->text));
}

/* As dmesg(1) does, line by line: a guest's own bytes are shown as they are harmless. */
static int print_record(const vmsig_log_record *record)
{
	char *copy = strdup(record->text), *rest = copy, *line;

	if (!copy)
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "out of memory");
	while ((line = strsep(&rest, "\n"))) {
		for (char *tab = line; (tab = strchr(tab, '\t'));)
			*tab = ' ';
		text_clean(line);
		printf("[%5" PRIu64 ".%06" PRIu64 "] %s\n", record->time_ns / 1000000000,
			record->time_ns / 1000 % 1000000, line);
	}
	free(copy);
	return EXIT_OK;
}

static int print_log(const struct ctl *ctl, const vmsig_log_list *list)
{
	json_t *array = ctl->json ? json_array() : NULL;
	int code = EXIT_OK;

	for (size_t i = 0; i < list->count && !code; i++) {
		if (ctl->json)
			json_array_append_new(array, record_json(&list->records[i]));
		else
			code = print_record(&list->records[i]);
	}
	if (ctl->json)
		return ctl_print_json(array);
	return code ? code : ctl_flush();
}

static int run_dmesg(struct ctl *ctl, int argc, char **argv)
{
	vmsig_log_list *list;
	struct ctl_guest guest;
	int code = ctl_options(ctl, &ctl_dmesg, argc, argv, NULL, NULL, NULL), r;

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(&ctl_dmesg, "it takes one ENDPOINT");
	code = ctl_guest_open(ctl, argv[optind], &guest);
	if (code)
		return code;
	r = vmsig_os_log(guest.os, &list);
	if (r) {
		code = ctl_guest_fail(&guest, r, "log");
	} else {
		code = print_log(ctl, list);
		code = code ? code : ctl_guest_whole(&guest, list->partial, "records of the log");
		vmsig_log_list_free(list);
	}
	ctl_guest_close(&guest);
	return code;
}

const struct ctl_command ctl_dmesg = {
	.name = "dmesg",
	.arguments = "ENDPOINT",
	.summary = "Print what a guest's kernel has said",
	.help = "Examples:\n"
		"  vmsigctl dmesg web1\n"
		"  vmsigctl dmesg web1 --json | jq -r '.[] | select(.level < 4) | .text'\n",
	.run = run_dmesg,
};
