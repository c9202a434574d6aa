/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/sandbox/sandbox.h"

#define RESCUE_MS 10000 /* for QEMU to let go of the dead broker's connection and answer */
#define RETRY_MS 20
#define LINE_MAX_BYTES 65536 /* of QMP that is looked at; greeting and replies are far shorter */
#define PATH_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path))

/* REFUSED is the one word that comes back. */
enum order { ORDER_ARM = 'A', ORDER_DISARM = 'D', ORDER_RELEASE = 'R', ORDER_REFUSED = 'N' };

struct message {
	char order;
	char path[PATH_BYTES];
	char ward[GUARDIAN_WARD_MAX]; /* "": the place is a QMP socket, else a process */
};

struct guardian_refusal {
	char path[PATH_BYTES];
	struct guardian_refusal *next;
};

struct guardian {
	pid_t pid;
	int fd;
	struct guardian_refusal *refusals; /* that nobody has asked for yet */
};

/* ---- in the process of its own ---- */

struct armed {
	char path[PATH_BYTES];        /* the name in orders */
	char ward[GUARDIAN_WARD_MAX]; /* as in orders */
	int place;                    /* the socket or the process */
	struct armed *next;
};

static guardian_rescue_fn ward_rescue;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool send_all(int fd, const char *text)
{
	return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* Reads until QEMU has said `word`. */
static bool await_word(int fd, const char *word, int64_t until)
{
	static char buf[LINE_MAX_BYTES + 1];
	size_t len = 0;

	while (len < LINE_MAX_BYTES) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		ssize_t n;

		if (left <= 0 || poll(&pfd, 1, (int)left) <= 0)
			return false;
		n = recv(fd, buf + len, LINE_MAX_BYTES - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
		buf[len] = '\0';
		if (strstr(buf, word))
			return true;
	}
	return false;
}

/* Until it is answered, by success or not. QEMU may still answer here what the broker has asked
 * before it died; and it forgets what it has not begun when its client leaves. */
static bool ask(int fd, const char *command, int64_t until)
{
	char line[128], id[64];

	snprintf(id, sizeof(id), "\"guardian %s\"", command);
	snprintf(line, sizeof(line), "{\"execute\": \"%s\", \"id\": %s}\n", command, id);
	return send_all(fd, line) && await_word(fd, id, until);
}

/* Waits in the queue of a QEMU that serves somebody else, which may be full, but not for ever. */
static int connect_qmp(int fd, int place, int64_t until)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int64_t left = until - now_ms();
	const struct timeval patience = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 + 1};

	if (left < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -ETIMEDOUT;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", place);
	return connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

/* Whether it is settled: QEMU has answered to cont, or is not there any more. */
static bool try_cont(int place, int64_t until)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : connect_qmp(fd, place, until);
	bool settled = r == -ENOENT || r == -ECONNREFUSED;

	if (!r)
		settled = await_word(fd, "\"QMP\"", until) && ask(fd, "qmp_capabilities", until) &&
			  ask(fd, "cont", until);
	if (fd >= 0)
		close(fd);
	return settled;
}

static bool try_rescue(const struct armed *armed, int64_t until)
{
	return armed->ward[0] ? !ward_rescue || ward_rescue(armed->ward, armed->place)
			      : try_cont(armed->place, until);
}

static void retry_rescue(const struct armed *armed)
{
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
	int64_t until = now_ms() + RESCUE_MS;

	while (now_ms() < until && !try_rescue(armed, until))
		nanosleep(&pause, NULL);
}

/* Not even the log: who waits for its end waits for the broker, not for this. */
static void close_others(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int standard = 0; standard <= STDERR_FILENO; standard++) {
		if (null < 0 || dup2(null, standard) < 0)
			close(standard);
	}
	if (fd > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
}

/* Apart: a QEMU that hangs must not keep the others' guests waiting, whose sockets the next
 * broker is about to take. */
static void rescue(const struct armed *armed)
{
	pid_t pid = fork();

	if (pid > 0)
		return;
	if (pid < 0) {
		/* What may wait for ever needs a process that can be ended. */
		if (!armed->ward[0])
			retry_rescue(armed);
		return;
	}
	/* The others' may be all the descriptors that there are. */
	close_others(armed->place);
	alarm(2 * RESCUE_MS / 1000);
	retry_rescue(armed);
	_exit(0);
}

/* Out of descriptors or memory: what is armed stays so, and the broker hears that this one is
 * not. One that does not read is sent no more of them than its socket holds. */
static void refuse(int fd, const struct message *message)
{
	struct message refusal = *message;

	refusal.order = ORDER_REFUSED;
	(void)!send(fd, &refusal, sizeof(refusal), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void arm(int fd, struct armed **armed, const struct message *message, int place)
{
	struct armed *entry = place < 0 ? NULL : calloc(1, sizeof(*entry));

	if (!entry) {
		if (place >= 0)
			close(place);
		refuse(fd, message);
		return;
	}
	memcpy(entry->path, message->path, sizeof(entry->path));
	memcpy(entry->ward, message->ward, sizeof(entry->ward));
	entry->place = place;
	LL_PREPEND(*armed, entry);
}

static void disarm(struct armed **armed, const struct message *message)
{
	struct armed *entry, *next;

	LL_FOREACH_SAFE (*armed, entry, next) {
		if (strcmp(entry->path, message->path) != 0)
			continue;
		if (message->order == ORDER_RELEASE)
			rescue(entry);
		LL_DELETE(*armed, entry);
		close(entry->place);
		free(entry);
	}
}

static void obey(int fd, struct armed **armed, const struct message *message, int place)
{
	if (message->order == ORDER_ARM) {
		arm(fd, armed, message, place);
		return;
	}
	if (place >= 0)
		close(place);
	disarm(armed, message);
}

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

/* As recvmsg(2); `ret_place` is -1 without a descriptor. */
static ssize_t receive(int fd, struct message *message, int *ret_place)
{
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
	union control control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_place = -1;
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(ret_place, CMSG_DATA(header), sizeof(*ret_place));
	return n;
}

/* What ends the broker's process group must not end this first. */
static void ignore_signals(void)
{
	static const int signums[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]); i++)
		signal(signums[i], SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* no zombies of rescue() */
}

__attribute__((noreturn)) static void watch(int fd)
{
	struct armed *armed = NULL, *entry;
	struct message message;
	int place;
	ssize_t n;

	prctl(PR_SET_DUMPABLE, 0);
	ignore_signals();
	close_others(fd);
	prctl(PR_SET_NAME, "vmsig-guardian");
	if (sandbox_shut(SANDBOX_GUARDIAN))
		_exit(1);
	while ((n = receive(fd, &message, &place)) > 0 || (n < 0 && errno == EINTR)) {
		if (n == sizeof(message) && memchr(message.path, '\0', sizeof(message.path)) &&
			memchr(message.ward, '\0', sizeof(message.ward)))
			obey(fd, &armed, &message, place);
	}
	LL_FOREACH (armed, entry)
		rescue(entry);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	_exit(0);
}

/* ---- in the broker ---- */

int guardian_start(struct guardian **ret_guardian, guardian_rescue_fn rescue_fn)
{
	struct guardian *guardian = calloc(1, sizeof(*guardian));
	int fds[2], r = guardian ? 0 : -ENOMEM;

	if (!r && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		r = -errno;
	if (r) {
		free(guardian);
		return r;
	}
	guardian->pid = fork();
	if (guardian->pid == 0) {
		ward_rescue = rescue_fn;
		close(fds[0]);
		watch(fds[1]);
	}
	r = guardian->pid < 0 ? -errno : 0;
	close(fds[1]);
	if (r) {
		close(fds[0]);
		free(guardian);
		return r;
	}
	guardian->fd = fds[0];
	*ret_guardian = guardian;
	return 0;
}

struct guardian *guardian_stop(struct guardian *guardian)
{
	struct guardian_refusal *refusal, *next;

	if (!guardian)
		return NULL;
	close(guardian->fd);
	LL_FOREACH_SAFE (guardian->refusals, refusal, next)
		free(refusal);
	while (waitpid(guardian->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(guardian);
	return NULL;
}

/* Never waits: the buffer of the socket holds more than a hundred, and they are taken at once. */
static int order(
	struct guardian *guardian, enum order what, const char *qmp, const char *ward, int place)
{
	struct message message = {.order = (char)what};
	struct iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
	union control control = {
		.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS},
	};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!guardian)
		return -ENOENT;
	if (strlen(qmp) >= sizeof(message.path) || strlen(ward) >= sizeof(message.ward))
		return -ENAMETOOLONG;
	memcpy(message.path, qmp, strlen(qmp));
	memcpy(message.ward, ward, strlen(ward));
	if (place >= 0) {
		memcpy(CMSG_DATA(&control.header), &place, sizeof(place));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	return sendmsg(guardian->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(message) ? 0
											   : -errno;
}

/* All that came. One that there is no memory for is lost, and with it a guest's safety net, not
 * the guest. */
static void take_refusals(struct guardian *guardian)
{
	struct message message;

	while (recv(guardian->fd, &message, sizeof(message), MSG_DONTWAIT) == sizeof(message)) {
		struct guardian_refusal *refusal = calloc(1, sizeof(*refusal));

		if (!refusal)
			continue;
		memcpy(refusal->path, message.path, sizeof(refusal->path));
		LL_PREPEND(guardian->refusals, refusal);
	}
}

bool guardian_has_refused(struct guardian *guardian, const char *qmp)
{
	struct guardian_refusal **at;
	bool refused = false;

	if (!guardian)
		return true;
	take_refusals(guardian);
	at = &guardian->refusals;
	while (*at) {
		struct guardian_refusal *refusal = *at;

		if (strcmp(refusal->path, qmp) != 0) {
			at = &refusal->next;
			continue;
		}
		*at = refusal->next;
		free(refusal);
		refused = true;
	}
	return refused;
}

int guardian_arm_ward(struct guardian *guardian, const char *name, const char *ward, int process)
{
	/* Of an earlier time. */
	(void)!guardian_has_refused(guardian, name);
	return process < 0 ? -EBADF : order(guardian, ORDER_ARM, name, ward, process);
}

int guardian_arm(struct guardian *guardian, const char *qmp, int place)
{
	return guardian_arm_ward(guardian, qmp, "", place);
}

void guardian_disarm(struct guardian *guardian, const char *qmp)
{
	/* Armed for longer than needed it continues a guest that runs, which changes nothing. */
	(void)!order(guardian, ORDER_DISARM, qmp, "", -1);
}

void guardian_release(struct guardian *guardian, const char *qmp)
{
	(void)!order(guardian, ORDER_RELEASE, qmp, "", -1);
}
