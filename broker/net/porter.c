/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/porter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "broker/log.h"
#include "broker/net/closer.h"
#include "broker/net/porter_door.h"
#include "vmsig/vmsig_error.h"

#define ANSWERS_PER_WAKE 16
#define BARRED_MAX 64
#define BARRED_MS 2000 /* after a descriptor that was no memfd; by then it is known to be stuck */
#define PARTING_MS 500 /* for a porter in which nothing is stuck */
#define PAUSE_MS 5

/* A uid that may send nothing: something of it is stuck, or may turn out to be. */
struct barred {
	uid_t uid;
	unsigned stuck;
	uint64_t until_ms;
};

struct porter {
	pid_t pid;
	int fd; /* -1: it is gone */
	uv_poll_t poll;
	bool open;
	struct closer *closer;
	uint64_t last_id;
	struct porter_request *requests;
	struct barred barred[BARRED_MAX];
	unsigned nbarred;
	void (*closed)(void *arg);
	void *closed_arg;
	struct porter_answer answer;
};

int porter_start(struct porter **ret_porter)
{
	struct porter *porter = calloc(1, sizeof(*porter));
	int fds[2], r = porter ? 0 : -ENOMEM;

	if (!r && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		r = -errno;
	if (r) {
		free(porter);
		return r;
	}
	porter->pid = fork();
	if (porter->pid == 0)
		porter_door(fds[1]);
	r = porter->pid < 0 ? -errno : 0;
	close(fds[1]);
	if (!r && fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (r) {
		close(fds[0]);
		free(porter);
		return r;
	}
	porter->fd = fds[0];
	*ret_porter = porter;
	return 0;
}

struct porter *porter_stop(struct porter *porter)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};

	if (!porter)
		return NULL;
	if (porter->fd >= 0)
		close(porter->fd);
	/* What is stuck in it ends with its owner's answer, and init reaps it. */
	for (int waited = 0; waited < PARTING_MS; waited += PAUSE_MS) {
		if (waitpid(porter->pid, NULL, WNOHANG) != 0)
			break;
		nanosleep(&pause, NULL);
	}
	free(porter);
	return NULL;
}

/* ---- who has something stuck in it ---- */

static bool is_over(const struct porter *porter, const struct barred *barred)
{
	return !barred->stuck && uv_now(porter->poll.loop) >= barred->until_ms;
}

/* Where the uid is, or nbarred. */
static unsigned barred_find(const struct porter *porter, uid_t uid)
{
	unsigned i = 0;

	while (i < porter->nbarred && porter->barred[i].uid != uid)
		i++;
	return i;
}

/* Its entry, or one that is free now; NULL: there are as many as can be. */
static struct barred *barred_take(struct porter *porter, uid_t uid)
{
	unsigned i = barred_find(porter, uid);

	if (i < porter->nbarred)
		return &porter->barred[i];
	for (i = 0; i < porter->nbarred && !is_over(porter, &porter->barred[i]); i++)
		;
	if (i == BARRED_MAX)
		return NULL;
	porter->nbarred += i == porter->nbarred;
	porter->barred[i] = (struct barred){.uid = uid};
	return &porter->barred[i];
}

static void note_foreign(struct porter *porter, uid_t uid)
{
	struct barred *barred = barred_take(porter, uid);

	if (barred)
		barred->until_ms = uv_now(porter->poll.loop) + BARRED_MS;
}

static void note_stuck(struct porter *porter, uid_t uid, unsigned count)
{
	struct barred *barred = barred_take(porter, uid);

	if (barred)
		barred->stuck = count;
	if (count)
		log_warning("descriptors that a client sent do not close; its uid may send none "
			    "meanwhile",
			LOG_INT("uid", uid), LOG_INT("count", count));
	else
		log_info("a client's descriptors are closed at last", LOG_INT("uid", uid));
}

bool porter_bars(const struct porter *porter, uid_t uid)
{
	unsigned i = barred_find(porter, uid);

	return i < porter->nbarred && !is_over(porter, &porter->barred[i]);
}

bool porter_serves(const struct porter *porter, uid_t uid)
{
	return porter && porter->open && porter->fd >= 0 && !porter_bars(porter, uid);
}

/* ---- requests ---- */

static void finish(
	struct porter *porter, struct porter_request *request, const struct porter_catch *catch)
{
	DL_DELETE(porter->requests, request);
	request->id = 0;
	request->done(request, catch);
}

static int send_order(struct porter *porter, struct porter_request *request)
{
	const struct porter_order order = {.id = request->id, .uid = request->uid};
	int r = porter_send(porter->fd, &order, sizeof(order), &request->socket, 1, MSG_DONTWAIT);

	request->sent = !r;
	return r;
}

/* Those that the kernel had no room for; it has after an answer. */
static void send_waiting(struct porter *porter)
{
	struct porter_request *request = porter->requests;

	while (request) {
		struct porter_request *next = request->next;
		int r = request->sent ? 0 : send_order(porter, request);

		if (r == -EAGAIN)
			return;
		if (r)
			finish(porter, request, &(struct porter_catch){.result = r});
		request = next;
	}
}

static void porter_lost(struct porter *porter)
{
	log_error("the process that receives bulk data has ended; there is none until the next "
		  "start");
	uv_poll_stop(&porter->poll);
	close(porter->fd);
	porter->fd = -1;
	while (porter->requests)
		finish(porter, porter->requests, &(struct porter_catch){.result = -EPIPE});
}

static void take_catch(
	struct porter *porter, const struct porter_answer *answer, const int *fds, size_t nfds)
{
	const struct porter_catch catch = {.result = answer->result,
		.foreign = answer->count,
		.data = answer->data,
		.len = answer->len,
		.fds = fds,
		.nfds = nfds};
	struct porter_request *request;

	if (answer->count)
		note_foreign(porter, answer->uid);
	DL_SEARCH_SCALAR(porter->requests, request, id, answer->id);
	if (request && !answer->result) {
		finish(porter, request, &catch);
		return;
	}
	for (size_t i = 0; i < nfds; i++)
		closer_give(porter->closer, fds[i], answer->uid);
	if (request)
		finish(porter, request,
			&(struct porter_catch){.result = answer->result, .foreign = answer->count});
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct porter *porter = poll->data;

	for (int i = 0; i < ANSWERS_PER_WAKE && porter->fd >= 0; i++) {
		struct porter_answer *answer = &porter->answer;
		int fds[PORTER_FDS_ROOM];
		size_t nfds = 0;
		bool cut = false;
		ssize_t n = porter_receive(porter->fd, answer, sizeof(*answer), fds, &nfds, &cut);

		if (n == -EAGAIN)
			break;
		if (n < (ssize_t)offsetof(struct porter_answer, data) ||
			answer->len > (size_t)n - offsetof(struct porter_answer, data)) {
			porter_lost(porter);
			return;
		}
		if (cut)
			answer->result = -EMFILE;
		if (answer->kind == PORTER_STUCK)
			note_stuck(porter, answer->uid, answer->count);
		else
			take_catch(porter, answer, fds, nfds);
	}
	if (porter->fd >= 0)
		send_waiting(porter);
}

void porter_ask(struct porter *porter, struct porter_request *request)
{
	request->id = ++porter->last_id;
	request->sent = false;
	DL_APPEND(porter->requests, request);
	send_waiting(porter);
}

void porter_cancel(struct porter *porter, struct porter_request *request)
{
	if (!request->id)
		return;
	DL_DELETE(porter->requests, request);
	request->id = 0;
}

/* ---- on the loop ---- */

int porter_open(struct porter *porter, uv_loop_t *loop, struct closer *closer)
{
	int r = uv_poll_init(loop, &porter->poll, porter->fd);

	if (r)
		return r;
	porter->closer = closer;
	porter->poll.data = porter;
	porter->open = true;
	return uv_poll_start(&porter->poll, UV_READABLE, on_poll);
}

static void on_closed(uv_handle_t *handle)
{
	struct porter *porter = handle->data;

	porter->closed(porter->closed_arg);
}

void porter_close(struct porter *porter, void (*closed)(void *arg), void *arg)
{
	porter->open = false;
	porter->closed = closed;
	porter->closed_arg = arg;
	uv_close((uv_handle_t *)&porter->poll, on_closed);
}
