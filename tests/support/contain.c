/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contain PROGRAM ARGUMENT... : runs a test so that nothing of it outlives it, however it ends.
 *
 * The test has a session, a process namespace, a mount namespace, and /tmp and /dev/shm of its own:
 * they go when it is killed for its time, and with them daemons that are nobody's children. A test
 * that ends by itself has to leave nothing: processes that go on and files that stay are named, and
 * the status is then 1. Needs root; a user has sudo asked. Where that fails, or the machine lets
 * nobody have namespaces, the test is run as it is.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK "VMSIG_TEST_CONTAINED"
#define ENDS_WITHIN_S 15 /* what a test has told to end: the broker's own limit for that */
#define LOOK_NS 10000000
#define INIT 1
#define IMPOSSIBLE 125 /* what the first process ends with when it cannot contain */

static const char *const folders[] = {"/tmp", "/dev/shm"};

static void run(char **argv)
{
	execvp(argv[0], argv);
	fprintf(stderr, "contain: %s: %s\n", argv[0], strerror(errno));
	exit(127);
}

static void must(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "contain: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* What the test is made of must stay to be seen. */
static bool holds_ours(const char *folder)
{
	char program[PATH_MAX] = "", here[PATH_MAX] = "";
	size_t length = strlen(folder);

	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0 ||
		!getcwd(here, sizeof(here)))
		return true;
	return (strncmp(program, folder, length) == 0 && program[length] == '/') ||
	       (strncmp(here, folder, length) == 0 && (here[length] == '/' || !here[length]));
}

static int left_in(const char *folder)
{
	DIR *dir = opendir(folder);
	int left = 0;

	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		fprintf(stderr, "contain: the test left %s/%s behind\n", folder, entry->d_name);
		left++;
	}
	if (dir)
		closedir(dir);
	return left;
}

static void name_process(const char *pid)
{
	char path[64], name[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	file = fopen(path, "re");
	if (file && fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		fclose(file);
	fprintf(stderr, "contain: the test left process %s (%s) running\n", pid, name);
}

static void name_processes(void)
{
	DIR *dir = opendir("/proc");

	for (struct dirent *entry; dir && (entry = readdir(dir));)
		if (strtol(entry->d_name, NULL, 10) > INIT)
			name_process(entry->d_name);
	if (dir)
		closedir(dir);
}

/* Whether all others have ended, those without a parent too. */
static bool all_end(void)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += ENDS_WITHIN_S;
	do {
		pid_t pid;

		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	return false;
}

static int status_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The first process of the namespace: children that lost their parent are its. */
static int keep(char **argv)
{
	bool ours[sizeof(folders) / sizeof(folders[0])];
	int status = 0, left = 0;
	pid_t test, pid;

	must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
	/* Processes that a test has stopped are in no group with other tests: the kernel hangs up
	 * all of a group that is left without a parent while one of it is stopped. */
	must(setsid(), "setsid");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return IMPOSSIBLE;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		ours[i] = !holds_ours(folders[i]);
		if (ours[i])
			must(mount("contain", folders[i], "tmpfs", 0, "mode=1777"), folders[i]);
	}
	test = fork();
	must(test, "fork");
	if (test == 0)
		run(argv);
	while ((pid = waitpid(-1, &status, 0)) != test)
		if (pid < 0 && errno != EINTR)
			return 1;
	if (!all_end()) {
		name_processes();
		left++;
	}
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (ours[i])
			left += left_in(folders[i]);
	return left && status_of(status) == 0 ? 1 : status_of(status);
}

static void as_root(int argc, char **argv)
{
	char **with = calloc((size_t)argc + 5, sizeof(*with)), program[PATH_MAX] = "";

	if (!with || readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		exit(1);
	with[0] = (char[]){"sudo"};
	with[1] = (char[]){"-n"};
	with[2] = (char[]){"-E"};
	with[3] = program;
	memcpy(with + 4, argv + 1, (size_t)(argc - 1) * sizeof(*with));
	if (system("sudo -n true 2>/dev/null") == 0)
		execvp("sudo", with);
	run(argv + 1);
}

int main(int argc, char **argv)
{
	int status;
	pid_t init;

	if (argc < 2) {
		fputs("usage: contain PROGRAM ARGUMENT...\n", stderr);
		return 2;
	}
	if (getenv(MARK))
		run(argv + 1);
	if (getuid() != 0)
		as_root(argc, argv);
	/* Below sudo, its end is all that is heard of ctest's. */
	must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
	must(setenv(MARK, "1", 1), "setenv");
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		run(argv + 1);
	init = fork();
	must(init, "fork");
	if (init == 0)
		return keep(argv + 1);
	while (waitpid(init, &status, 0) < 0)
		must(errno == EINTR ? 0 : -1, "waiting for the test");
	if (WIFEXITED(status) && WEXITSTATUS(status) == IMPOSSIBLE)
		run(argv + 1);
	return status_of(status);
}
