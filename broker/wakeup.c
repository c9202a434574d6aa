/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/wakeup.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct wakeup *wakeup = poll->data;
	uint64_t count;

	/* Nothing but its own counter can be in it, and losing that loses nothing. */
	(void)!read(wakeup->fd, &count, sizeof(count));
	/* Who sends from here on writes again. */
	(void)atomic_exchange(&wakeup->sent, false);
	wakeup->woken(wakeup->arg);
}

int wakeup_init(struct wakeup *wakeup, uv_loop_t *loop, void (*woken)(void *arg), void *arg)
{
	int r;

	*wakeup = (struct wakeup){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .woken = woken, .arg = arg};
	if (wakeup->fd < 0)
		return -errno;
	r = uv_poll_init(loop, &wakeup->poll, wakeup->fd);
	if (r) {
		close(wakeup->fd);
		wakeup->fd = -1;
		return r;
	}
	wakeup->poll.data = wakeup;
	(void)uv_poll_start(&wakeup->poll, UV_READABLE, on_poll); /* fails for a closing handle */
	return 0;
}

void wakeup_send(struct wakeup *wakeup)
{
	const uint64_t one = 1;

	if (!atomic_exchange(&wakeup->sent, true))
		(void)!write(wakeup->fd, &one, sizeof(one));
}

static void on_closed(uv_handle_t *handle)
{
	struct wakeup *wakeup = handle->data;

	close(wakeup->fd);
	wakeup->fd = -1;
	if (wakeup->closed)
		wakeup->closed(wakeup->arg);
}

void wakeup_close(struct wakeup *wakeup, void (*closed)(void *arg))
{
	wakeup->closed = closed;
	/* The loop knows the descriptor until then: its number must not be another one's. */
	uv_close((uv_handle_t *)&wakeup->poll, on_closed);
}
