/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmsig-launch: an example of a provider, meant to be copied. It makes a guest's RAM, offers it to
 * the broker, and runs a VMM that has it on descriptor 3; the endpoint ends with the VMM.
 *
 *	VMSIG_IDENTITY=maker vmsig-launch m1 536870912 find my-vmm --ram-fd 3
 *
 *	cc -o launch launch.c $(pkg-config --cflags --libs libvmsig)
 */
/* memfd_create(2) and seals. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmsig/vmsig_admin.h"

#define RAM 3 /* the VMM's descriptor of it */
#define LOOK_MS 100
#define USAGE                                                                                      \
	"Usage: VMSIG_IDENTITY=DIR vmsig-launch NAME BYTES KCR3|find VMM [ARGUMENT...]\n"          \
	"Runs a VMM with RAM of so many bytes on descriptor 3, which the broker serves as NAME."

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "vmsig-launch: %s: %s\n", what, why);
	return 1;
}

/* Until the VMM ends, or the broker is lost for longer than it waits for us. */
static int hold(vmsig_admin *admin, const vmsig_guest *guest, pid_t vmm)
{
	int status;

	while (waitpid(vmm, &status, WNOHANG) == 0) {
		if (vmsig_admin_hold(admin, LOOK_MS) == -VMSIG_ERR_TIMEOUT)
			continue;
		kill(vmm, SIGTERM);
		waitpid(vmm, &status, 0);
		return fail(guest->name, vmsig_admin_last_error(admin));
	}
	(void)!vmsig_admin_provide_end(admin, guest->name, -1);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const vmsig_options options = {.identity_dir = getenv("VMSIG_IDENTITY"),
		.socket_path = getenv("VMSIG_ADMIN_SOCKET"),
		.flags = VMSIG_OPT_NO_RECONNECT};
	vmsig_guest guest = {.nfds = 1};
	vmsig_admin *admin;
	char error[512];
	bool resumed;
	int ram, code;
	pid_t vmm;

	if (argc == 2 && strcmp(argv[1], "-h") == 0) {
		puts(USAGE);
		return fflush(stdout) ? 1 : 0;
	}
	if (argc < 5) {
		fprintf(stderr, "%s\n", USAGE);
		return 2;
	}
	guest.name = argv[1];
	guest.low = strtoull(argv[2], NULL, 0);
	guest.levels = strcmp(argv[3], "find") == 0 ? 0 : 4;
	guest.kcr3 = guest.levels ? strtoull(argv[3], NULL, 0) : 0;
	/* What cannot shrink, nobody has to be afraid of. */
	ram = memfd_create("ram", MFD_ALLOW_SEALING);
	if (ram < 0 || ftruncate(ram, (off_t)guest.low) < 0 ||
		fcntl(ram, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0 || dup2(ram, RAM) < 0)
		return fail("cannot make the RAM", strerror(errno));
	guest.fds = (const int[]){RAM};
	if (vmsig_admin_open(&admin, &options, error, sizeof(error)))
		return fail("cannot connect", error);
	code = vmsig_admin_provide(admin, &guest, &resumed, -1);
	if (code)
		return fail(guest.name, vmsig_admin_last_error(admin));
	vmm = fork();
	if (vmm == 0) {
		execvp(argv[4], argv + 4);
		_exit(127);
	}
	code = vmm < 0 ? fail("fork", strerror(errno)) : hold(admin, &guest, vmm);
	vmsig_admin_close(admin);
	return code;
}
