/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/common/exits.h"
#include "clients/common/text.h"
#include "clients/common/value.h"
#include "clients/shim/arguments.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

static const char *space(bool physical)
{
	return physical ? "physical" : "virtual";
}

/* ---- peek ---- */

static int print_bytes(struct shim *shim, const struct peek_arguments *arguments, uint64_t addr,
	const unsigned char *bytes)
{
	if (shim->output.json)
		return shim_output_answer(
			&shim->output, json_pack("{s:o, s:I, s:s, s:I, s:o}", "addr",
					       value_hex(addr), "len", (json_int_t)arguments->len,
					       "space", space(arguments->place.physical), "epoch",
					       (json_int_t)shim->context.pod.epoch, "hex",
					       value_bytes(bytes, arguments->len)));
	text_hex_print(addr, bytes, arguments->len);
	return EXIT_OK;
}

static int read_and_print(struct shim *shim, const struct peek_arguments *arguments,
	const struct shim_location *location)
{
	unsigned char *bytes = malloc(arguments->len);
	struct context context = shim->context;
	int status, r;

	if (!bytes)
		return shim_output_fail(&shim->output, VMSIG_ERR_NO_MEMORY, "out of memory");
	context.root = location->root ? location->root : context.root;
	r = context_read(&context, location->physical, location->addr, bytes, arguments->len);
	if (r)
		status = shim_output_fail(&shim->output, r,
			"cannot read %zu bytes at 0x%" PRIx64 ": %s", arguments->len,
			location->addr, vmsig_error_text(r));
	else
		status = print_bytes(shim, arguments, location->addr, bytes);
	free(bytes);
	return status;
}

static int run_peek(struct shim *shim, int argc, char **argv)
{
	struct peek_arguments arguments;
	struct shim_location location;
	const char *wrong = arguments_peek(argc, argv, &arguments);
	int status;

	if (wrong)
		return shim_output_usage(&shim->output, "%s", wrong);
	status = shim_locate(shim, &arguments.place, &location);
	return status ? status : read_and_print(shim, &arguments, &location);
}

const struct shim_command shim_command_peek = {
	.name = "peek",
	.arguments = "ADDR [LEN] [phys | pid PID]",
	.summary = "Read guest memory",
	.help = "LEN is 64 bytes when it is not given, and at most 1 MiB. What is printed was read "
		"in\n"
		"one epoch of the guest, and not while the broker was writing.\n"
		"\n"
		"Examples:\n"
		"  peek 0xffffffff81000000\n"
		"  peek linux_banner+6 16\n"
		"  peek 0x7ffd1000 16 pid 812\n"
		"  peek 0x6000 16 phys\n",
	.words = {NULL, "phys pid", "phys pid"},
	.run = run_peek,
};

/* ---- epoch ---- */

static int run_epoch(struct shim *shim, int argc, char **argv)
{
	const struct context *context = &shim->context;

	if (argc != 1)
		return shim_output_usage(&shim->output, "it takes no arguments");
	/* What is said already goes before what is asked now. */
	shim_session_step(shim, -1, 0);
	if (shim->output.json)
		return shim_output_answer(&shim->output,
			json_pack("{s:s, s:I, s:s, s:s, s:b, s:s}", "endpoint",
				shim->options.endpoint, "epoch", (json_int_t)context->epoch,
				"state", vmsig_state_name(context->state), "guard",
				vmsig_guard_name(context->guard), "connected",
				shim->session.read.up, "reason", context->reason));
	printf("%s is in epoch %u: %s%s%s%s\n", shim->options.endpoint, context->epoch,
		vmsig_state_name(context->state), context->reason[0] ? ", " : "", context->reason,
		shim->session.read.up ? "" : " (not connected)");
	return EXIT_OK;
}

const struct shim_command shim_command_epoch = {
	.name = "epoch",
	.arguments = "",
	.summary = "Show the epoch, and if it can be read",
	.help = "An epoch is what lies between two resets of the guest. A new one is told at "
		"once;\n"
		"it ends the lease.\n",
	.run = run_epoch,
};
