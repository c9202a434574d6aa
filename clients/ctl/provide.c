/* SPDX-License-Identifier: Apache-2.0 */
/* `vmsigctl provide`: offers a guest to the broker, for as long as it runs. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/ctl/admin.h"

#define FILES_MAX 16u
#define SEGMENTS_MAX 64u
#define LOOK_MS 200 /* between two looks whether a signal has come */
#define FOUR_GIB (1ull << 32)

/* What the command line says of it. */
struct offered {
	vmsig_guest guest;
	const char *paths[FILES_MAX];
	int fds[FILES_MAX];
	vmsig_memseg segs[SEGMENTS_MAX];
	const char *wrong; /* an option, or NULL */
};

static volatile sig_atomic_t ended, reset;

static void on_signal(int number)
{
	if (number == SIGUSR1)
		reset = 1;
	else
		ended = 1;
}

static void catch_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* ---- the command line ---- */

enum { OPT_RAM = CTL_OPT_FIRST, OPT_LOW, OPT_SEGMENT, OPT_KCR3, OPT_LEVELS, OPT_WRITABLE };

static const struct option own[] = {{"ram", required_argument, NULL, OPT_RAM},
	{"low", required_argument, NULL, OPT_LOW},
	{"segment", required_argument, NULL, OPT_SEGMENT},
	{"kcr3", required_argument, NULL, OPT_KCR3},
	{"levels", required_argument, NULL, OPT_LEVELS},
	{"writable", no_argument, NULL, OPT_WRITABLE}, {NULL, 0, NULL, 0}};

/* GPA:LEN:OFFSET */
static bool segment_add(struct offered *offered, const char *text)
{
	vmsig_memseg *seg = &offered->segs[offered->guest.nsegs];
	char words[3][32] = {"", "", ""};
	uint64_t numbers[3];

	if (offered->guest.nsegs == SEGMENTS_MAX ||
		sscanf(text, "%31[^:]:%31[^:]:%31[^:]", words[0], words[1], words[2]) != 3)
		return false;
	for (size_t i = 0; i < 3; i++) {
		if (!text_number(words[i], &numbers[i]))
			return false;
	}
	*seg = (vmsig_memseg){.gpa = numbers[0], .len = numbers[1], .file_off = numbers[2]};
	offered->guest.nsegs++;
	return true;
}

static bool handle(void *ctx, int code, const char *value)
{
	struct offered *offered = ctx;
	vmsig_guest *guest = &offered->guest;
	uint64_t levels;

	switch (code) {
	case OPT_RAM:
		if (guest->nfds == FILES_MAX)
			return false;
		offered->paths[guest->nfds++] = value;
		return true;
	case OPT_LOW:
		return text_number(value, &guest->low);
	case OPT_SEGMENT:
		return segment_add(offered, value);
	case OPT_KCR3:
		if (strcmp(value, "find") == 0)
			return true;
		guest->levels = guest->levels ? guest->levels : 4;
		return text_number(value, &guest->kcr3);
	case OPT_LEVELS:
		if (!text_number(value, &levels) || (levels != 4 && levels != 5))
			return false;
		guest->levels = (uint32_t)levels;
		return true;
	default:
		guest->writable = true;
		return code == OPT_WRITABLE;
	}
}

static int open_files(struct offered *offered, size_t *ret_open)
{
	vmsig_guest *guest = &offered->guest;
	uint64_t size = 0;

	for (size_t i = 0; i < guest->nfds; i++) {
		const char *path = offered->paths[i];
		int fd = open(path, (guest->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
		struct stat st;

		if (fd < 0 || fstat(fd, &st))
			return ctl_fail(VMSIG_ERR_IO, "%s: %s", path, strerror(errno));
		offered->fds[(*ret_open)++] = fd;
		size += (uint64_t)st.st_size;
	}
	guest->fds = offered->fds;
	guest->segs = offered->segs;
	if (guest->low || guest->nsegs)
		return EXIT_OK;
	if (size > FOUR_GIB)
		return ctl_fail(VMSIG_ERR_BAD_REQUEST,
			"%s: more than 4 GiB; say where it lies with --low or --segment",
			offered->paths[0]);
	guest->low = size;
	return EXIT_OK;
}

/* ---- as long as it runs ---- */

static int say(const struct ctl *ctl, const char *what, const char *name)
{
	int code = EXIT_OK;

	if (ctl->json)
		code = ctl_print_json(json_pack("{s:s}", what, name));
	else
		printf("%s: %s\n", what, name);
	fflush(stdout);
	return code;
}

static int begin(const struct ctl *ctl, vmsig_admin *admin, const vmsig_guest *guest)
{
	bool resumed;
	int r = vmsig_admin_provide(admin, guest, &resumed, (int)ctl->wait_ms);

	return r ? ctl_fail(r, "%s: %s", guest->name, vmsig_admin_last_error(admin))
		 : say(ctl, resumed ? "resumed" : "provided", guest->name);
}

static int invalidate(const struct ctl *ctl, vmsig_admin *admin, const vmsig_guest *guest)
{
	int r = vmsig_admin_provide_invalidate(
		admin, guest->name, guest->kcr3, guest->levels, (int)ctl->wait_ms);

	reset = 0;
	return r ? ctl_fail(r, "%s: %s", guest->name, vmsig_admin_last_error(admin))
		 : say(ctl, "invalidated", guest->name);
}

static int hold(const struct ctl *ctl, vmsig_admin **admin, const vmsig_guest *guest)
{
	int code = begin(ctl, *admin, guest);

	while (!code && !ended) {
		int r = vmsig_admin_hold(*admin, LOOK_MS);

		if (reset && r == -VMSIG_ERR_TIMEOUT) {
			code = invalidate(ctl, *admin, guest);
		} else if (r == -VMSIG_ERR_DISCONNECTED) {
			code = ctl_admin_reconnect(ctl, admin);
			if (!code)
				code = begin(ctl, *admin, guest);
		} else if (r != -VMSIG_ERR_TIMEOUT) {
			code = ctl_fail(r, "%s: %s", guest->name, vmsig_admin_last_error(*admin));
		}
	}
	if (!code && !vmsig_admin_provide_end(*admin, guest->name, (int)ctl->wait_ms))
		code = say(ctl, "ended", guest->name);
	return code;
}

static int run_provide(struct ctl *ctl, int argc, char **argv)
{
	struct offered offered = {0};
	vmsig_admin *admin = NULL;
	size_t nopen = 0;
	int code = ctl_options(ctl, &ctl_provide, argc, argv, own, handle, &offered);

	if (code)
		return code;
	if (optind + 1 != argc || !offered.guest.nfds)
		return ctl_usage(&ctl_provide, "it takes NAME and at least one --ram FILE");
	offered.guest.name = argv[optind];
	code = open_files(&offered, &nopen);
	catch_signals();
	if (!code)
		code = ctl_admin_connect(ctl, &admin);
	if (!code)
		code = hold(ctl, &admin, &offered.guest);
	vmsig_admin_close(admin);
	while (nopen)
		close(offered.fds[--nopen]);
	return code;
}

const struct ctl_command ctl_provide = {
	.name = "provide",
	.arguments =
		"NAME --ram FILE [--low N | --segment GPA:LEN:OFFSET]... [--kcr3 X] [--writable]",
	.summary = "Offer a guest to the broker, as a provider, until this is ended",
	.help = "  --ram FILE      its RAM, on a tmpfs or hugetlbfs; again for more, end to end\n"
		"  --low N         bytes below 4 GiB, the rest above (default: all of the files)\n"
		"  --segment S     GPA:LEN:OFFSET, instead; again for more\n"
		"  --kcr3 X        the kernel's page tables; find (default): the broker looks\n"
		"  --levels N      of them, 4 (default) or 5\n"
		"  --writable      operators may write to it\n"
		"\n"
		"SIGUSR1 says that the guest was reset. A broker that was lost is waited for.\n"
		"\n"
		"Examples:\n"
		"  vmsigctl provide m1 --ram /dev/shm/m1 --identity maker\n",
	.run = run_provide,
};
