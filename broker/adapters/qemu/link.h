/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_LINK_H
#define BROKER_ADAPTERS_QEMU_LINK_H

/*
 * One QMP connection on the loop: socket, time-outs, and QEMU's pid. It ends exactly once,
 * with on_down() and a reason; link_open() starts the next one.
 *
 * A QEMU that does not answer keeps its connection: on_silent(), and on_voice() when it speaks
 * again. In between link_ready() is false. Nothing that it said is lost meanwhile, neither is its
 * order, and its backlog does not fill with connections that nobody waits at any more.
 *
 * What QEMU sends is its own share's work, a few messages in a piece, and nothing is read
 * before the last of it is done: whoever floods, waits.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "broker/adapters/qemu/qmp.h"

struct link_conn;
struct share;

struct link {
	uv_loop_t *loop;
	struct share *share; /* who pays for what QEMU sends; borrowed */
	const char *path;    /* of the socket, for sentences */
	uint64_t timeout_ms;
	size_t max_message;     /* bytes of what QEMU says at once; 0: as qmp.h has it */
	struct link_conn *conn; /* NULL: none */
	unsigned closing;       /* connections whose handles are not closed yet */
	void *arg;
	void (*on_ready)(void *arg, pid_t pid);
	void (*on_message)(void *arg, struct qmp_message *message);
	void (*on_silent)(void *arg, const char *reason);
	void (*on_voice)(void *arg); /* of one that was ready when it fell silent */
	void (*on_down)(void *arg, const char *reason);
	void (*on_closed)(void *arg); /* closing has become 0 */
};

/* Starts to connect to the socket that `place` is, an O_PATH descriptor; takes it over. What goes
 * wrong comes through on_down(), never inside of this call. -ENOMEM. */
__attribute__((warn_unused_result)) int link_open(struct link *link, int place);
/* Goes on with a connection that a former broker has left, `fd`, whose socket `place` is; both are
 * taken over. Otherwise as link_open(). */
__attribute__((warn_unused_result)) int link_resume(struct link *link, int place, int fd);
/* Acts now on what was read and waits for its turn, for who leaves: link_settle() comes next. The
 * callbacks may end the connection. */
void link_hurry(struct link *link);
/* Whether nothing is under way in either direction, so that another can go on from here as long as
 * nothing more is read: which it is not, from here on. */
__attribute__((warn_unused_result)) bool link_settle(struct link *link);
/* The same with a socket that is connected already, to somebody who speaks QMP for QEMU; takes it
 * over. -errno. */
__attribute__((warn_unused_result)) int link_attach(struct link *link, int socket);
/* The socket file of a connection by descriptor, borrowed; -1: there is none. */
int link_place(const struct link *link);
/* Ends the connection without on_down(). */
void link_close(struct link *link);
/* Whether commands can be sent and are likely to be answered. */
bool link_ready(const struct link *link);
/* The socket of a connection, whose other end is QEMU; -1: there is none. */
int link_fd(const struct link *link);
/* 0 or as qmp_command(); the reference of arguments is taken. */
__attribute__((warn_unused_result)) int link_command(
	struct link *link, const char *name, json_t *arguments, uint64_t *ret_id);

#endif
