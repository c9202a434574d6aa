/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sandbox/syscalls.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#define NAMES 1024 /* numbers of system calls stay below that for a while */

/* ---- what is not allowed ---- */

/* Of each number, looked up before: a handler may not allocate. */
static const char *names[NAMES];

static void say(const char *text)
{
	(void)!write(STDERR_FILENO, text, strlen(text));
}

static void on_denied(int signum, siginfo_t *info, void *context)
{
	int nr = info->si_syscall;
	const char *name = nr >= 0 && nr < NAMES ? names[nr] : NULL;
	char digits[] = "0000";

	for (int i = 3, n = nr < 0 ? 0 : nr; i >= 0; i--, n /= 10)
		digits[i] = (char)('0' + n % 10);
	say("level=error msg=\"the sandbox does not allow this system call, and ends vmsigd\" "
	    "call=");
	say(name ? name : "unknown");
	say(" number=");
	say(digits);
	say(" help=\"if it is a library's, report it, and write sandbox: {syscalls: log} until it "
	    "is allowed\"\n");
	_exit(SYSCALLS_EXIT);
}

static int explain(void)
{
	struct sigaction action = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO};

	/* They stay: the handler may run until the end. */
	for (int nr = 0; nr < NAMES && !names[NAMES - 1]; nr++)
		names[nr] = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/* ---- what is ---- */

static const char *const allowed[] = {
	/* descriptors and their bytes */
	"close",
	"close_range",
	"dup",
	"dup2",
	"dup3",
	"fcntl",
	"lseek",
	"pipe2",
	"pread64",
	"preadv",
	"preadv2",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"read",
	"readv",
	"write",
	"writev",
	"copy_file_range",
	"sendfile",
	"ioctl",
	"flock",
	/* files */
	"access",
	"faccessat",
	"faccessat2",
	"open",
	"openat",
	"openat2",
	"creat",
	"stat",
	"fstat",
	"lstat",
	"newfstatat",
	"statx",
	"statfs",
	"fstatfs",
	"readlink",
	"readlinkat",
	"getdents64",
	"getcwd",
	"mkdir",
	"mkdirat",
	"unlink",
	"unlinkat",
	"rmdir",
	"rename",
	"renameat",
	"renameat2",
	"chmod",
	"fchmod",
	"fchmodat",
	"umask",
	"fallocate",
	"ftruncate",
	"fadvise64",
	"inotify_init1",
	"inotify_add_watch",
	"inotify_rm_watch",
	"fdatasync",
	"fsync",
	"sync_file_range",
	"syncfs",
	"utimensat",
	"fchown",
	"fgetxattr",
	"getxattr",
	"msync",
	/* read-only mount clones, and attacks on them in the self-test */
	"open_tree",
	"mount_setattr",
	/* memory; mmap and mprotect are below */
	"brk",
	"madvise",
	"memfd_create",
	"mincore",
	"mlock",
	"mlock2",
	"mremap",
	"munlock",
	"munmap",
	/* the loop */
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd2",
	"poll",
	"ppoll",
	"select",
	"pselect6",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_settime",
	"inotify_add_watch",
	"inotify_init1",
	"inotify_rm_watch",
	"signalfd4",
	/* sockets; socket itself is below */
	"accept",
	"accept4",
	"bind",
	"connect",
	"getpeername",
	"getsockname",
	"getsockopt",
	"listen",
	"recvfrom",
	"recvmmsg",
	"recvmsg",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"setsockopt",
	"shutdown",
	/* threads and time; clone is below */
	"exit",
	"exit_group",
	"futex",
	"futex_waitv",
	"get_robust_list",
	"set_robust_list",
	"set_tid_address",
	"rseq",
	"membarrier",
	"sched_yield",
	"sched_getaffinity",
	"sched_setaffinity",
	"sched_getparam",
	"sched_getscheduler",
	"sched_setscheduler",
	"sched_setattr",
	"sched_getattr",
	"getpriority",
	"setpriority",
	"getcpu",
	"alarm",     /* the guardian's helpers bound themselves, as does whoever loads this */
	"setitimer", /* how it is called where there is no other */
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"gettimeofday",
	"nanosleep",
	"time",
	"arch_prctl",
	/* signals; kill and its like are below */
	"restart_syscall",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"sigaltstack",
	"pause",
	/* who one is, who others are */
	"getegid",
	"geteuid",
	"getgid",
	"getgroups",
	"getpgrp",
	"getpid",
	"getppid",
	"getresgid",
	"getresuid",
	"getrlimit",
	"getrusage",
	"getsid",
	"gettid",
	"getuid",
	"getrandom",
	"prlimit64",
	"sysinfo",
	"times",
	"uname",
	"capget",
	"pidfd_open",
	"setrlimit",
	/* the end of the processes that were made before */
	"wait4",
	"waitid",
};

static const int prctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS,
	PR_GET_SECCOMP, PR_CAPBSET_READ, 0x53564d41 /* PR_SET_VMA: glibc names its arenas */};

static int rule(
	scmp_filter_ctx filter, const char *name, unsigned n, const struct scmp_arg_cmp *arguments)
{
	int nr = seccomp_syscall_resolve_name(name);

	/* One that this library does not know yet cannot be called by its name either. */
	return nr == __NR_SCMP_ERROR
		       ? 0
		       : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, n, arguments);
}

static int rule_of(scmp_filter_ctx filter, const char *name, struct scmp_arg_cmp argument)
{
	return rule(filter, name, 1, &argument);
}

static int add_plain(scmp_filter_ctx filter)
{
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		r = rule(filter, allowed[i], 0, NULL);
	for (size_t i = 0; !r && i < sizeof(prctls) / sizeof(prctls[0]); i++)
		r = rule_of(filter, "prctl", SCMP_A0(SCMP_CMP_EQ, (unsigned)prctls[i]));
	return r;
}

/* Writable, executable, neither; not both. Whoever maps both is refused and not ended: libffi, of
 * which libvirt is full, tries that first and then maps a file twice. */
static int add_memory(scmp_filter_ctx filter)
{
	static const char *const calls[] = {"mmap", "mprotect"};
	static const int protections[] = {0, PROT_WRITE, PROT_EXEC};
	const scmp_datum_t both = PROT_WRITE | PROT_EXEC;
	int r = 0;

	for (size_t i = 0; !r && i < 6; i++)
		r = rule_of(filter, calls[i % 2],
			SCMP_A2(SCMP_CMP_MASKED_EQ, both, (scmp_datum_t)protections[i / 2]));
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(mmap), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, both, both));
	return r;
}

static int add_signals(scmp_filter_ctx filter)
{
	static const char *const calls[] = {"kill", "tgkill", "rt_tgsigqueueinfo"};
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = rule_of(filter, calls[i], SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	return r;
}

/* glibc tries clone3 first, whose flags a filter cannot see, and goes on with clone. */
static int add_clone(scmp_filter_ctx filter, bool forks)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	const scmp_datum_t thread = CLONE_THREAD | CLONE_VM;

	if (!r && forks)
		r = rule(filter, "fork", 0, NULL);
	if (r)
		return r;
	return forks ? rule(filter, "clone", 0, NULL)
		     : rule_of(filter, "clone", SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
}

/* What type may have flags in it. */
static int add_tcp(scmp_filter_ctx filter)
{
	static const int families[] = {AF_INET, AF_INET6};
	const scmp_datum_t kind = 0xf;
	int r = 0;

	for (size_t i = 0; !r && i < 2; i++) {
		const struct scmp_arg_cmp arguments[] = {
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]),
			SCMP_A1(SCMP_CMP_MASKED_EQ, kind, SOCK_STREAM)};

		r = rule(filter, "socket", 2, arguments);
	}
	return r;
}

static int fill(scmp_filter_ctx filter, unsigned more)
{
	bool forks = more & SYSCALLS_FORKS;
	int r = add_plain(filter);

	if (!r)
		r = add_memory(filter);
	/* A child's own pid is another. */
	if (!r && !forks)
		r = add_signals(filter);
	if (!r)
		r = add_clone(filter, forks);
	if (!r)
		r = rule_of(filter, "socket", SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (!r)
		r = rule_of(filter, "socketpair", SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (!r && more & SYSCALLS_TCP)
		r = add_tcp(filter);
	return r;
}

/* libseccomp (2.5.4) may never come back when it is refused memory: whoever waits for the process
 * would wait for ever. */
#define PATIENCE_S 60u

int syscalls_allow(enum syscalls_mode mode, unsigned more)
{
	scmp_filter_ctx filter;
	unsigned before;
	int r;

	if (SANITIZED)
		return -EOPNOTSUPP;
	filter = seccomp_init(mode == SYSCALLS_LOG ? SCMP_ACT_LOG : SCMP_ACT_TRAP);
	if (!filter)
		return -ENOMEM;
	/* A number more or less in front of each call: the common ones do not wait for the list. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	before = alarm(PATIENCE_S);
	r = mode == SYSCALLS_LOG ? 0 : explain();
	if (!r)
		r = fill(filter, more);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	alarm(before);
	return r;
}
