/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/locate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/common/text.h"
#include "clients/common/value.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

#define REASON_MAX 256

/* Some hundred milliseconds, once an epoch: less than any lease lasts. */
static int learn(struct shim *shim)
{
	char reason[REASON_MAX];
	int r;

	if (shim->os)
		return EXIT_OK;
	r = vmsig_os_open(
		&shim->os, shim->context.mem, shim->context.pod.kcr3, reason, sizeof(reason));
	if (!r)
		return EXIT_OK;
	return shim_output_fail(&shim->output, r, "cannot tell what runs in %s: %s",
		shim->options.endpoint,
		r == -VMSIG_ERR_UNSUPPORTED && reason[0] ? reason : vmsig_error_text(r));
}

/* The offset was looked at when the line was. */
static int find_symbol(struct shim *shim, const char *word, uint64_t *ret_addr)
{
	size_t len = strcspn(word, "+");
	char *name = strndup(word, len);
	vmsig_symbol symbol;
	uint64_t offset = 0;
	bool found = name && vmsig_os_symbol_find(shim->os, name, &symbol);

	free(name);
	if (!found)
		return shim_output_fail_with(&shim->output, VMSIG_ERR_NOT_MAPPED,
			"see `vmsigctl symbols`", "the kernel of %s has no symbol '%.*s'",
			shim->options.endpoint, (int)len, word);
	if (word[len])
		(void)text_number(word + len + 1, &offset);
	*ret_addr = symbol.addr + offset;
	return EXIT_OK;
}

static int find_process(struct shim *shim, uint32_t pid, uint64_t *ret_root)
{
	vmsig_proc process;
	int r = vmsig_os_process(shim->os, pid, &process);

	if (!r && !process.root)
		return shim_output_fail_with(&shim->output, VMSIG_ERR_NOT_MAPPED,
			"threads of the kernel have none: leave it out",
			"process %" PRIu32 " has no address space of its own", pid);
	if (r == -VMSIG_ERR_GONE)
		return shim_output_fail_with(&shim->output, r, "see `vmsigctl ps`",
			"%s has no process %" PRIu32, shim->options.endpoint, pid);
	if (r)
		return shim_output_fail(&shim->output, r, "process %" PRIu32 " of %s: %s", pid,
			shim->options.endpoint, vmsig_error_text(r));
	*ret_root = process.root;
	return EXIT_OK;
}

int shim_locate(
	struct shim *shim, const struct place_arguments *place, struct shim_location *ret_location)
{
	int status = shim_view_await(shim);

	*ret_location = (struct shim_location){.addr = place->addr, .physical = place->physical};
	if (!status && (place->symbol || place->has_pid))
		status = learn(shim);
	if (!status && place->symbol)
		status = find_symbol(shim, place->symbol, &ret_location->addr);
	if (!status && place->has_pid)
		status = find_process(shim, place->pid, &ret_location->root);
	return status;
}

/* ---- translate ---- */

static int print(struct shim *shim, uint64_t addr, const vmsig_range *page)
{
	uint64_t gpa = page->gpa + (addr - page->gva);

	if (shim->output.json)
		return shim_output_answer(&shim->output,
			json_pack("{s:o, s:o, s:I, s:I}", "addr", value_hex(addr), "gpa",
				value_hex(gpa), "page_size", (json_int_t)page->page_size, "epoch",
				(json_int_t)shim->context.pod.epoch));
	printf("0x%" PRIx64 " is at 0x%" PRIx64 ", in a page of %" PRIu64 " KiB\n", addr, gpa,
		page->page_size / 1024);
	return EXIT_OK;
}

static int run_translate(struct shim *shim, int argc, char **argv)
{
	struct place_arguments place;
	struct shim_location location;
	const char *wrong = arguments_translate(argc, argv, &place);
	vmsig_range page;
	int status, r;

	if (wrong)
		return shim_output_usage(&shim->output, "%s", wrong);
	status = shim_locate(shim, &place, &location);
	if (status)
		return status;
	r = vmsig_gva_translate(shim->context.mem,
		location.root ? location.root : shim->context.root, location.addr, &page);
	return r ? shim_output_fail(&shim->output, r, "0x%" PRIx64 ": %s", location.addr,
			   vmsig_error_text(r))
		 : print(shim, location.addr, &page);
}

const struct shim_command shim_command_translate = {
	.name = "translate",
	.arguments = "ADDR [pid PID]",
	.summary = "Show where in RAM a virtual address is",
	.help = "ADDR is a number, or NAME[+OFFSET] of a symbol of the guest's kernel.\n"
		"\n"
		"Examples:\n"
		"  translate init_task\n"
		"  translate 0x7ffd1000 pid 812\n",
	.words = {NULL, "pid"},
	.run = run_translate,
};
