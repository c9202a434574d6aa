/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/store/marks.h"
#include "vmsig/vmsig_error.h"

/* Where things are in the memory; it is read by other versions too. */
#define HEADER 4096
#define SLOT 512
#define AT_REPLY 112

static char dir[64], note[96], path[512]; /* where the memory is, and what notes that */
static const struct ledger_key key = {.lease = 7, .writer = 8, .sequence = 9};
static const uint8_t digest[LEDGER_DIGEST] = {1, 2, 3};

static struct marks *marks_at(const char *where)
{
	struct marks *marks = NULL;
	char error[512] = "";

	if (marks_open(&marks, where, NULL, error, sizeof(error)))
		fail_msg("%s", error);
	return marks;
}

static int setup(void **state)
{
	strcpy(dir, "/tmp/vmsig-marks-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(note, sizeof(note), "%s/marks.where", dir);
	return 0;
}

/* Once there is one. */
static void find_memory(void)
{
	FILE *file = fopen(note, "re");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*s %*s %*s %511[^\n]", path), 1);
	fclose(file);
}

/* As if there had never been one. */
static void forget(void)
{
	if (access(note, F_OK) < 0)
		return;
	find_memory();
	unlink(path);
	unlink(note);
}

static int teardown(void **state)
{
	forget();
	return rmdir(dir);
}

/* What the next process finds of the only command; MARK_FREE without one. */
static enum mark_state found(struct mark_view *ret_view)
{
	struct marks *marks = marks_at(dir);
	struct mark_view view = {0}, more;
	uint32_t cursor = 0;

	if (marks_next(marks, &cursor, &view)) {
		assert_false(marks_next(marks, &cursor, &more));
		if (view.state) {
			assert_memory_equal(&view.key, &key, sizeof(key));
			assert_memory_equal(view.digest, digest, sizeof(digest));
		}
	}
	if (ret_view) {
		static uint8_t reply[MARKS_REPLY_MAX], hash[MARKS_HASH];

		*ret_view = view;
		if (view.reply_len)
			memcpy(reply, view.reply, view.reply_len);
		ret_view->reply = reply;
		if (view.hash)
			ret_view->hash = memcpy(hash, view.hash, sizeof(hash));
	}
	marks_close(marks);
	return view.state;
}

static uint32_t take(struct marks *marks)
{
	uint32_t mark = 0;

	assert_int_equal(marks_take(marks, &key, digest, &mark), 0);
	assert_int_not_equal(mark, 0);
	return mark;
}

static void do_take(struct marks *marks, uint32_t mark)
{
}

static void do_begin(struct marks *marks, uint32_t mark)
{
	marks_begin(marks, mark);
}

static void do_pause(struct marks *marks, uint32_t mark)
{
	marks_begin(marks, mark);
	marks_pause(marks, mark, 4711);
}

static void do_end(struct marks *marks, uint32_t mark)
{
	marks_begin(marks, mark);
	marks_end(marks, mark, "reply", 5);
}

static void do_release(struct marks *marks, uint32_t mark)
{
	do_end(marks, mark);
	marks_release(marks, mark);
}

/* A process that does so and is killed. */
static void killed_after(void (*act)(struct marks *marks, uint32_t mark))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		struct marks *marks = marks_at(dir);

		act(marks, take(marks));
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	find_memory();
}

static void they_outlive_the_process(void **state)
{
	static const struct {
		void (*act)(struct marks *marks, uint32_t mark);
		enum mark_state state;
	} deaths[] = {
		{do_take, MARK_TAKEN},
		{do_begin, MARK_BEGUN},
		{do_pause, MARK_PAUSED},
		{do_end, MARK_ENDED},
		{do_release, MARK_FREE},
	};
	struct mark_view view;

	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		forget();
		killed_after(deaths[i].act);
		assert_int_equal(found(&view), deaths[i].state);
		if (view.state == MARK_PAUSED)
			assert_int_equal(view.done, 4711);
		if (view.state == MARK_ENDED) {
			assert_int_equal(view.reply_len, 5);
			assert_memory_equal(view.reply, "reply", 5);
		}
	}
}

static void change(off_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0xff;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static const uint8_t found_before[MARKS_HASH] = {1, 2, 3, [MARKS_HASH - 1] = 4};

static void do_hash(struct marks *marks, uint32_t mark)
{
	do_end(marks, mark);
	marks_hash(marks, mark, found_before);
}

/* The slot is the next command's, whose reply is as long. */
static void do_hash_of_former(struct marks *marks, uint32_t mark)
{
	do_hash(marks, mark);
	marks_release(marks, mark);
	assert_int_equal(take(marks), mark);
	do_end(marks, mark);
}

static void do_end_without_room(struct marks *marks, uint32_t mark)
{
	static const uint8_t reply[MARKS_REPLY_MAX - MARKS_HASH + 1];

	marks_begin(marks, mark);
	marks_end(marks, mark, reply, sizeof(reply));
	marks_hash(marks, mark, found_before);
}

static void a_hash_joins_its_own_reply_and_no_other(void **state)
{
	struct mark_view view;

	forget();
	killed_after(do_hash);
	assert_int_equal(found(&view), MARK_ENDED);
	assert_int_equal(view.reply_len, 5);
	assert_memory_equal(view.reply, "reply", 5);
	assert_non_null(view.hash);
	assert_memory_equal(view.hash, found_before, MARKS_HASH);
	forget();
	killed_after(do_hash_of_former);
	assert_int_equal(found(&view), MARK_ENDED);
	assert_null(view.hash);
	forget();
	killed_after(do_end_without_room);
	assert_int_equal(found(&view), MARK_ENDED);
	assert_int_equal(view.reply_len, MARKS_REPLY_MAX - MARKS_HASH + 1);
	assert_null(view.hash);
	/* One that was cut off in the middle, or damaged. */
	for (off_t at = 0; at < (off_t)MARKS_HASH; at++) {
		forget();
		killed_after(do_hash);
		change(HEADER + AT_REPLY + 5 + at);
		assert_int_equal(found(&view), MARK_ENDED);
		assert_null(view.hash);
	}
}

/* What counts as none any more is not let go either. */
static enum mark_state found_instead(void)
{
	enum mark_state state;
	char was[512];

	memcpy(was, path, sizeof(was));
	state = found(NULL);
	unlink(was);
	return state;
}

/* Bytes of a slot that has ended which say nothing: how far it came before, and padding. */
static bool is_ignored(off_t at)
{
	return (at >= 72 && at < 88) || (at >= 108 && at < AT_REPLY);
}

/* A torn or damaged slot proves less, and never more. */
static void what_is_damaged_proves_nothing(void **state)
{
	for (off_t at = 0; at < AT_REPLY + 5; at++) {
		enum mark_state left;

		forget();
		killed_after(do_end);
		change(HEADER + at);
		left = found(NULL);
		if (left != MARK_BEGUN && left != MARK_FREE &&
			!(left == MARK_ENDED && is_ignored(at)))
			fail_msg("with byte %ld changed the state is %d", (long)at, left);
		if (at >= AT_REPLY)
			assert_int_equal(left, MARK_BEGUN);
		forget();
		killed_after(do_pause);
		change(HEADER + at);
		left = found(NULL);
		if (left == MARK_ENDED || left == MARK_TAKEN)
			fail_msg("with byte %ld changed it counts as %d", (long)at, left);
	}
}

static void another_boot_or_file_is_none(void **state)
{
	char other[512], command[4096];

	/* Magic, size, inode, boot, sum. */
	for (off_t at = 0; at < 96; at++) {
		forget();
		killed_after(do_end);
		change(at);
		assert_int_equal(found_instead(), MARK_FREE);
	}
	killed_after(do_end);
	assert_int_equal(found(NULL), MARK_ENDED);
	snprintf(other, sizeof(other), "%.400s-copy", path);
	snprintf(command, sizeof(command), "cp -a %s %s && mv %s %s", path, other, other, path);
	assert_int_equal(system(command), 0);
	assert_int_equal(found_instead(), MARK_FREE);
}

static void a_file_of_another_size_is_none(void **state)
{
	struct stat st, now;

	killed_after(do_end);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size / 2), 0);
	assert_int_equal(found_instead(), MARK_FREE);
	killed_after(do_end);
	assert_int_equal(stat(path, &now), 0);
	assert_int_equal(now.st_size, st.st_size);
	/* All of it is there. */
	assert_true((uint64_t)now.st_blocks * 512 >= (uint64_t)st.st_size);
	assert_int_equal(now.st_mode & 07777, 0600);
}

static void they_are_bounded(void **state)
{
	struct marks *marks = marks_at(dir);
	uint32_t mark = 0, left = 0, cursor = 0;
	struct mark_view view;

	for (uint32_t i = 0; i < MARKS; i++)
		mark = take(marks);
	assert_int_equal(marks_take(marks, &key, digest, &mark), VMSIG_ERR_BUSY);
	marks_release(marks, mark);
	mark = take(marks);
	assert_int_equal(marks_take(marks, &key, digest, &mark), VMSIG_ERR_BUSY);
	marks_close(marks);
	/* The next process has none but those that it gives back. */
	marks = marks_at(dir);
	assert_int_equal(marks_take(marks, &key, digest, &mark), VMSIG_ERR_BUSY);
	while (marks_next(marks, &cursor, &view)) {
		marks_release(marks, view.mark);
		left++;
	}
	assert_int_equal(left, MARKS);
	take(marks);
	marks_close(marks);
}

static void they_know_in_which_order_they_ended(void **state)
{
	struct marks *marks = marks_at(dir);
	uint32_t marked[3], cursor = 0;
	struct mark_view view;

	for (int i = 0; i < 3; i++)
		marked[i] = take(marks);
	marks_end(marks, marked[2], "3", 1);
	marks_end(marks, marked[0], "1", 1);
	marks_close(marks);
	marks = marks_at(dir);
	marks_end(marks, marked[1], "2", 1);
	while (marks_next(marks, &cursor, &view))
		assert_int_equal(view.order, view.reply[0] == '3'   ? 1
					     : view.reply[0] == '1' ? 2
								    : 3);
	marks_close(marks);
}

static void a_full_memory_is_told_when_it_is_opened(void **state)
{
	struct rlimit limit, small;
	struct marks *marks = NULL;
	char error[512] = "";

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 100000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_not_equal(marks_open(&marks, dir, NULL, error, sizeof(error)), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_null(marks);
	assert_non_null(strstr(error, "marks"));
	/* What was begun is no file. */
	assert_int_equal(found(NULL), MARK_FREE);
}

static void a_planted_link_is_refused(void **state)
{
	struct marks *marks = NULL;
	char error[512] = "";

	assert_int_equal(symlink("/tmp/vmsig-nowhere", note), 0);
	assert_int_not_equal(marks_open(&marks, dir, NULL, error, sizeof(error)), 0);
	assert_int_not_equal(access("/tmp/vmsig-nowhere", F_OK), 0);
	unlink(note);
}

/* Whether somebody has opened what is watched since the last time. */
static bool was_opened(int watch)
{
	char events[4096];

	return read(watch, events, sizeof(events)) > 0;
}

/* Names there are anybody's: what is mounted on one need not answer. */
static void what_is_mounted_on_a_name_is_not_entered(void **state)
{
	char name[64], source[96];
	int fd, watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	/* The mount ends with this process. */
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	snprintf(name, sizeof(name), "/dev/shm/vmsig-test-%d", (int)getpid());
	snprintf(source, sizeof(source), "%s/source", dir);
	close(open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	close(open(source, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	assert_int_equal(mount(source, name, "none", MS_BIND, NULL), 0);
	assert_true(inotify_add_watch(watch, source, IN_OPEN) >= 0);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	assert_true(was_opened(watch));
	marks_close(marks_at(dir));
	assert_false(was_opened(watch));
	assert_int_equal(umount(name), 0);
	unlink(name);
	unlink(source);
	close(watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(they_outlive_the_process),
		TEST(what_is_damaged_proves_nothing),
		TEST(a_hash_joins_its_own_reply_and_no_other),
		TEST(another_boot_or_file_is_none),
		TEST(a_file_of_another_size_is_none),
		TEST(they_are_bounded),
		TEST(they_know_in_which_order_they_ended),
		TEST(a_full_memory_is_told_when_it_is_opened),
		TEST(a_planted_link_is_refused),
		TEST(what_is_mounted_on_a_name_is_not_entered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
