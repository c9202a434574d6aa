/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_KEPT_H
#define BROKER_ADAPTERS_QEMU_KEPT_H

/*
 * Connections to QEMU that the service manager keeps from one broker to the next: each is known by
 * the socket file that it was made at, as what lies at its path by then may be another QEMU's. As
 * long as one is kept nobody else gets through to that QEMU.
 */

#include "broker/manager.h"

#define KEPT_KIND "qmp" /* in manager.h's names */

struct kept_name {
	char name[MANAGER_NAME_MAX];
};

/* Has the next broker find the connection of `endpoint`; `place` is the socket file. -errno. */
__attribute__((warn_unused_result)) int kept_leave(const char *endpoint, int place, int fd);
/* The connection that an earlier broker has left of this socket file, the caller's, whichever
 * endpoint it was of; or -errno, mostly -ENOENT. */
__attribute__((warn_unused_result)) int kept_take(struct kept_name *ret_kept, int place);
/* Takes over what kept_take() gave, for who takes it next. */
void kept_return(const struct kept_name *kept, int fd);
/* Lets go of all that are left of an endpoint. */
void kept_drop(const char *endpoint);

#endif
