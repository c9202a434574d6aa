/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_GDB_LINK_H
#define CLIENTS_CTL_GDB_LINK_H

/*
 * The way between gdb and us: standard input and output, which gdb makes a pipe of, or a socket in
 * a folder (AF_UNIX), to which one gdb after another comes. Whoever gets through it reads the
 * guest's memory as we may: the socket is for its owner alone, by its mode and by what the kernel
 * says of who connects. TCP, which knows no users, is not spoken.
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct ctl_gdb_link {
	const char *path; /* NULL: standard input and output */
	int listening;    /* -1: there is no socket */
	int fd;           /* of the gdb that is there, -1: none; by a socket only */
	sigset_t before;  /* signals that were blocked before */
};

/* `path` is borrowed, and the file made anew. EXIT_OK, or the exit code after a message; then there
 * is nothing to close. From here on signals that end programs end what waits below instead. */
int ctl_gdb_link_open(struct ctl_gdb_link *link, const char *path);
/* Waits for the next gdb; who is somebody else's is sent away. False: we were told to end. */
bool ctl_gdb_link_next(struct ctl_gdb_link *link);
/* That gdb has what it asked for. */
void ctl_gdb_link_drop(struct ctl_gdb_link *link);
/* Waits for what gdb says; at most `size` bytes. EXIT_OK with *ret_len 0: it has gone, or we were
 * told to end; or the exit code after a message. */
int ctl_gdb_link_take(
	const struct ctl_gdb_link *link, unsigned char *buf, size_t size, size_t *ret_len);
/* EXIT_OK, or the exit code; a gdb that has gone is no failure where another one may come. */
int ctl_gdb_link_put(const struct ctl_gdb_link *link, const char *bytes, size_t len);
/* The socket goes with it. */
void ctl_gdb_link_close(struct ctl_gdb_link *link);

#endif
