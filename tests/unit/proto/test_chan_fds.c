/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors beside messages, and lies about them. */
#include "tests/unit/proto/chan_pair.h"
#include "tests/support/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A new file of `size` bytes. */
static int file_make(off_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static int file_reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

/* Sends `n` new files of different sizes with one frame; *claims describes them. */
static void send_files(struct chan *chan, const char *text, size_t n, struct chan_fd_claim *claims)
{
	int fds[CHAN_FDS_PER_FRAME];

	for (size_t i = 0; i < n; i++) {
		fds[i] = file_make((off_t)(4096 * (i + 1)));
		assert_int_equal(chan_fd_describe(fds[i], &claims[i]), 0);
	}
	assert_int_equal(chan_send(chan, text, strlen(text), fds, n), 0);
}

static void await_text(struct chan_pair *pair, const char *text)
{
	const uint8_t *data;
	size_t len;

	assert_int_equal(chan_await(pair->server, pair->client, &data, &len), 0);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
}

static void take_and_close(struct chan *chan, const struct chan_fd_claim *claims, size_t n)
{
	int fds[CHAN_FDS_PER_FRAME];

	assert_int_equal(chan_take_fds(chan, claims, n, fds), 0);
	for (size_t i = 0; i < n; i++) {
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		close(fds[i]);
	}
}

static void descriptors_stay_with_their_message(void **state)
{
	char *large = calloc(1, 100001);
	struct chan_fd_claim a[1];
	struct chan_fd_claim b[CHAN_FDS_PER_FRAME];
	struct chan_fd_claim c[2];
	struct chan_pair pair;

	assert_non_null(large);
	memset(large, 'L', 100000);
	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, "1", 1, NULL, 0), 0);
	send_files(pair.client, "2", 1, a);
	assert_int_equal(chan_send(pair.client, "3", 1, NULL, 0), 0);
	send_files(pair.client, "4", CHAN_FDS_PER_FRAME, b);
	send_files(pair.client, large, 2, c);
	assert_int_equal(chan_send(pair.client, "6", 1, NULL, 0), 0);

	await_text(&pair, "1");
	await_text(&pair, "2");
	take_and_close(pair.server, a, 1);
	await_text(&pair, "3");
	await_text(&pair, "4");
	take_and_close(pair.server, b, CHAN_FDS_PER_FRAME);
	await_text(&pair, large);
	take_and_close(pair.server, c, 2);
	await_text(&pair, "6");
	assert_int_equal(chan_pending_fds(pair.server), 0);
	chan_pair_down(&pair);
	free(large);
}

/* A subscription's answer and its context wake the client once. */
static void what_comes_before_descriptors_goes_with_them(void **state)
{
	struct chan_fd_claim claims[2];
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr look = {.msg_iov = &iov, .msg_iovlen = 1};
	struct chan_pair pair;
	const uint8_t *data;
	size_t len;

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(chan_send(pair.client, "answer", 6, NULL, 0), 0);
	send_files(pair.client, "context", 2, claims);
	assert_int_equal(chan_drain(pair.client), 0);
	/* Looked at without room for them. */
	assert_true(recvmsg(chan_socket(pair.server), &look, MSG_PEEK | MSG_DONTWAIT) > 0);
	assert_true(look.msg_flags & MSG_CTRUNC);
	assert_int_equal(chan_fill(pair.server), 0);
	assert_int_equal(chan_recv(pair.server, &data, &len), 0);
	assert_int_equal(chan_recv(pair.server, &data, &len), 0);
	assert_int_equal(len, 7);
	take_and_close(pair.server, claims, 2);
	chan_pair_down(&pair);
}

/* The descriptors' own message first, then plain ones without an end: they come with or
 * before their bytes however the reads fall. */
static void descriptors_come_no_later_than_their_message(void **state)
{
	struct chan_fd_claim claims[100];
	struct chan_pair pair;

	chan_pair_up(&pair, *state, NULL);
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(chan_send(pair.client, "plain", 5, NULL, 0), 0);
		send_files(pair.client, "fd", 1, &claims[i]);
		if (i % 7 == 6) {
			for (size_t j = i - 6; j <= i; j++) {
				await_text(&pair, "plain");
				await_text(&pair, "fd");
				take_and_close(pair.server, &claims[j], 1);
			}
		}
	}
	chan_pair_down(&pair);
}

static void too_many_descriptors_are_not_accepted_for_sending(void **state)
{
	int fds[CHAN_FDS_PER_FRAME + 1] = {0};
	struct chan_pair pair;

	chan_pair_up(&pair, *state, NULL);
	assert_int_equal(
		chan_send(pair.client, "x", 1, fds, CHAN_FDS_PER_FRAME + 1), VMSIG_ERR_BAD_REQUEST);
	assert_false(chan_has_output(pair.client));
	chan_pair_down(&pair);
}

static void dropped_queues_close_their_descriptors(void **state)
{
	struct chan_fd_claim claims[3];
	size_t before = descriptors_open();
	struct chan_pair pair;

	chan_pair_up(&pair, *state, NULL);
	send_files(pair.client, "sent", 3, claims);
	await_text(&pair, "sent");
	assert_int_equal(chan_pending_fds(pair.server), 3);
	send_files(pair.client, "in the kernel", 3, claims);
	assert_int_equal(chan_drain(pair.client), 0);
	send_files(pair.client, "queued", 3, claims);
	assert_true(descriptors_open() > before);
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

static void a_refused_send_leaves_descriptors_with_the_caller(void **state)
{
	static const struct chan_limits limits = {.frame_max = 100, .tx_max = 10, .rx_fds_max = 1};
	struct chan_pair pair;
	int fd = file_make(1);

	chan_pair_up(&pair, *state, &limits);
	assert_int_equal(chan_send(pair.client, "x", 1, &fd, 1), VMSIG_ERR_QUOTA);
	assert_int_equal(close(fd), 0);
	chan_pair_down(&pair);
}

/* Sends one file, applies one lie to what the message says, expects it to be caught. */
static void expect_caught(struct chan_world *world, void (*lie)(struct chan_fd_claim *claim))
{
	struct chan_fd_claim claims[2];
	size_t before = descriptors_open();
	const uint8_t *data;
	struct chan_pair pair;
	int fds[2] = {-1, -1};
	size_t len;

	chan_pair_up(&pair, world, NULL);
	send_files(pair.client, "x", 2, claims);
	await_text(&pair, "x");
	lie(claims);
	assert_int_equal(chan_take_fds(pair.server, claims, 2, fds), VMSIG_ERR_PROTOCOL);
	assert_int_equal(fds[0], -1);
	assert_int_equal(chan_pending_fds(pair.server), 0);
	assert_true(strlen(chan_error(pair.server)) > 0);
	assert_int_equal(chan_recv(pair.server, &data, &len), VMSIG_ERR_PROTOCOL);
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

static void lie_inode(struct chan_fd_claim *claim)
{
	claim[1].ino++;
}

static void lie_device(struct chan_fd_claim *claim)
{
	claim[0].dev ^= 1;
}

static void lie_size(struct chan_fd_claim *claim)
{
	claim[1].size++;
}

static void lie_read_only(struct chan_fd_claim *claim)
{
	claim[0].access = O_RDONLY;
}

static void lie_swapped(struct chan_fd_claim *claim)
{
	struct chan_fd_claim first = claim[0];

	claim[0] = claim[1];
	claim[1] = first;
}

static void every_lie_about_a_descriptor_is_caught(void **state)
{
	expect_caught(*state, lie_inode);
	expect_caught(*state, lie_device);
	expect_caught(*state, lie_size);
	expect_caught(*state, lie_read_only);
	expect_caught(*state, lie_swapped);
}

static void a_read_only_descriptor_is_known_as_one(void **state)
{
	struct chan_fd_claim claim = {0}, opened = {0};
	int fd = file_make(4096);
	int ro = file_reopen(fd, O_RDONLY);
	int path = file_reopen(fd, O_PATH);

	assert_true(ro >= 0 && path >= 0);
	assert_int_equal(chan_fd_describe(fd, &claim), 0);
	assert_int_equal(claim.access, O_RDWR);
	assert_int_equal(claim.size, 4096);
	assert_int_equal(chan_fd_describe(ro, &claim), 0);
	assert_int_equal(claim.access, O_RDONLY);
	opened.access = O_RDWR;
	assert_int_equal(chan_fd_describe_opened(ro, O_RDONLY, &opened), 0);
	assert_memory_equal(&opened, &claim, sizeof(claim));
	assert_int_equal(chan_fd_describe_opened(-1, O_RDONLY, &opened), -EBADF);
	assert_int_equal(chan_fd_describe(path, &claim), -EBADF);
	assert_int_equal(chan_fd_describe(-1, &claim), -EBADF);
	close(path);
	close(ro);
	close(fd);
}

static void fewer_descriptors_than_announced(void **state)
{
	struct chan_fd_claim claims[2];
	size_t before = descriptors_open();
	struct chan_pair pair;
	int fds[2];

	chan_pair_up(&pair, *state, NULL);
	send_files(pair.client, "x", 1, claims);
	claims[1] = claims[0];
	await_text(&pair, "x");
	assert_int_equal(chan_take_fds(pair.server, claims, 2, fds), VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(chan_error(pair.server), "fewer"));
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

static void more_descriptors_than_announced_are_visible(void **state)
{
	struct chan_fd_claim claims[2];
	struct chan_pair pair;

	chan_pair_up(&pair, *state, NULL);
	send_files(pair.client, "x", 2, claims);
	await_text(&pair, "x");
	take_and_close(pair.server, claims, 1);
	assert_int_equal(chan_pending_fds(pair.server), 1);
	chan_pair_down(&pair);
}

#define RAW_FDS 253 /* what one message can carry: the kernel's SCM_MAX_FD */

/* One byte with `n` descriptors, past TLS. */
static void raw_send_fds(int sock, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(RAW_FDS * sizeof(int))];
	} control = {0};
	char byte = 0x17;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fds[RAW_FDS];

	for (size_t i = 0; i < n; i++)
		fds[i] = STDERR_FILENO;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	assert_int_equal(sendmsg(sock, &msg, 0), 1);
}

static void truncated_descriptors_end_the_channel(void **state)
{
	static const size_t counts[] = {CHAN_PAIR_FDS + 1, CHAN_PAIR_FDS + 2, RAW_FDS};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct chan_fd_claim claims[2];
		size_t before = descriptors_open();
		struct chan_pair pair;

		chan_pair_up(&pair, *state, NULL);
		send_files(pair.client, "x", 2, claims);
		await_text(&pair, "x");
		raw_send_fds(chan_socket(pair.client), counts[i]);
		assert_int_equal(chan_fill(pair.server), VMSIG_ERR_PROTOCOL);
		assert_int_equal(chan_pending_fds(pair.server), 0);
		assert_non_null(strstr(chan_error(pair.server), "more descriptors than fit"));
		assert_int_equal(chan_fill(pair.server), VMSIG_ERR_PROTOCOL);
		chan_pair_down(&pair);
		assert_int_equal(descriptors_open(), before);
	}
}

static void unwanted_descriptors_end_the_channel(void **state)
{
	static const struct chan_limits none = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 1u << 20, .rx_fds_max = 0};
	struct chan_fd_claim claim;
	size_t before = descriptors_open();
	const uint8_t *data;
	struct chan_pair pair;
	size_t len;

	chan_pair_up(&pair, *state, &none);
	send_files(pair.client, "x", 1, &claim);
	assert_int_equal(chan_drain(pair.client), 0);
	assert_int_equal(chan_fill(pair.server), VMSIG_ERR_PROTOCOL);
	assert_non_null(strstr(chan_error(pair.server), "may not"));
	assert_int_equal(chan_recv(pair.server, &data, &len), VMSIG_ERR_PROTOCOL);
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

static void a_flood_of_descriptors_is_bounded(void **state)
{
	static const struct chan_limits four = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 1u << 20, .rx_fds_max = 4};
	size_t before = descriptors_open();
	struct chan_pair pair;
	int r = 0;

	chan_pair_up(&pair, *state, &four);
	for (int i = 0; i < 5; i++)
		raw_send_fds(chan_socket(pair.client), 1);
	while (r == 0)
		r = chan_fill(pair.server);
	assert_int_equal(r, VMSIG_ERR_PROTOCOL);
	assert_int_equal(chan_pending_fds(pair.server), 0);
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

static void soft_limit(rlim_t n)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* valgrind keeps RLIMIT_NOFILE to itself: the kernel, which these tests are about, never
 * hears of it. */
static void skip_unless_limits_reach_the_kernel(void)
{
	struct rlimit limit;
	char line[256];
	bool real = false;
	FILE *file;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	soft_limit(limit.rlim_cur - 1);
	file = fopen("/proc/self/limits", "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned long long n;

		if (sscanf(line, "Max open files %llu", &n) == 1)
			real = n == limit.rlim_cur - 1;
	}
	fclose(file);
	soft_limit(limit.rlim_cur);
	if (!real)
		skip();
}

static void no_free_descriptor_to_receive_into(void **state)
{
	struct rlimit limit;
	struct chan_fd_claim claims[4];
	size_t before = descriptors_open();
	struct chan_pair pair;

	skip_unless_limits_reach_the_kernel();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	chan_pair_up(&pair, *state, NULL);
	send_files(pair.client, "x", 4, claims);
	/* What is open stays open; the kernel just gives no new one. */
	soft_limit(3);
	assert_in_set(chan_drain(pair.client), ((LargestIntegralType[]){0, VMSIG_ERR_BUSY}), 2);
	if (!chan_has_output(pair.client))
		assert_int_equal(chan_fill(pair.server), VMSIG_ERR_PROTOCOL);
	soft_limit(limit.rlim_cur);
	chan_pair_down(&pair);
	assert_int_equal(descriptors_open(), before);
}

#define FLIGHT 100

/* Root may have any number in flight, so become nobody. Returns instead of asserting: this
 * is a child process. */
static int flight_send_and_count(struct chan_pair *pair, const struct chan_fd_claim *claims)
{
	struct rlimit limit;
	unsigned busy = 0;
	unsigned got = 0;

	if (geteuid() == 0 && (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
				      setresuid(65534, 65534, 65534)))
		return 2;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 3;
	for (int turn = 0; turn < 1000 && got < FLIGHT; turn++) {
		const uint8_t *data;
		size_t len;
		int r;

		soft_limit(10);
		r = chan_drain(pair->client);
		soft_limit(limit.rlim_cur);
		if (r != 0 && r != VMSIG_ERR_BUSY)
			return 4;
		busy += r == VMSIG_ERR_BUSY;
		if (chan_fill(pair->server) < 0)
			return 5;
		while (chan_recv(pair->server, &data, &len) == 0) {
			int fd;

			if (len != 1 || data[0] != (uint8_t)got)
				return 6;
			if (chan_take_fds(pair->server, &claims[got], 1, &fd))
				return 7;
			close(fd);
			got++;
		}
	}
	return got == FLIGHT && busy > 0 && chan_pending_fds(pair->server) == 0 ? 0 : 8;
}

static void too_many_in_flight_is_busy_and_loses_nothing(void **state)
{
	static const struct chan_limits limits = {
		.frame_max = CHAN_FRAME_MAX, .tx_max = 1u << 20, .rx_fds_max = FLIGHT};
	struct chan_fd_claim claims[FLIGHT];
	struct chan_pair pair;
	int status;
	pid_t pid;

	skip_unless_limits_reach_the_kernel();
	chan_pair_up(&pair, *state, &limits);
	for (int i = 0; i < FLIGHT; i++) {
		uint8_t byte = (uint8_t)i;
		int fd = file_make(i);

		assert_int_equal(chan_fd_describe(fd, &claims[i]), 0);
		assert_int_equal(chan_send(pair.client, &byte, 1, &fd, 1), 0);
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(flight_send_and_count(&pair, claims));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	chan_pair_down(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_stay_with_their_message),
		cmocka_unit_test(what_comes_before_descriptors_goes_with_them),
		cmocka_unit_test(descriptors_come_no_later_than_their_message),
		cmocka_unit_test(too_many_descriptors_are_not_accepted_for_sending),
		cmocka_unit_test(dropped_queues_close_their_descriptors),
		cmocka_unit_test(a_refused_send_leaves_descriptors_with_the_caller),
		cmocka_unit_test(every_lie_about_a_descriptor_is_caught),
		cmocka_unit_test(a_read_only_descriptor_is_known_as_one),
		cmocka_unit_test(fewer_descriptors_than_announced),
		cmocka_unit_test(more_descriptors_than_announced_are_visible),
		cmocka_unit_test(truncated_descriptors_end_the_channel),
		cmocka_unit_test(unwanted_descriptors_end_the_channel),
		cmocka_unit_test(a_flood_of_descriptors_is_bounded),
		cmocka_unit_test(no_free_descriptor_to_receive_into),
		cmocka_unit_test(too_many_in_flight_is_busy_and_loses_nothing),
	};

	return cmocka_run_group_tests(tests, chan_world_setup, chan_world_teardown);
}
