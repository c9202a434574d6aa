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

/* One of those with that number, or NULL. */
static const struct glance_watch *find(const struct glance_watch *watches, size_t n, int wd)
{
	const struct glance_watch key = {.wd = wd};

	return n ? bsearch(&key, watches, n, sizeof(*watches), glance_watch_order) : NULL;
}

/* A folder that is mounted at several places may be one of several levels. */
static bool is_wanted(const struct vigil *vigil, const struct glance_watch *watch, const char *name)
{
	const struct glance_watch *end = vigil->watches + vigil->n;
	int wd = watch->wd;

	while (watch > vigil->watches && watch[-1].wd == wd)
		watch--;
	for (; watch < end && watch->wd == wd; watch++) {
		if (fnmatch(vigil->glob->levels[watch->level], name, FNM_PERIOD) == 0)
			return true;
	}
	return false;
}

/* Events are of a watch; the loss of some is of none. What ends a watch by itself is told by an
 * event of its own before (IN_DELETE_SELF, IN_UNMOUNT). */
static bool matters(struct vigil *vigil, const struct inotify_event *event)
{
	const struct glance_watch *watch;

	if (event->mask & IN_Q_OVERFLOW) {
		vigil->overflows++;
		return true;
	}
	if (event->mask & IN_IGNORED)
		return false;
	watch = find(vigil->watches, vigil->n, event->wd);
	if (watch)
		return !event->len || is_wanted(vigil, watch, event->name);
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

int vigil_open(struct vigil *vigil, uv_loop_t *loop, const struct globpath *glob,
	void (*changed)(void *arg), void *arg)
{
	int r;

	*vigil = (struct vigil){.above = -1, .glob = glob, .changed = changed, .arg = arg};
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

/* Those that the look has not set again. One that the kernel has ended may be among them. */
static size_t ended(const struct vigil *vigil, const struct glance *glance, int *wds)
{
	size_t n = 0, j = 0;

	for (size_t i = 0; i < vigil->n; i++) {
		int wd = vigil->watches[i].wd;

		while (j < glance->nwatches && glance->watches[j].wd < wd)
			j++;
		if ((j == glance->nwatches || glance->watches[j].wd != wd) && wd != glance->above &&
			(!n || wds[n - 1] != wd))
			wds[n++] = wd;
	}
	if (vigil->above >= 0 && vigil->above != glance->above &&
		!find(glance->watches, glance->nwatches, vigil->above))
		wds[n++] = vigil->above;
	return n;
}

void vigil_set(struct vigil *vigil, struct glance *glance, struct job_line *line)
{
	int *wds;

	if (vigil->fd < 0)
		return;
	wds = calloc(vigil->n + 1, sizeof(*wds));
	/* Without memory they go on, and raise events that bring about a look. */
	if (wds)
		disposal_watches(vigil->fd, wds, ended(vigil, glance, wds), line);
	free(vigil->watches);
	vigil->watches = glance->watches;
	vigil->n = glance->nwatches;
	glance->watches = NULL;
	glance->nwatches = 0;
	vigil->above = glance->above;
	snprintf(vigil->awaited, sizeof(vigil->awaited), "%s", glance->awaited);
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

	free(vigil->watches);
	vigil->watches = NULL;
	vigil->n = 0;
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
