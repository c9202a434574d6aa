/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/fuse.h>

#include <cmocka.h>

/* ---- sockets ---- */

static void linger(int fd, int seconds)
{
	const struct linger value = {.l_onoff = seconds > 0, .l_linger = seconds};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof(value)), 0);
}

int foreign_lingering(int *ret_peer)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 2048;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static const char bytes[65536];

	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	*ret_peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(*ret_peer >= 0);
	close(listener);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	linger(fd, FOREIGN_LINGER_S);
	return fd;
}

void foreign_calm(int fd)
{
	linger(fd, 0);
}

int foreign_send(int sock, const void *data, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {{0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* ---- FUSE ---- */

static struct {
	char folder[128];
	int device;
	pthread_t thread;
	atomic_uint waiting;
} fuse;

static void reply(uint64_t unique, int error, const void *data, size_t len)
{
	char buf[512];
	const struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + len), .error = -error, .unique = unique};

	memcpy(buf, &header, sizeof(header));
	if (len)
		memcpy(buf + sizeof(header), data, len);
	(void)!write(fuse.device, buf, sizeof(header) + len);
}

static struct fuse_attr attributes(uint64_t node)
{
	return (struct fuse_attr){.ino = node,
		.size = 4096,
		.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0777 : S_IFREG | 0666,
		.nlink = 1};
}

/* Also a child of a test that is about to become something else would wait. */
static bool is_broker(uint32_t pid)
{
	char path[64], name[16] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!read(fd, name, sizeof(name) - 1);
		close(fd);
	}
	return strncmp(name, "vmsig", 5) == 0;
}

static void on_flush(const struct fuse_in_header *request)
{
	if (is_broker(request->pid))
		fuse.waiting++;
	else
		reply(request->unique, 0, NULL, 0);
}

static void answer(const struct fuse_in_header *request)
{
	const struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 65536};
	const struct fuse_attr_out attr = {.attr = attributes(request->nodeid)};
	const struct fuse_entry_out entry = {.nodeid = 2, .attr = attributes(2)};
	const struct fuse_open_out open = {.fh = 1};

	switch (request->opcode) {
	case FUSE_INIT:
		reply(request->unique, 0, &init, sizeof(init));
		break;
	case FUSE_GETATTR:
		reply(request->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_LOOKUP:
		reply(request->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_OPEN:
		reply(request->unique, 0, &open, sizeof(open));
		break;
	case FUSE_FLUSH:
		on_flush(request);
		break;
	case FUSE_FORGET:
		break;
	default:
		reply(request->unique, request->opcode == FUSE_RELEASE ? 0 : ENOSYS, NULL, 0);
	}
}

static void *serve(void *arg)
{
	static union {
		struct fuse_in_header header;
		char bytes[1 << 17];
	} buf;
	ssize_t n;

	while ((n = read(fuse.device, &buf, sizeof(buf))) > 0 || errno == EINTR) {
		if (n > 0)
			answer(&buf.header);
	}
	return NULL;
}

bool foreign_fuse_up(const char *folder)
{
	char options[128];

	snprintf(fuse.folder, sizeof(fuse.folder), "%s", folder);
	fuse.waiting = 0;
	fuse.device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(
		options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.device);
	if (fuse.device < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("vmsig-test", folder, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		if (fuse.device >= 0)
			close(fuse.device);
		return false;
	}
	assert_int_equal(pthread_create(&fuse.thread, NULL, serve, NULL), 0);
	return true;
}

int foreign_fuse_open(void)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/file", fuse.folder);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

unsigned foreign_fuse_waiting(void)
{
	return fuse.waiting;
}

void foreign_fuse_down(void)
{
	/* Whatever waits is told ECONNABORTED, and so is the thread. */
	umount2(fuse.folder, MNT_FORCE);
	umount2(fuse.folder, MNT_DETACH);
	pthread_join(fuse.thread, NULL);
	close(fuse.device);
}
