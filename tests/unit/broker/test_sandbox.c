/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process of the broker cannot do any more once the sandbox is shut: each in a child of its
 * own, as nothing of it can be undone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "broker/sandbox/sandbox.h"
#include "broker/sandbox/syscalls.h"
#include "broker/thread.h"

#define UNFILTERED 77 /* the kernel, or a sanitizer, has no filter */

static char text[8192]; /* what the child said on standard error */

/* Runs it in a child; its exit status. */
static int child(void (*run)(void))
{
	int pipes[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(pipes[1], STDERR_FILENO);
		run();
		_exit(0);
	}
	close(pipes[1]);
	while ((n = read(pipes[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void filter(enum syscalls_mode mode, unsigned more)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(1);
	r = syscalls_allow(mode, more);
	if (r == -EOPNOTSUPP)
		_exit(UNFILTERED);
	if (r)
		_exit(1);
}

static void expect_denied(void (*run)(void), const char *call)
{
	char want[64];
	int status = child(run);

	if (status == UNFILTERED)
		skip();
	snprintf(want, sizeof(want), "call=%s number=", call);
	if (status != SYSCALLS_EXIT || !strstr(text, want) || !strstr(text, "syscalls: log"))
		fail_msg("status %d, text '%s'; expected '%s'", status, text, want);
}

/* ---- system calls ---- */

static void trace(void)
{
	filter(SYSCALLS_ENFORCE, 0);
	syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void execute(void)
{
	filter(SYSCALLS_ENFORCE, 0);
	execl("/bin/true", "true", (char *)NULL);
}

static void open_internet(void)
{
	filter(SYSCALLS_ENFORCE, 0);
	(void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void open_etcd(void)
{
	filter(SYSCALLS_ENFORCE, SYSCALLS_TCP);
	_exit(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ||
		socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0) < 0);
}

static void open_datagrams(void)
{
	filter(SYSCALLS_ENFORCE, SYSCALLS_TCP);
	(void)!socket(AF_INET, SOCK_DGRAM, 0);
}

static void map_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	filter(SYSCALLS_ENFORCE, 0);
	/* Refused, as libraries expect it of such systems. */
	if (mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) != MAP_FAILED ||
		errno != EACCES)
		_exit(1);
	(void)!mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void make_process(void)
{
	filter(SYSCALLS_ENFORCE, 0);
	if (fork() == 0)
		_exit(0);
}

static void signal_parent(void)
{
	pid_t parent = getppid();

	filter(SYSCALLS_ENFORCE, 0);
	kill(parent, SIGCONT);
}

static void become_dumpable(void)
{
	filter(SYSCALLS_ENFORCE, 0);
	prctl(PR_SET_DUMPABLE, 1);
}

static void *trace_in_thread(void *arg)
{
	syscall(SYS_ptrace, 0, 0, 0, 0);
	return arg;
}

/* No signal is delivered to the broker's threads, and this one is all the same. */
static void trace_beside(void)
{
	pthread_t thread;

	filter(SYSCALLS_ENFORCE, 0);
	if (thread_start(&thread, NULL, 0, trace_in_thread, NULL) == 0)
		pthread_join(thread, NULL);
}

static void a_fleet_connects_and_no_more(void **state)
{
	int status = child(open_etcd);

	if (status == UNFILTERED)
		skip();
	assert_int_equal(status, 0);
	expect_denied(open_datagrams, "socket");
}

static void what_is_not_allowed_is_named(void **state)
{
	static const struct {
		void (*run)(void);
		const char *call;
	} rows[] = {{trace, "ptrace"}, {trace_beside, "ptrace"}, {execute, "execve"},
		{open_internet, "socket"}, {map_code, "mprotect"}, {make_process, "clone"},
		{signal_parent, "kill"}, {become_dumpable, "prctl"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_denied(rows[i].run, rows[i].call);
}

static void *threads_call(void *arg)
{
	return arg;
}

static void do_what_is_allowed(void)
{
	pthread_t thread;
	pid_t pid;

	filter(SYSCALLS_ENFORCE, SYSCALLS_FORKS);
	if (pthread_create(&thread, NULL, threads_call, NULL) || pthread_join(thread, NULL))
		_exit(2);
	pid = fork();
	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		_exit(3);
}

static void the_guardian_forks(void **state)
{
	int status = child(do_what_is_allowed);

	if (status == UNFILTERED)
		skip();
	if (status)
		fail_msg("status %d, text '%s'", status, text);
}

static void only_log(void)
{
	filter(SYSCALLS_LOG, 0);
	_exit(syscall(SYS_ptrace, -1, 0, 0, 0) < 0 ? 5 : 6);
}

static void it_can_be_logged_only(void **state)
{
	int status = child(only_log);

	if (status == UNFILTERED)
		skip();
	assert_int_equal(status, 5);
}

/* ---- the whole ---- */

static char dir[] = "/tmp/vmsig-sandbox-XXXXXX";

static struct config config_of(bool enabled)
{
	static char state[64], path[64];

	snprintf(state, sizeof(state), "%s/state", dir);
	snprintf(path, sizeof(path), "%s/run/ctx.sock", dir);
	return (struct config){.state_dir = state,
		.ctx = {.path = path},
		.sandbox = {.enabled = enabled, .syscalls = SYSCALLS_OFF, .landlock = true}};
}

static uint64_t capabilities(void)
{
	unsigned long long bits = ~0ull;
	char line[256];
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file)) {
		/* NOLINTNEXTLINE(cert-err34-c): the kernel's */
		if (sscanf(line, "CapPrm: %llx", &bits) == 1)
			break;
	}
	if (file)
		fclose(file);
	return bits;
}

static void shut(enum sandbox_process process)
{
	const struct config config = config_of(true);

	if (sandbox_begin(&config) || sandbox_shut(process))
		_exit(1);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		_exit(2);
}

/* dac_override, fowner, sys_ptrace, sys_admin, lease: linux/capability.h */
#define BROKERS (1ull << 1 | 1ull << 3 | 1ull << 19 | 1ull << 21 | 1ull << 28)

static void be_broker(void)
{
	shut(SANDBOX_BROKER);
	if (capabilities() & ~BROKERS)
		_exit(3);
}

static void be_guardian(void)
{
	shut(SANDBOX_GUARDIAN);
	if (capabilities() & ~(1ull << 1))
		_exit(3);
}

static void be_porter(void)
{
	shut(SANDBOX_PORTER);
	if (capabilities())
		_exit(3);
}

static void each_process_keeps_what_it_needs(void **state)
{
	void (*const runs[])(void) = {be_broker, be_guardian, be_porter};

	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		int status = child(runs[i]);

		if (status)
			fail_msg("process %zu: status %d, '%s'", i, status, text);
	}
}

static bool makes(const char *name)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return unlink(path) == 0;
}

static void make_files(void)
{
	shut(SANDBOX_BROKER);
	_exit(makes("state/file") && !makes("elsewhere/deep/file") ? 0 : 5);
}

static void files_are_made_where_they_belong(void **state)
{
	int status = child(make_files);

	if (strstr(text, "has no Landlock"))
		skip();
	if (status)
		fail_msg("status %d, '%s'", status, text);
}

static void look_into_a_guest(void)
{
	struct config_endpoint endpoint = {.adapter = CONFIG_ADAPTER_QEMU};
	const struct config config = {.endpoints = &endpoint, .nendpoints = 1};

	if (!sandbox_serves(&config))
		_exit(5);
	shut(SANDBOX_BROKER);
	if (sandbox_serves(&config))
		_exit(6);
	endpoint.ram = (char[]){"/dev/shm/ram"};
	_exit(sandbox_serves(&config) ? 0 : 7);
}

/* It may come with a reload, when the fence is there for good. */
static void a_guest_that_has_to_be_looked_into_is_not_served_behind_a_fence(void **state)
{
	int status = child(look_into_a_guest);

	if (strstr(text, "has no Landlock"))
		skip();
	if (status)
		fail_msg("status %d, '%s'", status, text);
}

static void be_without(void)
{
	const struct config config = config_of(false);

	if (sandbox_begin(&config) || sandbox_shut(SANDBOX_BROKER))
		_exit(1);
	_exit(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static void off_is_said(void **state)
{
	assert_int_equal(child(be_without), 0);
	assert_non_null(strstr(text, "the sandbox is off"));
}

static void be_nobody(void)
{
	struct config config = config_of(true);
	static char user[] = "nobody";

	config.sandbox.user = user;
	if (sandbox_begin(&config) || sandbox_shut(SANDBOX_BROKER))
		_exit(1);
	if (geteuid() == 0 || getuid() == 0 || setuid(0) == 0)
		_exit(2);
	if (!(capabilities() & (1ull << 1)))
		_exit(3);
}

static void be_missing(void)
{
	struct config config = config_of(true);
	static char user[] = "vmsig-nobody-has-this-name";

	config.sandbox.user = user;
	_exit(sandbox_begin(&config) == 0);
}

static void it_becomes_the_user(void **state)
{
	int status;

	if (geteuid())
		skip();
	status = child(be_nobody);
	if (status)
		fail_msg("status %d, '%s'", status, text);
	assert_int_equal(child(be_missing), 0);
	assert_non_null(strstr(text, "there is no user 'vmsig-nobody-has-this-name'"));
}

static int make_folders(void **state)
{
	static const char *const names[] = {"state", "run", "elsewhere", "elsewhere/deep"};
	char path[96];

	assert_non_null(mkdtemp(dir));
	/* Beside it, so that its parent is no parent of elsewhere's. */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	return 0;
}

static int remove_folders(void **state)
{
	static const char *const names[] = {"/elsewhere/deep", "/elsewhere", "/run", "/state", ""};
	char path[96];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", dir, names[i]);
		rmdir(path);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_allowed_is_named),
		cmocka_unit_test(a_fleet_connects_and_no_more),
		cmocka_unit_test(the_guardian_forks),
		cmocka_unit_test(it_can_be_logged_only),
		cmocka_unit_test(each_process_keeps_what_it_needs),
		cmocka_unit_test(files_are_made_where_they_belong),
		cmocka_unit_test(a_guest_that_has_to_be_looked_into_is_not_served_behind_a_fence),
		cmocka_unit_test(off_is_said),
		cmocka_unit_test(it_becomes_the_user),
	};

	return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
