/* SPDX-License-Identifier: Apache-2.0 */
/* vmsig-shim: the command line, and what a session is made of. */
#include "clients/shim/shim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/common/exits.h"
#include "clients/common/text.h"
#include "clients/shim/prompt.h"
#include "clients/shim/script.h"
#include "proto/standard.h"

#define READY_MS 10000

enum {
	OPT_IDENTITY = 256,
	OPT_SOCKET,
	OPT_CTX_SOCKET,
	OPT_TTL,
	OPT_RANGE,
	OPT_PRIORITY,
	OPT_NO_WAIT,
	OPT_WAIT,
	OPT_JSON
};

static const struct option options[] = {{"identity", required_argument, NULL, OPT_IDENTITY},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"ctx-socket", required_argument, NULL, OPT_CTX_SOCKET},
	{"ttl", required_argument, NULL, OPT_TTL}, {"range", required_argument, NULL, OPT_RANGE},
	{"priority", required_argument, NULL, OPT_PRIORITY},
	{"no-wait", no_argument, NULL, OPT_NO_WAIT}, {"wait", required_argument, NULL, OPT_WAIT},
	{"json", no_argument, NULL, OPT_JSON}, {"keep-going", no_argument, NULL, 'k'},
	{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};

static void usage(FILE *stream)
{
	fputs("usage: vmsig-shim [OPTION]... ENDPOINT\n"
	      "\n"
	      "Holds a lease on an endpoint, and reads and writes its guest's memory as commands\n"
	      "say: typed at a terminal, or as a script on standard input, which ends with the\n"
	      "first command that fails. `help` among the commands shows them.\n"
	      "\n"
	      "Options:\n"
	      "  --identity DIR    folder with key.pem, cert.pem, ca.pem (or VMSIG_IDENTITY)\n"
	      "  --socket PATH     the broker's socket of leases and writes (or\n"
	      "                    VMSIG_WRITE_SOCKET; default " VMSIG_WRITE_SOCKET ")\n"
	      "  --ctx-socket PATH the one to read by (or VMSIG_SOCKET; default\n"
	      "                    " VMSIG_CTX_SOCKET ")\n"
	      "  --range GPA+LEN   guest-physical bytes to lease; again for more; none: all\n"
	      "  --ttl T           how long the broker waits for a silent holder (default 5s)\n"
	      "  --priority N      ask holders of a lower one to go, if the policy allows it\n"
	      "  --wait T          how long to queue for the lease (default: the policy's bound),\n"
	      "                    and to wait for an endpoint that is not ready (default 10s)\n"
	      "  --no-wait         fail at once when somebody holds a conflicting lease\n"
	      "  --json            answers and news for programs, one JSON value a line\n"
	      "  -k, --keep-going  a script goes on behind a command that has failed\n"
	      "  -h, --help        help\n"
	      "  -V, --version     print the version\n"
	      "\n"
	      "Times are 500ms, 5s, 2min; a number is seconds.\n"
	      "\n"
	      "Exit status: 0 done; of a script that of the first command that has failed: 1\n"
	      "error; 2 wrong usage; 3 no such endpoint, or forbidden; 4 not ready in time; 5\n"
	      "cannot connect; 6 the guest was reset; 7 an address is not mapped, or outside the\n"
	      "lease; 8 somebody else holds the lease; 9 the lease is over; 10 other bytes were\n"
	      "there than expected; 11 only a part was written; 12 nobody knows whether it was\n"
	      "written; 13 cannot be written to; 14 busy. 128 and the signal that has ended it.\n"
	      "\n"
	      "Examples:\n"
	      "  vmsig-shim web1\n"
	      "  echo 'poke 0x6000 u32 1 phys' | vmsig-shim --range 0x6000+4096 web1\n",
		stream);
}

/* ---- the command line ---- */

static bool take_range(struct shim_options *to, const char *value)
{
	return to->lease.nranges < SHIM_RANGES_MAX &&
	       text_range(value, &to->ranges[to->lease.nranges++]);
}

static bool take_priority(struct shim_options *to, const char *value)
{
	uint64_t priority;

	if (!text_number(value, &priority) || priority > UINT32_MAX)
		return false;
	to->lease.priority = (uint32_t)priority;
	return true;
}

static bool take_wait(struct shim_options *to, const char *value)
{
	if (!text_duration(value, &to->ready_ms))
		return false;
	to->lease.wait_ms = to->ready_ms;
	/* 0 would mean the policy's bound. */
	to->lease.no_wait = !to->ready_ms;
	return true;
}

/* false for a value that is none. */
static bool take_option(struct shim *shim, int code, const char *value)
{
	struct shim_options *to = &shim->options;

	switch (code) {
	case OPT_IDENTITY:
		to->identity = value;
		return true;
	case OPT_SOCKET:
		to->write_socket = value;
		return true;
	case OPT_CTX_SOCKET:
		to->ctx_socket = value;
		return true;
	case OPT_TTL:
		return text_duration(value, &to->lease.ttl_ms) && to->lease.ttl_ms;
	case OPT_RANGE:
		return take_range(to, value);
	case OPT_PRIORITY:
		return take_priority(to, value);
	case OPT_NO_WAIT:
		to->lease.no_wait = true;
		return true;
	case OPT_WAIT:
		return take_wait(to, value);
	case OPT_JSON:
		shim->output.json = true;
		return true;
	default:
		to->keep_going = true;
		return true;
	}
}

static const char *environment(const char *variable, const char *standard)
{
	const char *value = getenv(variable);

	return value ? value : standard;
}

/* EXIT_OK, or EXIT_USAGE after a message. */
static int take_command_line(struct shim *shim, int argc, char **argv)
{
	struct shim_options *to = &shim->options;
	int code;

	opterr = 0;
	while ((code = getopt_long(argc, argv, ":khV", options, NULL)) >= 0) {
		if (code == 'h') {
			usage(stdout);
			exit(shim_output_end());
		}
		if (code == 'V') {
			printf("vmsig-shim %s\n", vmsig_version());
			exit(shim_output_end());
		}
		if (code == '?' || code == ':')
			return shim_output_usage(&shim->output,
				code == '?' ? "wrong option '%s'; see `vmsig-shim -h`"
					    : "'%s' needs a value; see `vmsig-shim -h`",
				argv[optind - 1]);
		if (!take_option(shim, code, optarg))
			return shim_output_usage(&shim->output,
				"'%s' is no value for its option; see `vmsig-shim -h`", optarg);
	}
	if (optind + 1 != argc)
		return shim_output_usage(
			&shim->output, "it takes one ENDPOINT; see `vmsig-shim -h`");
	if (!to->identity)
		return shim_output_usage(&shim->output,
			"no identity; name its folder with --identity DIR or VMSIG_IDENTITY, or "
			"make one with `vmsigctl pki issue`");
	to->endpoint = argv[optind];
	to->lease.endpoint = argv[optind];
	to->lease.ranges = to->ranges;
	return EXIT_OK;
}

/* ---- the run ---- */

static int run(struct shim *shim)
{
	static const struct shim_session_ops ops = {
		.delivery = shim_view_take, .event = shim_hold_take};
	int status = shim_session_open(shim, &ops);

	if (!status)
		status = shim_hold_acquire(shim);
	if (status)
		return status;
	status =
		isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) ? prompt_run(shim) : script_run(shim);
	/* Something that the broker will find out by itself does not make it a failure. */
	(void)shim_hold_release(shim);
	return status;
}

int main(int argc, char **argv)
{
	static struct shim shim;
	int status;

	if (standard_secure())
		return EXIT_ERROR;
	shim.session.fd = -1;
	shim.context = CONTEXT_INIT;
	shim.options.identity = getenv("VMSIG_IDENTITY");
	shim.options.write_socket = environment("VMSIG_WRITE_SOCKET", VMSIG_WRITE_SOCKET);
	shim.options.ctx_socket = environment("VMSIG_SOCKET", VMSIG_CTX_SOCKET);
	shim.options.ready_ms = READY_MS;
	status = take_command_line(&shim, argc, argv);
	if (!status)
		status = run(&shim);
	shim.os = vmsig_os_close(shim.os);
	context_close(&shim.context);
	shim_session_close(&shim);
	shim_journal_clear(&shim.journal);
	return status;
}
