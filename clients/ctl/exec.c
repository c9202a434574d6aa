/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl exec`: starts a program that gets the context by descriptors and environment. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients/ctl/ctl.h"

/* Where the command finds them: the RAM file, or the first of several; the coherence page; the
 * other RAM files in their order. */
#define RAM_FD 3
#define COHERENCE_FD 4
#define MORE_FD 5
#define ABOVE_FD (MORE_FD + (int)VMSIG_MEMFILES_MAX) /* what is kept out of the way */

/* "gpa:len:off,..." in hexadecimal; "" for a single-low layout. NULL without memory. */
static char *segments_text(const struct context *context)
{
	size_t size = (size_t)context->nseg * 60 + 1, at = 0;
	char *text = calloc(1, size);

	for (uint32_t i = 0; text && i < context->nseg; i++)
		at += (size_t)snprintf(text + at, size - at,
			"%s0x%" PRIx64 ":0x%" PRIx64 ":0x%" PRIx64, i ? "," : "",
			context->segs[i].gpa, context->segs[i].len, context->segs[i].file_off);
	return text;
}

static int fd_of_file(uint32_t i)
{
	return i ? MORE_FD + (int)i - 1 : RAM_FD;
}

/* "fd:size,..." in their order. NULL without memory. */
static char *files_text(const vmsig_memfile *files, uint32_t n)
{
	size_t size = (size_t)n * 32 + 1, at = 0;
	char *text = calloc(1, size);

	for (uint32_t i = 0; text && i < n; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%d:0x%" PRIx64, i ? "," : "",
			fd_of_file(i), files[i].size);
	return text;
}

static bool set_hex(const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	return setenv(name, text, 1) == 0;
}

static bool set_decimal(const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return setenv(name, text, 1) == 0;
}

/* A guest with one file has no such variable, whoever started us. */
static bool set_files(const struct context *context)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);
	char *text;
	bool ok;

	if (!files)
		return unsetenv("VMSIG_FILES") == 0;
	text = files_text(files, n);
	ok = text && setenv("VMSIG_FILES", text, 1) == 0;
	free(text);
	return ok;
}

static bool set_environment(const char *endpoint, const struct context *context)
{
	const vmsig_memctx *pod = &context->pod;
	char *segments = segments_text(context);
	bool ok = segments && setenv("VMSIG_ENDPOINT", endpoint, 1) == 0 &&
		  set_hex("VMSIG_KCR3", pod->kcr3) && set_hex("VMSIG_LOW", pod->low) &&
		  set_decimal("VMSIG_EPOCH", pod->epoch) && set_hex("VMSIG_FLAGS", pod->flags) &&
		  setenv("VMSIG_SEGS", segments, 1) == 0 && set_files(context);

	free(segments);
	return ok;
}

static bool set_descriptor(int fd, int place)
{
	return fd >= 0 && dup2(fd, place) == place;
}

/* The descriptors at their places, and nothing else beside the standard streams. */
static bool set_descriptors(const struct context *context)
{
	uint32_t n;
	const vmsig_memfile *files = vmsig_memctx_files(&context->delivery.event, &n);
	int ram = fcntl(context->delivery.ram_fd, F_DUPFD_CLOEXEC, ABOVE_FD);
	int coherence = fcntl(context->delivery.coherence_fd, F_DUPFD_CLOEXEC, ABOVE_FD);
	int more[VMSIG_MEMFILES_MAX];
	bool ok;

	for (uint32_t i = 1; i < n; i++)
		more[i] = fcntl(files[i].fd, F_DUPFD_CLOEXEC, ABOVE_FD);
	ok = set_descriptor(ram, RAM_FD) && set_descriptor(coherence, COHERENCE_FD);
	for (uint32_t i = 1; ok && i < n; i++)
		ok = set_descriptor(more[i], fd_of_file(i));
	return ok && syscall(SYS_close_range, n > 1 ? fd_of_file(n) : MORE_FD, ~0u, 0) == 0;
}

static int run_exec(struct ctl *ctl, int argc, char **argv)
{
	struct context context;
	char **command;
	int code = ctl_options(ctl, &ctl_exec, argc, argv, NULL, NULL, NULL);

	if (code)
		return code;
	command = argv + optind + 1;
	if (optind + 1 < argc && strcmp(command[0], "--") == 0)
		command++;
	if (command >= argv + argc)
		return ctl_usage(&ctl_exec, "it takes ENDPOINT -- CMD");
	code = ctl_context_open(ctl, argv[optind], &context);
	if (code)
		return code;
	if (!set_environment(argv[optind], &context) || !set_descriptors(&context)) {
		code = ctl_fail(VMSIG_ERR_IO, "cannot set up the command: %s", strerror(errno));
		context_close(&context);
		return code;
	}
	/* We become the command: its signals and its exit status are its own. The connection is
	 * closed by that; the coherence page goes on telling when the context is void. */
	ctl_become(command);
}

const struct ctl_command ctl_exec = {
	.name = "exec",
	.arguments = "ENDPOINT -- CMD [ARG]...",
	.summary = "Run a program as a holder of the endpoint's context",
	.help = "CMD has guest RAM on descriptor 3 and the coherence page on 4, both read-only, "
		"and\n"
		"in its environment VMSIG_ENDPOINT, VMSIG_KCR3, VMSIG_LOW, VMSIG_EPOCH, "
		"VMSIG_FLAGS\n"
		"and VMSIG_SEGS (gpa:len:off,..., empty for a single-low layout). RAM in several "
		"files\n"
		"has the first one on descriptor 3 and the others on 5, 6...; VMSIG_FILES "
		"(fd:size,...)\n"
		"has them in the order in which they lie end to end, and is not set for a single "
		"one.\n"
		"The exit status is CMD's; 126 and 127 as from a shell when it cannot be run.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl exec web1 -- sh -c 'echo $VMSIG_KCR3; ls -l /proc/self/fd/3'\n",
	.has_command = true,
	.run = run_exec,
};
