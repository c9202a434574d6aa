/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PORTER_DOOR_H
#define BROKER_NET_PORTER_DOOR_H

/*
 * The porter's own process, and what passes between it and the broker: datagrams of a
 * SOCK_SEQPACKET pair, in this process's memory layout.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PORTER_FDS_ROOM 253u /* of one message: the kernel's SCM_MAX_FD */
#define PORTER_FDS_MAX 16u   /* let through of one message; more are a client's lie */
#define PORTER_BYTES 32768u  /* of one message */

/* With the client's socket beside it: receive one message. */
struct porter_order {
	uint64_t id;
	uid_t uid;
	uint32_t unused; /* 0: padding would carry what was on the stack to another process */
};

enum porter_kind { PORTER_RECEIVED, PORTER_STUCK };

/* RECEIVED: the memfds are beside it. STUCK: so many of the uid's descriptors do not close. */
struct porter_answer {
	uint32_t kind;
	int32_t result;
	uint64_t id;
	uid_t uid;
	uint32_t count; /* RECEIVED: descriptors that were kept */
	uint32_t len;   /* of data; it ends with the last of them */
	uint8_t data[PORTER_BYTES];
};

/* The porter's life. Closes every descriptor but `fd`. */
__attribute__((noreturn)) void porter_door(int fd);

/* One message. 0 or -errno. */
__attribute__((warn_unused_result)) int porter_send(
	int fd, const void *data, size_t len, const int *fds, size_t nfds, int flags);
/* One message, with what it brings, into room for PORTER_FDS_ROOM. *ret_cut: there was no
 * descriptor free here for all of it. Bytes, 0 at the end, -errno; never waits. */
__attribute__((warn_unused_result)) ssize_t porter_receive(
	int fd, void *data, size_t size, int *fds, size_t *ret_nfds, bool *ret_cut);

#endif
