/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clients/common/exits.h"
#include "clients/common/failure.h"
#include "clients/common/moment.h"
#include "clients/shim/shim.h"

/* ---- signals ---- */

/* What is ignored stays so, as under nohup(1). */
static int signals_open(struct shim_session *session)
{
	static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP};
	struct sigaction action;

	sigemptyset(&session->signals);
	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
		if (sigaction(taken[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(&session->signals, taken[i]);
	}
	/* A pipe that nobody reads is an error of the write. */
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &session->signals, NULL) < 0)
		return -errno;
	session->fd = signalfd(-1, &session->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return session->fd < 0 ? -errno : 0;
}

static void signals_take(struct shim_session *session)
{
	struct signalfd_siginfo info;

	while (read(session->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGINT:
			session->interrupted = true;
			break;
		case SIGWINCH:
			session->resized = true;
			break;
		case SIGTSTP:
			session->suspended = true;
			break;
		default:
			session->ends = (int)info.ssi_signo;
			break;
		}
	}
}

bool shim_session_is_stopped(const struct shim_session *session)
{
	return session->interrupted || session->ends;
}

int shim_session_stop(struct shim *shim)
{
	return shim_output_interrupted(
		&shim->output, shim->session.ends ? shim->session.ends : SIGINT);
}

/* ---- the connections ---- */

static void plane_up(struct shim *shim, struct shim_plane *plane)
{
	plane->up = true;
	if (plane->error)
		shim_output_news(&shim->output, "connected", 0,
			"the broker's %s plane is there again", plane->name);
	plane->error = 0;
}

static void plane_down(struct shim *shim, struct shim_plane *plane, int error, const char *why)
{
	bool was_up = plane->up;

	plane->up = false;
	plane->error = error ? error : -VMSIG_ERR_DISCONNECTED;
	snprintf(plane->why, sizeof(plane->why), "%s", why[0] ? why : vmsig_error_text(error));
	if (was_up)
		shim_output_news(&shim->output, "disconnected", error,
			"the broker's %s plane is gone, trying again: %s", plane->name, plane->why);
}

static void read_plane_step(struct shim *shim)
{
	struct shim_session *session = &shim->session;
	vmsig_delivery delivery = VMSIG_DELIVERY_INIT;

	/* With reconnection it only fails for want of memory, and goes on later. */
	(void)!vmsig_process(session->ctx);
	while (vmsig_next(session->ctx, &delivery) == 0) {
		if (delivery.event.kind == VMSIG_EV_CONNECTED)
			plane_up(shim, &session->read);
		else if (delivery.event.kind == VMSIG_EV_DISCONNECTED)
			plane_down(shim, &session->read, delivery.error,
				vmsig_delivery_text(&delivery));
		else
			session->ops->delivery(shim, &delivery);
		vmsig_delivery_clear(&delivery);
	}
}

static void write_plane_step(struct shim *shim)
{
	struct shim_session *session = &shim->session;
	vmsig_writer_event event;

	(void)!vmsig_writer_process(session->writer);
	while (vmsig_writer_next(session->writer, &event) == 0) {
		if (event.kind == VMSIG_WEV_CONNECTED)
			plane_up(shim, &session->write);
		else if (event.kind == VMSIG_WEV_DISCONNECTED)
			plane_down(shim, &session->write, event.error, event.text);
		else
			session->ops->event(shim, &event);
	}
}

/* ---- waiting ---- */

static int64_t earlier(int64_t until, int64_t deadline)
{
	return deadline >= 0 && deadline < until ? deadline : until;
}

bool shim_session_step(struct shim *shim, int fd, int64_t until)
{
	struct shim_session *session = &shim->session;
	struct pollfd pfds[] = {{.fd = fd, .events = POLLIN}, {.fd = session->fd, .events = POLLIN},
		{.fd = vmsig_fd(session->ctx), .events = vmsig_poll_events(session->ctx)},
		{.fd = vmsig_writer_fd(session->writer),
			.events = vmsig_writer_poll_events(session->writer)}};
	struct timespec buf;

	until = earlier(until, vmsig_deadline(session->ctx));
	until = earlier(until, vmsig_writer_deadline(session->writer));
	if (ppoll(pfds, sizeof(pfds) / sizeof(pfds[0]), moment_left(until, &buf), NULL) < 0)
		pfds[0].revents = 0;
	signals_take(session);
	read_plane_step(shim);
	write_plane_step(shim);
	return pfds[0].revents != 0;
}

/* ---- opening ---- */

static int connect_fail(struct shim *shim, int error, const char *socket, const char *why)
{
	return shim_output_fail(&shim->output,
		error == -VMSIG_ERR_UNAUTHENTICATED ? error : VMSIG_ERR_DISCONNECTED,
		"cannot connect to %s: %s", socket, failure_why(socket, why));
}

static int planes_open(struct shim *shim)
{
	const struct shim_options *options = &shim->options;
	struct shim_session *session = &shim->session;
	char error[VMSIG_DETAIL_MAX + 1] = "";
	int r;

	r = vmsig_open(&session->ctx,
		&(vmsig_options){
			.socket_path = options->ctx_socket, .identity_dir = options->identity},
		error, sizeof(error));
	if (!r)
		r = vmsig_writer_open(&session->writer,
			&(vmsig_options){.socket_path = options->write_socket,
				.identity_dir = options->identity},
			error, sizeof(error));
	return r ? shim_output_fail_with(&shim->output, VMSIG_ERR_UNAUTHENTICATED,
			   "--identity or VMSIG_IDENTITY names a folder with key.pem, cert.pem and "
			   "ca.pem",
			   "%s", error)
		 : EXIT_OK;
}

static int planes_await(struct shim *shim)
{
	struct shim_session *session = &shim->session;

	while (!session->read.up || !session->write.up) {
		shim_session_step(shim, -1, MOMENT_NEVER);
		if (shim_session_is_stopped(session))
			return shim_session_stop(shim);
		if (session->read.error)
			return connect_fail(shim, session->read.error, shim->options.ctx_socket,
				session->read.why);
		if (session->write.error)
			return connect_fail(shim, session->write.error, shim->options.write_socket,
				session->write.why);
	}
	return EXIT_OK;
}

int shim_session_open(struct shim *shim, const struct shim_session_ops *ops)
{
	struct shim_session *session = &shim->session;
	int status, r = signals_open(session);

	if (r)
		return shim_output_fail(
			&shim->output, VMSIG_ERR_IO, "cannot take signals: %s", strerror(-r));
	session->ops = ops;
	session->read.name = "read";
	session->write.name = "write";
	status = planes_open(shim);
	if (!status)
		status = planes_await(shim);
	if (status)
		return status;
	r = vmsig_subscribe_wait(session->ctx, shim->options.endpoint, -1);
	return r ? shim_output_fail(&shim->output, r, "%s: %s", shim->options.endpoint,
			   vmsig_last_error(session->ctx))
		 : EXIT_OK;
}

void shim_session_close(struct shim *shim)
{
	struct shim_session *session = &shim->session;

	session->ctx = vmsig_close(session->ctx);
	session->writer = vmsig_writer_close(session->writer);
	if (session->fd >= 0)
		close(session->fd);
	session->fd = -1;
}
