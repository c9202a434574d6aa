/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about the lease: acquire, renew, release, status. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clients/common/exits.h"
#include "clients/common/value.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

static int show_json(struct shim *shim)
{
	const struct hold *hold = &shim->hold;
	const vmsig_lease_request *asked = &shim->options.lease;
	json_t *json = json_pack("{s:s, s:b, s:I, s:b, s:o, s:s}", "endpoint", asked->endpoint,
		"held", hold->usable, "remaining_ms", (json_int_t)hold_remaining(hold), "connected",
		shim->session.write.up, "ranges", value_ranges(asked->ranges, asked->nranges),
		"reason", hold->error ? hold->why : "");
	vmsig_lease_info info;

	if (json && hold->usable) {
		vmsig_lease_get(hold->lease, &info);
		json_object_set_new(json, "id", json_integer((json_int_t)info.id));
		json_object_set_new(json, "epoch", json_integer(info.epoch));
		json_object_set_new(json, "ttl_ms", json_integer((json_int_t)info.ttl_ms));
	}
	return shim_output_answer(&shim->output, json);
}

static void print_ranges(const vmsig_lease_request *asked)
{
	if (!asked->nranges)
		fputs("all of it", stdout);
	for (size_t i = 0; i < asked->nranges; i++)
		printf("%s0x%" PRIx64 "+0x%" PRIx64, i ? ", " : "", asked->ranges[i].start,
			asked->ranges[i].last - asked->ranges[i].start + 1);
	putchar('\n');
}

static int show(struct shim *shim)
{
	const struct hold *hold = &shim->hold;
	vmsig_lease_info info;

	/* What is said already goes before what is asked now. */
	shim_session_step(shim, -1, 0);
	if (shim->output.json)
		return show_json(shim);
	if (!hold->usable) {
		printf("no lease on %s%s%s\n", shim->options.endpoint, hold->error ? ": " : "",
			hold->error ? hold->why : "");
		return EXIT_OK;
	}
	vmsig_lease_get(hold->lease, &info);
	printf("lease %" PRIu64 " on %s, epoch %u, %.1f s left of %.1f s%s: ", info.id,
		info.endpoint, info.epoch, (double)hold_remaining(hold) / 1000,
		info.ttl_ms / 1000.0, shim->session.write.up ? "" : " (not connected)");
	print_ranges(&shim->options.lease);
	return EXIT_OK;
}

static int acquire(struct shim *shim)
{
	int status = shim_hold_acquire(shim);

	return status ? status : show(shim);
}

static int release(struct shim *shim)
{
	int status = shim_hold_release(shim);

	return status ? status : show(shim);
}

static const struct {
	const char *name;
	int (*run)(struct shim *shim);
} actions[] = {{"show", show}, {"acquire", acquire}, {"release", release}};

static int run_lease(struct shim *shim, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "show";

	for (size_t i = 0; argc <= 2 && i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(actions[i].name, name) == 0)
			return actions[i].run(shim);
	}
	return shim_output_usage(&shim->output, "say acquire, release or show");
}

const struct shim_command shim_command_lease = {
	.name = "lease",
	.arguments = "[acquire|release|show]",
	.summary = "Take the lease, give it back, or show it",
	.help = "After the lease was lost nothing is written before `lease acquire`: what is there "
		"may\n"
		"be somebody else's by now. It asks for what the command line has asked for, and\n"
		"waits for it as long as that says; Ctrl-C ends the waiting.\n",
	.words = {"acquire release show"},
	.run = run_lease,
};
