/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PASSRIGHTS_H
#define BROKER_NET_PASSRIGHTS_H

/*
 * Whether the peer of a local socket may send descriptors. A kernel before Linux 6.16 cannot
 * refuse them.
 */

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* asm-generic/socket.h */
#endif

/* 0 or -errno. What a listener has, its connections have. */
__attribute__((warn_unused_result)) static inline int passrights_set(int fd, bool may)
{
	int on = may;

	return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &on, sizeof(on)) < 0 ? -errno : 0;
}

#endif
