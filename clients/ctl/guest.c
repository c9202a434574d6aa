/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/guest.h"

#include <string.h>

#define REASON_MAX 256

/* Once for each command, beside what it found. */
static void say_caveat(const vmsig_os_handle *os)
{
	const char *caveat = vmsig_os_caveat(os);

	if (caveat)
		ctl_note("what is said of %s guests is %s", vmsig_os_name(vmsig_os_kind(os)),
			caveat);
}

int ctl_guest_open(const struct ctl *ctl, const char *endpoint, struct ctl_guest *ret_guest)
{
	char reason[REASON_MAX];
	int code, r;

	*ret_guest = (struct ctl_guest){.endpoint = endpoint};
	code = ctl_context_open(ctl, endpoint, &ret_guest->context);
	if (code)
		return code;
	r = vmsig_os_open(&ret_guest->os, ret_guest->context.mem, ret_guest->context.pod.kcr3,
		reason, sizeof(reason));
	if (!r) {
		say_caveat(ret_guest->os);
		return EXIT_OK;
	}
	code = ctl_fail_about(endpoint, r,
		r == -VMSIG_ERR_UNSUPPORTED && reason[0] ? reason : vmsig_error_text(r));
	context_close(&ret_guest->context);
	return code;
}

void ctl_guest_close(struct ctl_guest *guest)
{
	guest->os = vmsig_os_close(guest->os);
	context_close(&guest->context);
}

int ctl_guest_fail(const struct ctl_guest *guest, int r, const char *what)
{
	const char *missing = r == -VMSIG_ERR_UNSUPPORTED ? vmsig_os_missing(guest->os) : NULL;

	if (missing)
		return ctl_fail(r,
			"cannot look at the %s of %s: its kernel has no %s, or it could not be "
			"found",
			what, guest->endpoint, missing);
	return ctl_fail(
		r, "cannot look at the %s of %s: %s", what, guest->endpoint, vmsig_error_text(r));
}

int ctl_guest_whole(const struct ctl_guest *guest, bool partial, const char *what)
{
	if (!partial)
		return EXIT_OK;
	(void)ctl_fail(VMSIG_ERR_TORN,
		"these are not all %s of %s: they changed whenever they were looked at", what,
		guest->endpoint);
	return EXIT_PARTIAL;
}

static bool parse_pid(const char *text, uint32_t *ret_pid)
{
	uint64_t number;

	if (!text_number(text, &number) || number > INT32_MAX)
		return false;
	*ret_pid = (uint32_t)number;
	return true;
}

bool ctl_is_pid(const char *text)
{
	uint32_t pid;

	return parse_pid(text, &pid);
}

int ctl_check_pid(const char *text)
{
	if (ctl_is_pid(text))
		return EXIT_OK;
	ctl_fail_with(VMSIG_ERR_BAD_REQUEST, "see `vmsigctl ps`", "'%s' is no pid", text);
	return EXIT_USAGE;
}

int ctl_guest_lacks(const struct ctl_guest *guest, const char *pid)
{
	ctl_fail_with(
		VMSIG_ERR_GONE, "see `vmsigctl ps`", "%s has no process %s", guest->endpoint, pid);
	return EXIT_NOT_FOUND;
}

int ctl_guest_process(const struct ctl_guest *guest, const char *pid, vmsig_proc *ret_process)
{
	uint32_t number;
	int r;

	if (!parse_pid(pid, &number))
		return ctl_check_pid(pid);
	r = vmsig_os_process(guest->os, number, ret_process);
	if (r != -VMSIG_ERR_GONE)
		return r ? ctl_guest_fail(guest, r, "processes") : EXIT_OK;
	return ctl_guest_lacks(guest, pid);
}

/* ---- a command ---- */

static bool handle_pid(void *ctx, int code, const char *value)
{
	const char **pid = ctx;

	*pid = value;
	return ctl_is_pid(value);
}

static int parse(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	const char **ret_pid)
{
	static const struct option own[] = {
		{"pid", required_argument, NULL, CTL_OPT_PID}, {NULL, 0, NULL, 0}};

	*ret_pid = NULL;
	return ctl_options(ctl, command, argc, argv, own, handle_pid, ret_pid);
}

static int look_into(
	const struct ctl *ctl, const char *endpoint, const char *pid, ctl_guest_look look)
{
	struct ctl_guest guest;
	int code = ctl_guest_open(ctl, endpoint, &guest);

	if (code)
		return code;
	code = look(ctl, &guest, pid);
	ctl_guest_close(&guest);
	return code;
}

int ctl_guest_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	ctl_guest_look look)
{
	const char *pid;
	int code = parse(ctl, command, argc, argv, &pid);

	if (code)
		return code;
	if (optind + 1 != argc)
		return ctl_usage(command, "it takes one ENDPOINT");
	return look_into(ctl, argv[optind], pid, look);
}

int ctl_guest_run_process(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv,
	ctl_guest_look look)
{
	const char *pid;
	int code = parse(ctl, command, argc, argv, &pid);

	if (code)
		return code;
	if (optind + (pid ? 1 : 2) != argc)
		return ctl_usage(command, "it takes one ENDPOINT and a PID");
	pid = pid ? pid : argv[optind + 1];
	code = ctl_check_pid(pid);
	return code ? code : look_into(ctl, argv[optind], pid, look);
}
