/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients/common/moment.h"
#include "clients/common/exits.h"
#include "clients/common/value.h"
#include "clients/shim/arguments.h"
#include "clients/shim/command.h"
#include "clients/shim/shim.h"

#define MATCHES_MAX 1000u /* shown; who wants more has a program to take them */

/*
 * A search takes as long as it takes, and the lease has to be kept meanwhile: a child looks
 * through the same context and says over a pipe what it finds.
 */

/* What it says: an address, or at last how it ended. */
struct shim_finding {
	uint64_t addr;
	bool is_end;
	int result; /* of the library's call */
};

struct shim_search {
	struct shim *shim;
	const struct find_arguments *arguments;
	uint64_t root; /* of a process; 0: the kernel's */
	pid_t child;
	int fd;
	unsigned matches;
	bool over, more;
	int result;
	json_t *addresses; /* with --json */
};

/* ---- the child ---- */

static int say_match(void *ctx, uint64_t addr)
{
	const struct shim_finding found = {.addr = addr};

	return write(*(const int *)ctx, &found, sizeof(found)) == (ssize_t)sizeof(found)
		       ? 0
		       : VMSIG_ERR_IO;
}

__attribute__((noreturn)) static void search_run(
	const struct shim_search *search, int fd, pid_t parent)
{
	const struct find_arguments *arguments = search->arguments;
	struct shim_finding found = {.is_end = true};
	struct context context = search->shim->context;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_ERROR);
	context.root = search->root ? search->root : context.root;
	found.result = context_scan(&context, arguments->place.physical, &arguments->range,
		arguments->pattern, arguments->len, say_match, &fd);
	_exit(write(fd, &found, sizeof(found)) == (ssize_t)sizeof(found) ? EXIT_OK : EXIT_ERROR);
}

static int search_start(struct shim_search *search)
{
	pid_t parent = getpid();
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	/* Nothing that is to be printed twice. */
	fflush(NULL);
	search->child = fork();
	if (search->child == 0)
		search_run(search, fds[1], parent);
	close(fds[1]);
	search->fd = fds[0];
	return search->child < 0 ? -errno : 0;
}

static void search_end(struct shim_search *search)
{
	if (search->child > 0) {
		kill(search->child, SIGKILL);
		while (waitpid(search->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close(search->fd);
}

/* ---- the parent ---- */

static void take_match(struct shim_search *search, uint64_t addr)
{
	if (search->matches == MATCHES_MAX) {
		search->more = search->over = true;
		return;
	}
	search->matches++;
	if (search->addresses)
		json_array_append_new(search->addresses, value_hex(addr));
	else
		printf("0x%" PRIx64 "\n", addr);
}

/* Writes of this size are not torn on a pipe. */
static void search_take(struct shim_search *search)
{
	struct shim_finding found;
	ssize_t n = read(search->fd, &found, sizeof(found));

	if (n < 0 && errno == EINTR)
		return;
	if (n != (ssize_t)sizeof(found)) {
		search->over = true;
		search->result = -VMSIG_ERR_IO;
	} else if (found.is_end) {
		search->over = true;
		search->result = found.result;
	} else {
		take_match(search, found.addr);
	}
}

static int search_report(struct shim_search *search)
{
	struct shim_output *output = &search->shim->output;

	if (search->result)
		return shim_output_fail(output, search->result, "the search ended early: %s",
			vmsig_error_text(search->result));
	if (search->addresses)
		return shim_output_answer(output,
			json_pack("{s:O, s:b, s:s}", "addresses", search->addresses, "more",
				search->more, "space",
				search->arguments->place.physical ? "physical" : "virtual"));
	if (search->more)
		fprintf(stderr, "vmsig-shim: these are the first %u; say START END for others\n",
			MATCHES_MAX);
	return EXIT_OK;
}

static int search(struct shim *shim, const struct find_arguments *arguments, uint64_t root)
{
	struct shim_search search = {.shim = shim, .arguments = arguments, .root = root, .fd = -1};
	int status, r = search_start(&search);

	if (r)
		return shim_output_fail(
			&shim->output, VMSIG_ERR_IO, "cannot start searching: %s", strerror(-r));
	search.addresses = shim->output.json ? json_array() : NULL;
	while (!search.over && !shim_session_is_stopped(&shim->session)) {
		if (shim_session_step(shim, search.fd, MOMENT_NEVER))
			search_take(&search);
	}
	search_end(&search);
	status = search.over ? search_report(&search) : shim_session_stop(shim);
	json_decref(search.addresses);
	return status;
}

static int run_find(struct shim *shim, int argc, char **argv)
{
	struct find_arguments arguments;
	struct shim_location location;
	const char *wrong = arguments_find(argc, argv, &arguments);
	int status;

	if (wrong)
		return shim_output_usage(&shim->output, "%s", wrong);
	status = shim_locate(shim, &arguments.place, &location);
	return status ? status : search(shim, &arguments, location.root);
}

const struct shim_command shim_command_find = {
	.name = "find",
	.arguments = "PATTERN [START END] [phys | pid PID]",
	.summary = "Print every address where the pattern is",
	.help = "PATTERN is text, str:TEXT or hex:DIGITS. START and END are both included; "
		"without\n"
		"them everything is searched that the kernel or the process maps, or all of RAM. "
		"The\n"
		"first 1000 matches are shown.\n"
		"\n"
		"Examples:\n"
		"  find 'Linux version'\n"
		"  find secret pid 812\n"
		"  find hex:7f454c46 0 0xfffff phys\n",
	.words = {NULL, "phys pid", NULL, "phys pid"},
	.run = run_find,
};
