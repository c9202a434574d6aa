/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_FOREIGN_H
#define TESTS_SUPPORT_FOREIGN_H

/*
 * Descriptors that nobody should have to close. Every function fails the test when the system
 * fails it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A TCP socket whose last close waits for FOREIGN_LINGER_S: its data is never taken. `*ret_peer`
 * stays open meanwhile. */
#define FOREIGN_LINGER_S 300
int foreign_lingering(int *ret_peer);
/* Lets the caller close one that nobody else has got. */
void foreign_calm(int fd);

/* A file system of this process, in a mount namespace of its own, with one file, whose FLUSH is
 * not answered to processes of the broker. False: it cannot be mounted here. One at a time. */
bool foreign_fuse_up(const char *folder);
int foreign_fuse_open(void);
/* How many of them wait for one. */
unsigned foreign_fuse_waiting(void);
void foreign_fuse_down(void);

/* Sends bytes and one descriptor. 0 or the errno. */
int foreign_send(int sock, const void *data, size_t len, int fd);

#endif
