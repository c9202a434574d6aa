/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 5
#define LOG_MAX (4u << 20)
#define ARGUMENTS_MAX 8

struct daemon {
	struct pki *pki;
	struct pki_cert cert;
	char dir[64];
	char socket[96];
	char config[96];
	char log_path[96];
	char crl[PATH_MAX]; /* "" for none */
	char *log;
	pid_t pid; /* 0: it does not run */
};

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

struct daemon *daemon_new(void)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));

	assert_non_null(daemon);
	daemon->pki = pki_new();
	pki_issue_uri(daemon->pki, "broker", "vmsig://broker/host1", &daemon->cert);
	strcpy(daemon->dir, "/tmp/vmsigd-XXXXXX");
	assert_non_null(mkdtemp(daemon->dir));
	/* Clients of other uids must reach the socket. */
	assert_int_equal(chmod(daemon->dir, 0755), 0);
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/run/ctx.sock", daemon->dir);
	snprintf(daemon->config, sizeof(daemon->config), "%s/vmsigd.yaml", daemon->dir);
	snprintf(daemon->log_path, sizeof(daemon->log_path), "%s/log", daemon->dir);
	daemon->log = calloc(1, LOG_MAX + 1);
	assert_non_null(daemon->log);
	return daemon;
}

/* A broker that was killed leaves memory behind, which a note in its state directory names. */
static void remove_memory(const char *note)
{
	char memory[PATH_MAX];
	FILE *file = fopen(note, "r");

	if (!file)
		return;
	if (fscanf(file, "vmsig-shared 1 %*s %4095s", memory) == 1 &&
		strncmp(memory, "/dev/shm/vmsig-", strlen("/dev/shm/vmsig-")) == 0)
		unlink(memory);
	fclose(file);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *suffix = strrchr(path, '.');

	if (type == FTW_F && suffix && strcmp(suffix, ".where") == 0)
		remove_memory(path);
	return remove(path);
}

struct daemon *daemon_free(struct daemon *daemon)
{
	if (!daemon)
		return NULL;
	if (daemon->pid)
		daemon_stop(daemon, SIGKILL);
	nftw(daemon->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	pki_free(daemon->pki);
	free(daemon->log);
	free(daemon);
	return NULL;
}

struct pki *daemon_pki(struct daemon *daemon)
{
	return daemon->pki;
}

const char *daemon_dir(const struct daemon *daemon)
{
	return daemon->dir;
}

const char *daemon_socket(const struct daemon *daemon)
{
	return daemon->socket;
}

const char *daemon_config(const struct daemon *daemon)
{
	return daemon->config;
}

pid_t daemon_pid(const struct daemon *daemon)
{
	return daemon->pid;
}

void daemon_ram(struct daemon *daemon, const char *name, size_t size)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.ram", daemon->dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, name, strlen(name), 0), strlen(name));
	close(fd);
}

void daemon_use_crl(struct daemon *daemon, const char *crl)
{
	snprintf(daemon->crl, sizeof(daemon->crl), "%s", crl);
}

void daemon_configure(struct daemon *daemon, const char *rest, ...)
{
	FILE *file = fopen(daemon->config, "we");
	va_list args;

	assert_non_null(file);
	fprintf(file, "tls:\n  ca: %s\n  cert: %s\n  key: %s\n", pki_ca(daemon->pki),
		daemon->cert.cert, daemon->cert.key);
	if (daemon->crl[0])
		fprintf(file, "  crl: %s\n", daemon->crl);
	fprintf(file, "listen: {ctx: {path: run/ctx.sock}, write: {path: run/write.sock}, "
		      "admin: {path: run/admin.sock}}\nstate_dir: state\n"
		      "log: {level: debug}\n");
	/* A tool that it runs under does what no broker may. */
	if (getenv("VMSIG_TEST_WITHOUT_SANDBOX"))
		fprintf(file, "sandbox: {enabled: no}\n");
	va_start(args, rest);
	assert_true(vfprintf(file, rest, args) >= 0);
	va_end(args);
	assert_int_equal(fclose(file), 0);
}

/* ---- running ---- */

/* In the child. A test that is killed for its time leaves no broker behind. */
static void become(struct daemon *daemon, const char *const *argv)
{
	int fd = open(daemon->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return;
	execv(VMSIGD, (char *const *)(uintptr_t)argv);
}

static pid_t spawn(struct daemon *daemon, const char *const *arguments)
{
	const char *argv[ARGUMENTS_MAX + 2] = {VMSIGD};
	pid_t pid;

	for (size_t i = 0; arguments[i]; i++) {
		assert_true(i < ARGUMENTS_MAX);
		argv[i + 1] = arguments[i];
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		become(daemon, argv);
		_exit(127);
	}
	return pid;
}

void daemon_start(struct daemon *daemon)
{
	const char *const arguments[] = {"-c", daemon->config, NULL};
	unsigned before = daemon_log_count(daemon, "vmsigd is ready");

	assert_int_equal(daemon->pid, 0);
	daemon->pid = spawn(daemon, arguments);
	daemon_await_log(daemon, "vmsigd is ready", before + 1);
}

static int exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int daemon_run(struct daemon *daemon, const char *const *arguments)
{
	pid_t pid = spawn(daemon, arguments);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return exit_status(status);
}

bool daemon_alive(struct daemon *daemon)
{
	siginfo_t info = {.si_pid = 0};

	/* Leaves the zombie for daemon_stop(). */
	return daemon->pid &&
	       waitid(P_PID, (id_t)daemon->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

int daemon_stop(struct daemon *daemon, int signal)
{
	int status;

	assert_true(daemon->pid > 0);
	kill(daemon->pid, signal);
	for (long waited = 0; daemon_alive(daemon); waited += POLL_MS) {
		if (waited > DAEMON_WAIT_MS) {
			kill(daemon->pid, SIGABRT);
			fail_msg("vmsigd does not end; its log:\n%s", daemon_log(daemon));
		}
		pause_ms(POLL_MS);
	}
	assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
	daemon->pid = 0;
	return exit_status(status);
}

/* ---- watching ---- */

const char *daemon_log(struct daemon *daemon)
{
	int fd = open(daemon->log_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	if (fd >= 0) {
		n = read(fd, daemon->log, LOG_MAX);
		close(fd);
	}
	daemon->log[n > 0 ? n : 0] = '\0';
	return daemon->log;
}

unsigned daemon_log_count(struct daemon *daemon, const char *words)
{
	const char *text = daemon_log(daemon);
	unsigned n = 0;

	for (; (text = strstr(text, words)); text += strlen(words))
		n++;
	return n;
}

void daemon_await_log(struct daemon *daemon, const char *words, unsigned count)
{
	for (long waited = 0; daemon_log_count(daemon, words) < count; waited += POLL_MS) {
		if (waited > DAEMON_WAIT_MS || (daemon->pid && !daemon_alive(daemon)))
			fail_msg("the log does not say '%s' %u times:\n%s", words, count,
				daemon->log);
		pause_ms(POLL_MS);
	}
}

size_t daemon_fds(const struct daemon *daemon)
{
	char path[64];
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", daemon->pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2; /* . and .. */
}

void daemon_await_fds(const struct daemon *daemon, size_t most)
{
	for (long waited = 0; daemon_fds(daemon) > most; waited += POLL_MS) {
		if (waited > DAEMON_WAIT_MS)
			fail_msg("vmsigd has %zu descriptors open, expected %zu",
				daemon_fds(daemon), most);
		pause_ms(POLL_MS);
	}
}
