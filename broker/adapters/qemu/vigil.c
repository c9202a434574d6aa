/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/qemu/vigil.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "broker/adapters/qemu/disposal.h"

#define PIECE 4096 /* bytes of events in one callback; some hundred */
#define DRAIN                                                                                      \
	16 /* pieces that the next look makes superfluous; what is left brings another one         \
	    */

/* Events are of a watch; the loss of some is of none. What ends a watch by itself is told by an
 * event of its own before (IN_DELETE_SELF, IN_UNMOUNT). */
static bool matters(struct vigil *vigil, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW) {
		vigil->overflows++;
		return true;
	}
	if (event->mask & IN_IGNORED)
		return false;
	if (event->wd == vigil->here)
		return !event->len || fnmatch(vigil->pattern, event->name, FNM_PERIOD) == 0;
	/* Of a watch that the look under way has just set, or of one that was. */
	if (event->wd != vigil->above)
		return true;
	return !event->len || strcmp(event->name, vigil->awaited) == 0;
}

/* False: there is nothing to read. The kernel hands out whole events only. */
static bool read_some(struct vigil *vigil, bool *ret_changed)
{
	union {
		struct inotify_event event;
		char bytes[PIECE];
	} piece;
	ssize_t n = read(vigil->fd, piece.bytes, sizeof(piece.bytes));

	*ret_changed = false;
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event =
			(const struct inotify_event *)(const void *)(piece.bytes + at);

		*ret_changed |= matters(vigil, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
	return n > 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct vigil *vigil = poll->data;
	bool changed;

	if (!read_some(vigil, &changed) || !changed)
		return;
	uv_poll_stop(poll);
	vigil->changed(vigil->arg);
}

int vigil_open(struct vigil *vigil, uv_loop_t *loop, const char *pattern,
	void (*changed)(void *arg), void *arg)
{
	int r;

	*vigil = (struct vigil){
		.here = -1, .above = -1, .pattern = pattern, .changed = changed, .arg = arg};
	vigil->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (vigil->fd < 0)
		return -errno;
	r = uv_poll_init(loop, &vigil->poll, vigil->fd);
	if (r) {
		close(vigil->fd);
		vigil->fd = -1;
		return r;
	}
	vigil->poll.data = vigil;
	return 0;
}

static void forget(const struct vigil *vigil, int watch, int here, int above)
{
	/* One that the kernel has ended is not there any more. */
	if (watch >= 0 && watch != here && watch != above)
		(void)!inotify_rm_watch(vigil->fd, watch);
}

void vigil_set(struct vigil *vigil, int here, int above, const char *awaited)
{
	if (vigil->fd < 0)
		return;
	forget(vigil, vigil->here, here, above);
	forget(vigil, vigil->above, here, above);
	vigil->here = here;
	vigil->above = above;
	snprintf(vigil->awaited, sizeof(vigil->awaited), "%s", awaited);
}

void vigil_wait(struct vigil *vigil)
{
	bool changed;

	for (int i = 0; vigil->fd >= 0 && i < DRAIN && read_some(vigil, &changed); i++)
		;
	if (vigil->fd >= 0)
		(void)uv_poll_start(&vigil->poll, UV_READABLE, on_poll);
}

static void on_closed(uv_handle_t *handle)
{
	struct vigil *vigil = handle->data;
	int *fd = malloc(sizeof(*fd));

	if (fd) {
		*fd = vigil->fd;
		disposal_start(fd, 1, vigil->line);
	} else {
		close(vigil->fd);
	}
	vigil->fd = -1;
	vigil->closed(vigil->arg);
}

void vigil_close(struct vigil *vigil, struct job_line *line, void (*closed)(void *arg))
{
	vigil->line = line;
	vigil->closed = closed;
	uv_close((uv_handle_t *)&vigil->poll, on_closed);
}
