/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's side of a coherence page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/coherence.h"
#include "broker/obituary.h"

static int setup(void **state)
{
	struct coherence *coherence = NULL;

	assert_int_equal(coherence_new(&coherence, 7), 0);
	*state = coherence;
	return 0;
}

static int teardown(void **state)
{
	coherence_free(*state);
	return 0;
}

static const vmsig_coherence *map(int fd)
{
	const vmsig_coherence *page =
		mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(page, MAP_FAILED);
	return page;
}

static void a_holder_sees_what_the_broker_writes(void **state)
{
	int fd = coherence_share(*state);
	const vmsig_coherence *page;

	assert_true(fd >= 0);
	page = map(fd);
	assert_true(page->magic == VMSIG_COHERENCE_MAGIC);
	assert_int_equal(page->version, VMSIG_COHERENCE_VERSION);
	assert_int_equal(page->endpoint, 7);
	assert_int_equal(page->epoch, 0);
	coherence_page(*state)->epoch = 42;
	assert_int_equal(page->epoch, 42);
	munmap((void *)(uintptr_t)page, VMSIG_COHERENCE_SIZE);
	close(fd);
}

static void each_descriptor_is_its_own(void **state)
{
	int a = coherence_share(*state), b = coherence_share(*state);
	void *page;

	assert_true(a >= 0 && b >= 0 && a != b);
	page = mmap(NULL, VMSIG_COHERENCE_SIZE, PROT_READ, MAP_SHARED, b, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	munmap(page, VMSIG_COHERENCE_SIZE);
	assert_int_equal(fcntl(a, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	close(a);
	close(b);
}

static void nothing_writes_through_it(void **state)
{
	int fd = coherence_share(*state), writable;
	char path[64];
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(st.st_size, VMSIG_COHERENCE_SIZE);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	/* The owner and root may open it anew, and the seals still hold. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fchmod(fd, 0600);
	writable = open(path, O_RDWR | O_CLOEXEC);
	if (writable >= 0) {
		assert_int_equal(pwrite(writable, "x", 1, 0), -1);
		assert_int_equal(errno, EPERM);
		assert_int_equal(ftruncate(writable, 0), -1);
		assert_int_equal(ftruncate(writable, 8192), -1);
		assert_int_equal(fcntl(writable, F_ADD_SEALS, F_SEAL_WRITE), -1);
		assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable, 0),
			MAP_FAILED);
		close(writable);
	}
	close(fd);
}

/* Sleeps on the futex word of a read-only mapping, as a holder does. */
static int sleeper(int fd)
{
	const vmsig_coherence *page = map(fd);
	const struct timespec limit = {.tv_sec = 20};

	while (__atomic_load_n(&page->change, __ATOMIC_ACQUIRE) == 0) {
		if (syscall(SYS_futex, &page->change, FUTEX_WAIT, 0, &limit, NULL, 0) < 0 &&
			errno == ETIMEDOUT)
			return 1;
	}
	return 0;
}

static void a_wake_reaches_other_processes(void **state)
{
	int fd = coherence_share(*state), status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(sleeper(fd));
	usleep(50000);
	__atomic_add_fetch(&coherence_page(*state)->change, 1, __ATOMIC_SEQ_CST);
	coherence_wake(*state);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

static void holders_keep_their_mapping(void **state)
{
	struct coherence *coherence = NULL;
	const vmsig_coherence *page;
	int fd;

	assert_int_equal(coherence_new(&coherence, 9), 0);
	fd = coherence_share(coherence);
	page = map(fd);
	close(fd);
	assert_null(coherence_free(coherence));
	assert_int_equal(page->endpoint, 9);
	munmap((void *)(uintptr_t)page, VMSIG_COHERENCE_SIZE);
	assert_null(coherence_free(NULL));
}

/* ---- whoever kills the broker ---- */

#define VICTIM_PAGES (OBITUARY_PER_THREAD + 500) /* more than one thread has */

/* A broker of many pages, in a process of its own. It takes one back, says that it is there,
 * and waits for its end. */
static int victim(int first_fd)
{
	static struct coherence *pages[VICTIM_PAGES];

	for (uint32_t i = 0; i < VICTIM_PAGES; i++) {
		if (coherence_new(&pages[i], i + 1))
			return 1;
	}
	coherence_free(pages[1]);
	for (size_t i = 0; i < 2; i++) {
		int fd = coherence_share(pages[i ? VICTIM_PAGES - 1 : 0]);

		if (fd < 0 || dup2(fd, first_fd + (int)i) < 0)
			return 1;
	}
	if (write(STDOUT_FILENO, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static pid_t victim_start(void)
{
	int out[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_coherence", "victim", NULL);
		_exit(127);
	}
	close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1);
	close(out[0]);
	return pid;
}

#define VICTIM_FD 100

static const vmsig_coherence *victim_page(pid_t pid, int i)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, VICTIM_FD + i);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return map(fd);
}

static void a_killed_broker_leaves_its_mark(void **state)
{
	pid_t pid = victim_start();
	const vmsig_coherence *pages[2];

	for (int i = 0; i < 2; i++) {
		pages[i] = victim_page(pid, i);
		assert_int_not_equal(pages[i]->owner, 0);
		assert_false(pages[i]->owner & VMSIG_COHERENCE_OWNER_DIED);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 2; i++)
		assert_true(pages[i]->owner & VMSIG_COHERENCE_OWNER_DIED);
}

static void whoever_ends_says_so(void **state)
{
	struct coherence *coherence = NULL;
	const vmsig_coherence *page;
	int fd;

	assert_int_equal(coherence_new(&coherence, 9), 0);
	fd = coherence_share(coherence);
	page = map(fd);
	close(fd);
	assert_int_not_equal(page->owner, 0);
	coherence_vouch(coherence, 42);
	assert_int_equal(page->vouched_ns, 42);
	coherence_free(coherence);
	assert_int_equal(page->owner, 0);
	munmap((void *)(uintptr_t)page, VMSIG_COHERENCE_SIZE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_holder_sees_what_the_broker_writes),
		cmocka_unit_test(each_descriptor_is_its_own),
		cmocka_unit_test(nothing_writes_through_it),
		cmocka_unit_test(a_wake_reaches_other_processes),
		cmocka_unit_test(holders_keep_their_mapping),
		cmocka_unit_test(whoever_ends_says_so),
		cmocka_unit_test(a_killed_broker_leaves_its_mark),
	};

	if (argc > 1)
		return victim(VICTIM_FD);
	return cmocka_run_group_tests(tests, setup, teardown);
}
