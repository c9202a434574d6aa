/* SPDX-License-Identifier: Apache-2.0 */
/* A QEMU by its pidfd; see process.h. */
#include "broker/adapters/qemu/process.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELD_START 22 /* of /proc/PID/stat, proc(5) */

struct process {
	uv_poll_t poll;
	int fd;
	pid_t pid;
	unsigned long long start;
	void (*on_end)(void *arg);
	void *arg;
	void (*on_closed)(void *arg);
	void *closed_arg;
};

unsigned long long process_start_time(pid_t pid)
{
	char path[64], text[1024];
	unsigned long long start = 0;
	const char *at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	/* The name, in parentheses, may have anything in it. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < FIELD_START; field++)
		at = strchr(at + 1, ' ');
	if (at)
		start = strtoull(at, NULL, 10);
	return start;
}

/* A pidfd is readable once its process has ended, pidfd_open(2). */
static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct process *process = poll->data;

	uv_poll_stop(poll);
	process->start = 0;
	process->on_end(process->arg);
}

static void free_early(uv_handle_t *handle)
{
	free(handle->data);
}

static int watch(struct process *process, uv_loop_t *loop)
{
	int r = uv_poll_init(loop, &process->poll, process->fd);

	if (r) {
		free(process);
		return r;
	}
	process->poll.data = process;
	r = uv_poll_start(&process->poll, UV_READABLE, on_poll);
	if (r)
		uv_close((uv_handle_t *)&process->poll, free_early);
	return r;
}

int process_open(struct process **ret_process, uv_loop_t *loop, pid_t pid,
	void (*on_end)(void *arg), void *arg)
{
	struct process *process;
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	int r = pid > 0 ? -errno : -ESRCH;

	if (fd < 0)
		return r;
	process = calloc(1, sizeof(*process));
	if (!process) {
		close(fd);
		return -ENOMEM;
	}
	*process = (struct process){.fd = fd,
		.pid = pid,
		.start = process_start_time(pid),
		.on_end = on_end,
		.arg = arg};
	r = watch(process, loop);
	if (r) {
		close(fd);
		return r;
	}
	*ret_process = process;
	return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct process *process = handle->data;
	void (*closed)(void *arg) = process->on_closed;
	void *arg = process->closed_arg;

	close(process->fd);
	free(process);
	closed(arg);
}

struct process *process_close(struct process *process, void (*on_closed)(void *arg), void *arg)
{
	if (!process)
		return NULL;
	process->on_closed = on_closed;
	process->closed_arg = arg;
	uv_close((uv_handle_t *)&process->poll, on_handle_closed);
	return NULL;
}

bool process_is_alive(const struct process *process)
{
	struct pollfd poll_fd = {.events = POLLIN};

	if (!process)
		return false;
	poll_fd.fd = process->fd;
	return poll(&poll_fd, 1, 0) == 0;
}

int process_fd(const struct process *process)
{
	return process ? process->fd : -1;
}

bool process_is(const struct process *process, pid_t pid)
{
	return process && process->start && process->pid == pid && process_is_alive(process) &&
	       process_start_time(pid) == process->start;
}
