/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_TRANSPORT_H
#define BROKER_ADAPTERS_QEMU_TRANSPORT_H

/*
 * How to talk to a QEMU that has no QMP socket for us. A transport gives the adapter a connected
 * socket, at whose other end somebody speaks QMP as QEMU does, greeting and order of events and
 * replies included; so there is one QMP client, with one set of bounds, and one adapter.
 *
 * What a socket of QEMU's tells by itself, who is at the other end, the transport has to vouch for:
 * from before QMP_READY until the socket ends, everything comes from the process pid() alone.
 */

#include <stddef.h>
#include <sys/types.h>

#include "broker/adapters/adapter.h"

struct transport_line;

struct transport {
	const char *name; /* what it is, for sentences */
	/* What to tell somebody whose guest's RAM is not shared. */
	const char *ram_advice;
	/* Why nobody greets. */
	const char *mute;
	/* Makes a connection, of which the caller owns `*ret_socket`; whatever takes time, and
	 * fails, does so later, at the other end. -errno. */
	int (*open)(struct transport_line **ret_line, int *ret_socket,
		const struct config_endpoint *config);
	/* QEMU; asked for when QMP is ready. 0: it is not known yet. */
	pid_t (*pid)(const struct transport_line *line);
	/* Why the socket ended, a sentence; "": it does not know better. */
	void (*why)(const struct transport_line *line, char *why, size_t why_size);
	/* Which guest it is to adapter_ops.rescue(), should we die while we have it stopped.
	 * -errno. */
	int (*ward)(const struct transport_line *line, char *ward, size_t size);
	/* Never waits. Returns NULL. */
	struct transport_line *(*close)(struct transport_line *line);
};

/* adapter_ops.start of an adapter that is QEMU's but for the transport (NULL: QMP sockets). */
__attribute__((warn_unused_result)) int qemu_start_over(struct adapter **ret_adapter,
	const struct adapter_env *env, const struct adapter_ops *ops,
	const struct transport *transport, char *error, size_t error_size);
/* adapter_ops.stop of it. */
void qemu_stop(struct adapter *adapter, adapter_stopped_fn stopped, void *arg);

#endif
