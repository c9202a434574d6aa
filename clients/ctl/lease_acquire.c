/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clients/ctl/operator.h"

#define RANGES_MAX 256u
#define ABOUT_MAX (VMSIG_NAME_MAX + 40)
#define SHELL_SIGNAL 128 /* plus the signal: how shells tell what ended a command */

/* A lease that is held while a command runs. */
struct hold {
	const char *endpoint;
	vmsig_writer *writer;
	vmsig_lease *lease;
	vmsig_lease_info info;
	pid_t child;
	sigset_t before; /* the signals that the command has blocked */
	int signals;     /* signalfd(2) */
	int status;      /* of the command */
	bool ended;
	bool lost;     /* without the command's will */
	bool released; /* by the command, which goes on */
};

/* "lease 17 on web1: ..." */
static const char *about(const struct hold *hold, char buf[static ABOUT_MAX])
{
	snprintf(buf, ABOUT_MAX, "lease %" PRIu64 " on %s", hold->info.id, hold->endpoint);
	return buf;
}

__attribute__((format(printf, 2, 3))) static void note(
	const struct hold *hold, const char *format, ...)
{
	char buf[ABOUT_MAX], text[VMSIG_DETAIL_MAX + 64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ctl_note("%s: %s", about(hold, buf), text);
}

/* ---- the command ---- */

static bool set_number(const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return setenv(name, text, 1) == 0;
}

/* Also from another folder. */
static bool set_path(const char *name, const char *path)
{
	char *whole = realpath(path, NULL);
	bool ok = setenv(name, whole ? whole : path, 1) == 0;

	free(whole);
	return ok;
}

/* The identity and the socket too: the token is worth nothing at another broker. */
static bool set_environment(const struct ctl *ctl, const struct hold *hold)
{
	return set_number(CTL_ENV_LEASE, hold->info.id) &&
	       set_number(CTL_ENV_TOKEN, hold->info.token) &&
	       setenv(CTL_ENV_ENDPOINT, hold->endpoint, 1) == 0 &&
	       set_path("VMSIG_IDENTITY", ctl->identity) &&
	       set_path("VMSIG_WRITE_SOCKET", ctl_socket(ctl, CTL_PLANE_WRITE));
}

/* What ends other commands ends this one; what was ignored stays so, as under nohup(1). */
static int signals_open(struct hold *hold)
{
	static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction action;
	sigset_t set;

	/* Ignored, it would leave no exit status behind. */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++) {
		if (sigaction(forwarded[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(&set, forwarded[i]);
	}
	if (sigprocmask(SIG_BLOCK, &set, &hold->before) < 0)
		return -errno;
	hold->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return hold->signals < 0 ? -errno : 0;
}

static int spawn(struct hold *hold, char **command)
{
	pid_t parent = getpid();

	hold->child = fork();
	if (hold->child < 0)
		return -errno;
	if (hold->child > 0)
		return 0;
	/* Nobody would tell it of a lost lease when we are killed. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_LOST);
	sigprocmask(SIG_SETMASK, &hold->before, NULL);
	ctl_become(command);
}

static void reap(struct hold *hold)
{
	int status;

	if (waitpid(hold->child, &status, WNOHANG) <= 0)
		return;
	hold->ended = true;
	hold->status = WIFSIGNALED(status) ? SHELL_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The terminal's signals go to each process of the foreground group. */
static bool came_to_both(const struct hold *hold, const struct signalfd_siginfo *info)
{
	return info->ssi_code == SI_KERNEL && getpgid(hold->child) == getpgrp();
}

static void signals_take(struct hold *hold)
{
	struct signalfd_siginfo info;

	while (read(hold->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD && !hold->ended)
			reap(hold);
		else if (!hold->ended && !came_to_both(hold, &info))
			kill(hold->child, (int)info.ssi_signo);
	}
}

/* ---- the lease ---- */

static void lose(struct hold *hold, int error, const char *text)
{
	char buf[ABOUT_MAX];
	size_t len;

	if (hold->lost || hold->ended)
		return;
	hold->lost = true;
	text = text[0] ? text : vmsig_error_text(error);
	len = strlen(text);
	/* A sentence goes on. */
	ctl_fail_with(error, "ending the command", "%s: lost: %.*s", about(hold, buf),
		(int)(len - (len && text[len - 1] == '.')), text);
	kill(hold->child, SIGTERM);
	kill(hold->child, SIGCONT);
}

static void event_take(struct hold *hold, const vmsig_writer_event *event)
{
	switch (event->kind) {
	case VMSIG_WEV_NOTICE:
		note(hold, "will be revoked in %u ms: somebody of higher priority waits",
			event->revoke_in_ms);
		break;
	case VMSIG_WEV_LOST:
		hold->released = !event->error;
		if (hold->released)
			note(hold, "was given back before the command has ended");
		else
			lose(hold, event->error, event->text);
		break;
	case VMSIG_WEV_DISCONNECTED:
		note(hold, "not connected, trying again: %s", event->text);
		break;
	case VMSIG_WEV_RESUMED:
		note(hold, "resumed");
		break;
	default:
		break;
	}
}

static void writer_step(struct hold *hold)
{
	vmsig_writer_event event;
	int r = vmsig_writer_process(hold->writer);

	while (vmsig_writer_next(hold->writer, &event) == 0)
		event_take(hold, &event);
	if (r && r != -VMSIG_ERR_NO_MEMORY)
		lose(hold, r, vmsig_writer_last_error(hold->writer));
}

/* NULL: without limit. */
static const struct timespec *timeout(const struct hold *hold, struct timespec *buf)
{
	int64_t deadline = vmsig_writer_deadline(hold->writer), left;
	struct timespec now;

	if (hold->lost || deadline < 0)
		return NULL;
	clock_gettime(CLOCK_MONOTONIC, &now);
	left = deadline - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	left = left > 0 ? left : 0;
	*buf = (struct timespec){left / 1000000000, left % 1000000000};
	return buf;
}

/* Until the command has ended. */
static void hold_run(struct hold *hold)
{
	while (!hold->ended) {
		struct pollfd pfds[] = {{.fd = hold->signals, .events = POLLIN},
			{.fd = hold->lost ? -1 : vmsig_writer_fd(hold->writer),
				.events = vmsig_writer_poll_events(hold->writer)}};
		struct timespec buf;

		if (ppoll(pfds, 2, timeout(hold, &buf), NULL) < 0 && errno != EINTR)
			lose(hold, -VMSIG_ERR_IO, strerror(errno));
		signals_take(hold);
		if (!hold->lost && !hold->ended)
			writer_step(hold);
	}
}

/* Gives the lease back; what the broker says to that may be that it was over before. */
static void hold_release(struct hold *hold)
{
	char buf[ABOUT_MAX];
	int r;

	if (hold->lost || hold->released)
		return;
	r = vmsig_lease_release_wait(hold->lease, CTL_RELEASE_MS);
	if (!r)
		return;
	if (r == -VMSIG_ERR_TIMEOUT || r == -VMSIG_ERR_DISCONNECTED) {
		note(hold, "not released, it ends by itself: %s",
			vmsig_writer_last_error(hold->writer));
		return;
	}
	hold->lost = true;
	ctl_fail_with(r, NULL, "%s: lost before the command had ended: %s", about(hold, buf),
		vmsig_writer_last_error(hold->writer));
}

static int hold_command(const struct ctl *ctl, struct hold *hold, char **command)
{
	int r;

	vmsig_lease_get(hold->lease, &hold->info);
	if (!set_environment(ctl, hold))
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot set up the environment");
	r = signals_open(hold);
	if (!r)
		r = spawn(hold, command);
	if (r)
		return ctl_fail(VMSIG_ERR_IO, "cannot start %s: %s", command[0], strerror(-r));
	hold_run(hold);
	hold_release(hold);
	return hold->lost ? EXIT_LOST : hold->status;
}

/* ---- the command line ---- */

struct acquire_options {
	vmsig_lease_request request;
	vmsig_lease_range ranges[RANGES_MAX];
};

enum { OPT_RANGE = CTL_OPT_FIRST, OPT_TTL, OPT_NO_WAIT, OPT_PRIORITY };

static bool handle(void *ctx, int code, const char *value)
{
	struct acquire_options *options = ctx;
	uint64_t priority;

	switch (code) {
	case OPT_RANGE:
		return options->request.nranges < RANGES_MAX &&
		       text_range(value, &options->ranges[options->request.nranges++]);
	case OPT_TTL:
		return text_duration(value, &options->request.ttl_ms) && options->request.ttl_ms;
	case OPT_NO_WAIT:
		options->request.no_wait = true;
		return true;
	default:
		if (!text_number(value, &priority) || priority > UINT32_MAX)
			return false;
		options->request.priority = (uint32_t)priority;
		return true;
	}
}

static int acquire(const struct ctl *ctl, const vmsig_lease_request *request, char **command)
{
	struct hold hold = {.endpoint = request->endpoint, .signals = -1};
	int code = ctl_writer_open(ctl, &hold.writer);

	if (code)
		return code;
	code = ctl_lease_ask(ctl, hold.writer, request, &hold.lease);
	if (!code)
		code = hold_command(ctl, &hold, command);
	if (hold.signals >= 0)
		close(hold.signals);
	vmsig_writer_close(hold.writer);
	return code;
}

static int run_acquire(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {{"range", required_argument, NULL, OPT_RANGE},
		{"ttl", required_argument, NULL, OPT_TTL},
		{"no-wait", no_argument, NULL, OPT_NO_WAIT},
		{"priority", required_argument, NULL, OPT_PRIORITY}, {NULL, 0, NULL, 0}};
	struct acquire_options options = {0};
	int code = ctl_options(ctl, &ctl_lease_acquire, argc, argv, own, handle, &options);

	if (code)
		return code;
	if (argc - optind < 2)
		return ctl_usage(&ctl_lease_acquire, "it takes ENDPOINT -- CMD");
	options.request.endpoint = argv[optind];
	options.request.ranges = options.ranges;
	/* Without --wait the policy's bound; 0 would mean that too. */
	options.request.wait_ms = ctl->wait_given ? ctl->wait_ms : 0;
	options.request.no_wait |= ctl->wait_given && !ctl->wait_ms;
	return acquire(ctl, &options.request, argv + optind + 1);
}

const struct ctl_command ctl_lease_acquire = {
	.name = "lease acquire",
	.arguments = "ENDPOINT [--range GPA+LEN]... [--ttl T] [--wait T | --no-wait]\n"
		     "       [--priority N] -- CMD [ARG]...",
	.summary = "Hold a lease while a command runs, like flock(1)",
	.help = "  --range GPA+LEN  guest-physical bytes to lease; again for more; none: all\n"
		"  --ttl T          how long the broker waits for a silent holder (default 5s);\n"
		"                   the lease is renewed for as long as CMD runs\n"
		"  --wait T         how long to queue behind others (default: the policy's bound)\n"
		"  --no-wait        fail at once when somebody holds a conflicting lease\n"
		"  --priority N     ask holders of a lower one to go, if the policy allows it\n"
		"\n"
		"CMD has VMSIG_LEASE, VMSIG_TOKEN and VMSIG_LEASE_ENDPOINT in its environment,\n"
		"so that `vmsigctl write` in it writes under this lease; VMSIG_IDENTITY and\n"
		"VMSIG_WRITE_SOCKET lead it to the same broker. The exit status is CMD's, or 128\n"
		"and the signal that ended it. When the lease is lost CMD gets SIGTERM, never\n"
		"SIGKILL, and the exit status is 124 once it has ended. SIGINT, SIGTERM, SIGHUP\n"
		"and SIGQUIT are passed on to CMD.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease acquire web1 --range 0x6000+4096 -- ./patch-guest\n"
		"  vmsigctl lease acquire web1 --ttl 2s --no-wait -- \\\n"
		"      sh -c 'vmsigctl write web1 0x6000 --phys --u8 1 && ./check-guest'\n",
	.run = run_acquire,
};
