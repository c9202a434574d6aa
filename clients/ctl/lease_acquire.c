/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl lease acquire` and `resume`: hold a lease in the foreground, for as long as a command
 * runs.
 */
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
#include <unistd.h>

#include "clients/common/moment.h"
#include "clients/ctl/operator.h"

#define RANGES_MAX 256u
#define ABOUT_MAX (VMSIG_NAME_MAX + 40)
#define SHELL_SIGNAL 128 /* plus the signal: how shells tell what ended a command */

/* A lease that is held while a command runs. */
struct holding {
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
static const char *about(const struct holding *holding, char buf[static ABOUT_MAX])
{
	snprintf(buf, ABOUT_MAX, "lease %" PRIu64 " on %s", holding->info.id, holding->endpoint);
	return buf;
}

__attribute__((format(printf, 2, 3))) static void note(
	const struct holding *holding, const char *format, ...)
{
	char buf[ABOUT_MAX], text[VMSIG_DETAIL_MAX + 64];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ctl_note("%s: %s", about(holding, buf), text);
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
static bool set_environment(const struct ctl *ctl, const struct holding *holding)
{
	return set_number(CTL_ENV_LEASE, holding->info.id) &&
	       set_number(CTL_ENV_TOKEN, holding->info.token) &&
	       setenv(CTL_ENV_ENDPOINT, holding->endpoint, 1) == 0 &&
	       set_path("VMSIG_IDENTITY", ctl->identity) &&
	       set_path("VMSIG_WRITE_SOCKET", ctl_socket(ctl, CTL_PLANE_WRITE));
}

/* What ends other commands ends this one; what was ignored stays so, as under nohup(1). */
static int signals_open(struct holding *holding)
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
	if (sigprocmask(SIG_BLOCK, &set, &holding->before) < 0)
		return -errno;
	holding->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return holding->signals < 0 ? -errno : 0;
}

static int spawn(struct holding *holding, char **command)
{
	pid_t parent = getpid();

	holding->child = fork();
	if (holding->child < 0)
		return -errno;
	if (holding->child > 0)
		return 0;
	/* Nobody would tell it of a lost lease when we are killed. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_LOST);
	sigprocmask(SIG_SETMASK, &holding->before, NULL);
	ctl_become(command);
}

static void reap(struct holding *holding)
{
	int status;

	if (waitpid(holding->child, &status, WNOHANG) <= 0)
		return;
	holding->ended = true;
	holding->status =
		WIFSIGNALED(status) ? SHELL_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The terminal's signals go to each process of the foreground group. */
static bool came_to_both(const struct holding *holding, const struct signalfd_siginfo *info)
{
	return info->ssi_code == SI_KERNEL && getpgid(holding->child) == getpgrp();
}

static void signals_take(struct holding *holding)
{
	struct signalfd_siginfo info;

	while (read(holding->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD && !holding->ended)
			reap(holding);
		else if (!holding->ended && !came_to_both(holding, &info))
			kill(holding->child, (int)info.ssi_signo);
	}
}

/* ---- the lease ---- */

static void lose(struct holding *holding, int error, const char *text)
{
	char buf[ABOUT_MAX];
	size_t len;

	if (holding->lost || holding->ended)
		return;
	holding->lost = true;
	text = text[0] ? text : vmsig_error_text(error);
	len = strlen(text);
	/* A sentence goes on. */
	ctl_fail_with(error, "ending the command", "%s: lost: %.*s", about(holding, buf),
		(int)(len - (len && text[len - 1] == '.')), text);
	kill(holding->child, SIGTERM);
	kill(holding->child, SIGCONT);
}

static void event_take(struct holding *holding, const vmsig_writer_event *event)
{
	switch (event->kind) {
	case VMSIG_WEV_NOTICE:
		note(holding, "will be revoked in %u ms: somebody of higher priority waits",
			event->revoke_in_ms);
		break;
	case VMSIG_WEV_LOST:
		holding->released = !event->error;
		if (holding->released)
			note(holding, "was given back before the command has ended");
		else
			lose(holding, event->error, event->text);
		break;
	case VMSIG_WEV_DISCONNECTED:
		note(holding, "not connected, trying again: %s", event->text);
		break;
	case VMSIG_WEV_RESUMED:
		note(holding, "resumed");
		break;
	default:
		break;
	}
}

static void writer_step(struct holding *holding)
{
	vmsig_writer_event event;
	int r = vmsig_writer_process(holding->writer);

	while (vmsig_writer_next(holding->writer, &event) == 0)
		event_take(holding, &event);
	if (r && r != -VMSIG_ERR_NO_MEMORY)
		lose(holding, r, vmsig_writer_last_error(holding->writer));
}

/* Until the command has ended. */
static void holding_run(struct holding *holding)
{
	while (!holding->ended) {
		struct pollfd pfds[] = {{.fd = holding->signals, .events = POLLIN},
			{.fd = holding->lost ? -1 : vmsig_writer_fd(holding->writer),
				.events = vmsig_writer_poll_events(holding->writer)}};
		int64_t deadline = holding->lost ? -1 : vmsig_writer_deadline(holding->writer);
		struct timespec buf;

		if (ppoll(pfds, 2, moment_left(deadline < 0 ? MOMENT_NEVER : deadline, &buf),
			    NULL) < 0 &&
			errno != EINTR)
			lose(holding, -VMSIG_ERR_IO, strerror(errno));
		signals_take(holding);
		if (!holding->lost && !holding->ended)
			writer_step(holding);
	}
}

/* Gives the lease back; what the broker says to that may be that it was over before. */
static void holding_release(struct holding *holding)
{
	char buf[ABOUT_MAX];
	int r;

	if (holding->lost || holding->released)
		return;
	r = vmsig_lease_release_wait(holding->lease, CTL_RELEASE_MS);
	if (!r)
		return;
	if (r == -VMSIG_ERR_TIMEOUT || r == -VMSIG_ERR_DISCONNECTED) {
		note(holding, "not released, it ends by itself: %s",
			vmsig_writer_last_error(holding->writer));
		return;
	}
	holding->lost = true;
	ctl_fail_with(r, NULL, "%s: lost before the command had ended: %s", about(holding, buf),
		vmsig_writer_last_error(holding->writer));
}

static int holding_command(const struct ctl *ctl, struct holding *holding, char **command)
{
	int r;

	vmsig_lease_get(holding->lease, &holding->info);
	if (!set_environment(ctl, holding))
		return ctl_fail(VMSIG_ERR_NO_MEMORY, "cannot set up the environment");
	r = signals_open(holding);
	if (!r)
		r = spawn(holding, command);
	if (r)
		return ctl_fail(VMSIG_ERR_IO, "cannot start %s: %s", command[0], strerror(-r));
	holding_run(holding);
	holding_release(holding);
	return holding->lost ? EXIT_LOST : holding->status;
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

static void holding_close(struct holding *holding)
{
	if (holding->signals >= 0)
		close(holding->signals);
	vmsig_writer_close(holding->writer);
}

static int acquire(const struct ctl *ctl, const vmsig_lease_request *request, char **command)
{
	struct holding holding = {.endpoint = request->endpoint, .signals = -1};
	int code = ctl_writer_open(ctl, &holding.writer);

	if (code)
		return code;
	code = ctl_lease_ask(ctl, holding.writer, request, &holding.lease);
	if (!code)
		code = holding_command(ctl, &holding, command);
	holding_close(&holding);
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

/* ---- resume ---- */

enum { OPT_TOKEN = CTL_OPT_FIRST };

static bool handle_resume(void *ctx, int code, const char *value)
{
	*(const char **)ctx = value;
	return code == OPT_TOKEN;
}

static int resume(const struct ctl *ctl, uint64_t id, uint64_t token, char **command)
{
	struct holding holding = {.signals = -1};
	int code = ctl_writer_open(ctl, &holding.writer), r;

	if (code)
		return code;
	r = vmsig_lease_resume(holding.writer, id, token, &holding.lease, (int)ctl->wait_ms);
	if (r)
		code = ctl_lease_fail(
			ctl, holding.writer, r, id, getenv(CTL_ENV_ENDPOINT), "resume");
	if (!code) {
		vmsig_lease_get(holding.lease, &holding.info);
		holding.endpoint = holding.info.endpoint;
		code = holding_command(ctl, &holding, command);
	}
	holding_close(&holding);
	return code;
}

static int run_resume(struct ctl *ctl, int argc, char **argv)
{
	static const struct option own[] = {
		{"token", required_argument, NULL, OPT_TOKEN}, {NULL, 0, NULL, 0}};
	const char *text = NULL;
	uint64_t id, token;
	int code = ctl_options(ctl, &ctl_lease_resume, argc, argv, own, handle_resume, &text);

	if (code)
		return code;
	if (argc - optind < 2)
		return ctl_usage(&ctl_lease_resume, "it takes ID -- CMD");
	code = ctl_lease_words(&ctl_lease_resume, argv[optind], text, &id, &token);
	return code ? code : resume(ctl, id, token, argv + optind + 1);
}

const struct ctl_command ctl_lease_resume = {
	.name = "lease resume",
	.arguments = "ID [--token N] -- CMD [ARG]...",
	.summary = "Go on with a lease of this identity, and hold it while a command runs",
	.help = "  --token N  of the lease (default: VMSIG_TOKEN, as `lease acquire` sets it)\n"
		"\n"
		"Takes over a lease of the same tenant and uid whose holder has ended, or whose\n"
		"guest has moved to this broker's host: it has the same ID and token there. A\n"
		"process that still holds it is not told, and gives it back when it ends. All "
		"else\n"
		"is as with `lease acquire`.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl lease resume \"$VMSIG_LEASE\" -- ./patch-guest\n",
	.run = run_resume,
};
