/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/rights.h"

#include <unistd.h>

#include "broker/net/closer.h"
#include "broker/net/passrights.h"
#include "proto/wire/chan.h"
#include "vmsig/vmsig_error.h"

void rights_listen(struct rights *rights, int fd)
{
	rights->kernel_refuses = passrights_set(fd, false) == 0;
}

void rights_close(struct rights *rights, int fd, uid_t uid)
{
	if (rights->kernel_refuses)
		close(fd);
	else
		closer_give(rights->closer, fd, uid);
}

static void dispose(void *ctx, int fd)
{
	struct right *right = ctx;

	if (right->holds)
		closer_give(right->rights->closer, fd, right->uid);
	else
		close(fd);
}

void right_begin(struct right *right, struct rights *rights, struct chan *chan, uid_t uid,
	void (*fetched)(struct right *right, int error, unsigned foreign))
{
	right->rights = rights;
	right->chan = chan;
	right->uid = uid;
	right->fetched = fetched;
	right->holds = !rights->kernel_refuses;
	if (right->holds)
		chan_look_for_fds(chan);
	chan_dispose(chan, dispose, right);
}

int right_update(struct right *right, bool wanted)
{
	bool may = wanted && porter_serves(right->rights->porter, right->uid);
	int r = 0;

	if (may == right->sends)
		return 0;
	if (may) {
		/* Before the kernel lets the first one in. What it has let in stays there when
		 * the right is taken away. */
		right->holds = right->fetches = true;
		chan_look_for_fds(right->chan);
	}
	if (right->rights->kernel_refuses)
		r = passrights_set(chan_socket(right->chan), may);
	right->sends = may && !r;
	return r;
}

/* ---- receiving ---- */

static void on_fetched(struct porter_request *request, const struct porter_catch *catch)
{
	struct right *right = request->data;
	int r = catch->result == VMSIG_ERR_WOULD_BLOCK ? 0 : catch->result;

	if (!r && catch->foreign)
		r = VMSIG_ERR_PROTOCOL;
	if (!r)
		r = chan_give(right->chan, catch->data, catch->len, catch->fds, catch->nfds);
	right->fetched(right, r, catch->foreign);
}

int right_fetch(struct right *right, const char **ret_why)
{
	struct porter *porter = right->rights->porter;

	if (!right->fetches || !porter) {
		*ret_why = "the peer sent descriptors, which it may not";
		return VMSIG_ERR_PROTOCOL;
	}
	/* Of a client with many connections each could have a message under way. */
	if (porter_bars(porter, right->uid)) {
		*ret_why = "descriptors that this uid has sent are no memfds, or do not close; "
			   "none is taken from it meanwhile";
		return VMSIG_ERR_PROTOCOL;
	}
	if (chan_pending_fds(right->chan) >= CHAN_FDS_OF_CLIENT) {
		*ret_why = "the peer sent more descriptors than one message may have";
		return VMSIG_ERR_PROTOCOL;
	}
	right->request.done = on_fetched;
	right->request.data = right;
	right->request.socket = chan_socket(right->chan);
	right->request.uid = right->uid;
	porter_ask(porter, &right->request);
	return 0;
}

bool right_fetching(const struct right *right)
{
	return right->request.id != 0;
}

void right_end(struct right *right)
{
	if (right->rights && right->rights->porter)
		porter_cancel(right->rights->porter, &right->request);
}
