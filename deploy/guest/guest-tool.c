/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the demonstration guest needs beyond busybox, as one static program:
 *
 *   guest-tool symbols NAME...        "symbol NAME ADDRESS" for each, from /proc/kallsyms
 *   guest-tool page FILE [MIN_GPA]    fills a page of FILE (on tmpfs, created) with random bytes
 *                                     and prints "page GPA"; the file grows until its page lies at
 *                                     or above MIN_GPA
 *   guest-tool watch FILE SECONDS     waits until the first word of the page changes, and prints
 *                                     "watch OLD NEW"
 *   guest-tool incr FILE N            adds 1 to the word at offset 8, N times, each in one atomic
 *                                     access, and prints "incr VALUE"
 *   guest-tool pair FILE SECONDS      looks at the words at 16 and 2064, which are always written
 *                                     together, and prints "pair CHANGES TORN"
 *   guest-tool threads N SECONDS      has N threads beside itself, called thread-0 and so on
 *   guest-tool forks N SECONDS FILE   starts N processes in a second, each of which ends at once,
 *                                     and writes the pid of each into FILE before it can end
 *   guest-tool as UID COMMAND...      runs a program of busybox as another user
 *   guest-tool memfd FILE WORD...     copies a program into a file that is in memory alone and has
 *                                     it open as it runs it, with these words as its command line
 *   guest-tool kexec KERNEL INITRD    starts another kernel without passing through firmware
 *   guest-tool nested real|long SECONDS   keeps this CPU in a guest of its own, in that mode, which
 *                                     does nothing, and prints "nested"; needs /dev/kvm
 */
#define _GNU_SOURCE /* memfd_create(2) */
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES_MAX 65536ul
#define PAGEMAP_PFN ((1ull << 55) - 1) /* Documentation/admin-guide/mm/pagemap.rst */

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int symbols(int count, char **names)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[512], name[256];
	unsigned long long address;
	int left = count;

	if (!file)
		return fail("/proc/kallsyms");
	while (left > 0 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx %*c %255s", &address, name) != 2)
			continue;
		for (int i = 0; i < count; i++) {
			if (strcmp(names[i], name) != 0)
				continue;
			printf("symbol %s %llx\n", name, address);
			left--;
		}
	}
	fclose(file);
	return 0;
}

/* Guest-physical address of the page that backs `at`, 0 when it is not known. */
static uint64_t physical(int pagemap, const void *at)
{
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE * 8)) != 8)
		return 0;
	return (entry & PAGEMAP_PFN) * PAGE;
}

static int page(const char *path, uint64_t min)
{
	int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (file < 0 || pagemap < 0)
		return fail(path);
	for (unsigned long n = 0; n < PAGES_MAX; n++) {
		off_t start = (off_t)(n * PAGE);
		char *at;
		uint64_t gpa;

		if (ftruncate(file, start + (off_t)PAGE) < 0)
			return fail("ftruncate");
		at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, start);
		if (at == MAP_FAILED || getrandom(at, PAGE, 0) != (ssize_t)PAGE)
			return fail("page");
		gpa = physical(pagemap, at);
		if (gpa >= min && gpa) {
			printf("page %llx\noffset %llu\n", (unsigned long long)gpa,
				(unsigned long long)start);
			return 0;
		}
		munmap(at, PAGE);
	}
	fprintf(stderr, "no page at or above %llx\n", (unsigned long long)min);
	return 1;
}

/* The page that `page` made, and that the host writes to. */
static volatile uint64_t *words(const char *path)
{
	int file = open(path, O_RDWR | O_CLOEXEC);
	void *at = file < 0 ? MAP_FAILED
			    : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (at == MAP_FAILED) {
		perror(path);
		exit(1);
	}
	return at;
}

static int watch(const char *path, time_t seconds)
{
	volatile uint64_t *word = words(path);
	uint64_t before = *word;
	time_t until = time(NULL) + seconds;

	printf("watching\n");
	fflush(stdout);
	while (*word == before) {
		if (time(NULL) > until)
			return 1;
		usleep(1000);
	}
	printf("watch %llx %llx\n", (unsigned long long)before, (unsigned long long)*word);
	return 0;
}

static int incr(const char *path, unsigned long n)
{
	volatile uint64_t *word = words(path) + 1;

	printf("incrementing\n");
	fflush(stdout);
	while (n--)
		__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	printf("incr %llu\n", (unsigned long long)*word);
	return 0;
}

/* One half new and the other old, while the first one stays what it is, is a write that was
 * seen half. */
static int pair(const char *path, time_t seconds)
{
	volatile uint64_t *page = words(path), *one = page + 16 / 8, *two = page + 2064 / 8;
	time_t until = time(NULL) + seconds;
	unsigned long changes = 0, torn = 0;
	uint64_t last = *one;

	printf("pairing\n");
	fflush(stdout);
	while (time(NULL) <= until) {
		for (int i = 0; i < 1000; i++) {
			uint64_t a = *one, b = *two, again = *one;

			changes += a != last;
			last = a;
			torn += a == again && a != b;
		}
	}
	printf("pair %lu %lu\n", changes, torn);
	return 0;
}

static int start_kernel(const char *kernel, const char *initrd)
{
	char line[2048] = "";
	int command_line = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	int initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC);

	if (command_line < 0 || kernel_fd < 0 || initrd_fd < 0)
		return fail("kexec");
	if (read(command_line, line, sizeof(line) - 1) < 0)
		return fail("/proc/cmdline");
	line[strcspn(line, "\n")] = '\0';
	if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(line) + 1, line, 0) < 0)
		return fail("kexec_file_load");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return fail("reboot");
}

#define NESTED_CODE 0x1000
#define NESTED_ROOT 0x2000 /* of page tables that map the first 2 MiB to themselves */
#define NESTED_SIZE 0x6000

static void nested_memory(unsigned char *memory)
{
	static const uint16_t jump_here = 0xfeeb;
	static const struct {
		size_t at;
		uint64_t entry;
	} tables[] = {{NESTED_ROOT, 0x3003}, {0x3000, 0x4003}, {0x4000, 0x83}};

	memcpy(memory + NESTED_CODE, &jump_here, sizeof(jump_here));
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		memcpy(memory + tables[i].at, &tables[i].entry, sizeof(tables[i].entry));
}

static void nested_mode(struct kvm_sregs *sregs, bool is_long)
{
	sregs->cs.base = 0;
	sregs->cs.selector = 0;
	if (!is_long)
		return;
	sregs->cr3 = NESTED_ROOT;
	sregs->cr4 = 0x20;       /* PAE */
	sregs->cr0 = 0x80000011; /* PG, ET, PE */
	sregs->efer = 0x500;     /* LMA, LME */
	sregs->cs = (struct kvm_segment){.limit = 0xffffffff,
		.selector = 8,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1};
	sregs->ss = (struct kvm_segment){.limit = 0xffffffff,
		.selector = 16,
		.type = 3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1};
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss;
}

static void on_alarm(int signum)
{
	(void)signum;
}

static int nested(bool is_long, unsigned seconds)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(kvm, KVM_CREATE_VM, 0);
	unsigned char *memory =
		mmap(NULL, NESTED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.memory_size = NESTED_SIZE, .userspace_addr = (uintptr_t)memory};
	struct kvm_regs regs = {.rip = NESTED_CODE, .rflags = 2};
	struct sigaction action = {.sa_handler = on_alarm};
	struct kvm_sregs sregs;
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);

	if (vcpu < 0 || memory == MAP_FAILED)
		return fail("/dev/kvm");
	nested_memory(memory);
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ||
		ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return fail("kvm");
	nested_mode(&sregs, is_long);
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return fail("kvm");
	sigaction(SIGALRM, &action, NULL);
	alarm(seconds);
	/* Only the alarm ends it. */
	if (ioctl(vcpu, KVM_RUN, 0) == 0)
		fputs("the guest did something\n", stderr);
	printf("nested\n");
	return 0;
}

static void *wait_there(void *arg)
{
	char name[16];

	snprintf(name, sizeof(name), "thread-%u", (unsigned)(uintptr_t)arg % 1000);
	prctl(PR_SET_NAME, name);
	for (;;)
		pause();
	return NULL;
}

static int threads(unsigned n, unsigned seconds)
{
	for (unsigned i = 0; i < n; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_there, (void *)(uintptr_t)i))
			return fail("a thread");
	}
	sleep(seconds);
	return 0;
}

/* The child waits until its pid is written. */
static int fork_one(FILE *out)
{
	int ends[2];
	char byte;
	pid_t pid;

	if (pipe(ends) < 0 || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) < 0);
	}
	close(ends[0]);
	fprintf(out, "%d\n", pid);
	fflush(out);
	close(ends[1]);
	return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int forks(unsigned n, time_t seconds, const char *path)
{
	FILE *out = fopen(path, "w");
	struct timespec now, next;

	if (!out || !n)
		return fail(path);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (uint64_t i = 0; i < (uint64_t)n * (uint64_t)seconds; i++) {
		if (fork_one(out) < 0)
			return fail("fork");
		next.tv_nsec += 1000000000l / (long)n;
		next.tv_sec += next.tv_nsec / 1000000000l;
		next.tv_nsec %= 1000000000l;
		/* What was too slow is not made up for. */
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > next.tv_sec)
			next = now;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	fclose(out);
	printf("forks\n");
	return 0;
}

static int run_as(uid_t uid, char **command)
{
	if (setuid(uid) < 0)
		return fail("setuid");
	execvp(command[0], command);
	return fail(command[0]);
}

static int run_memfd(const char *path, char **words)
{
	int from = open(path, O_RDONLY | O_CLOEXEC), memfd = memfd_create("seen", 0);
	char name[32];
	struct stat stat;

	if (from < 0 || memfd < 0 || fstat(from, &stat) < 0)
		return fail(path);
	while (stat.st_size > 0) {
		ssize_t n = sendfile(memfd, from, NULL, (size_t)stat.st_size);

		if (n <= 0)
			return fail("memfd");
		stat.st_size -= n;
	}
	/* Debian's 5.10 refuses fexecve(3). */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", memfd);
	execv(name, words);
	return fail(name);
}

int main(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[1], "symbols") == 0)
		return symbols(argc - 2, argv + 2);
	if (argc >= 3 && strcmp(argv[1], "page") == 0)
		return page(argv[2], argc > 3 ? strtoull(argv[3], NULL, 0) : 0);
	if (argc == 4 && strcmp(argv[1], "watch") == 0)
		return watch(argv[2], atol(argv[3]));
	if (argc == 4 && strcmp(argv[1], "incr") == 0)
		return incr(argv[2], strtoul(argv[3], NULL, 0));
	if (argc == 4 && strcmp(argv[1], "pair") == 0)
		return pair(argv[2], atol(argv[3]));
	if (argc == 4 && strcmp(argv[1], "threads") == 0)
		return threads((unsigned)atol(argv[2]), (unsigned)atol(argv[3]));
	if (argc == 5 && strcmp(argv[1], "forks") == 0)
		return forks((unsigned)atol(argv[2]), atol(argv[3]), argv[4]);
	if (argc >= 4 && strcmp(argv[1], "as") == 0)
		return run_as((uid_t)atol(argv[2]), argv + 3);
	if (argc >= 4 && strcmp(argv[1], "memfd") == 0)
		return run_memfd(argv[2], argv + 3);
	if (argc == 4 && strcmp(argv[1], "kexec") == 0)
		return start_kernel(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "nested") == 0)
		return nested(strcmp(argv[2], "long") == 0, (unsigned)atol(argv[3]));
	fprintf(stderr, "usage: guest-tool symbols NAME... | page FILE [MIN_GPA] | "
			"watch FILE SECONDS | incr FILE N | pair FILE SECONDS | "
			"threads N SECONDS | forks N SECONDS FILE | as UID COMMAND... | "
			"memfd FILE WORD... | kexec KERNEL INITRD | nested real|long SECONDS\n");
	return 2;
}
