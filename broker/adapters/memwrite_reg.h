/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_MEMWRITE_REG_H
#define BROKER_ADAPTERS_MEMWRITE_REG_H

/*
 * Registration of an endpoint's write path, through vmsig_emit.register_memwrite. An
 * endpoint without one refuses leases. All calls are made on the loop thread; none may block
 * it. They are valid until unregister_memwrite() has returned.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct vmsig_memwrite_reg {
	uint32_t endpoint;
	uint32_t source; /* VMSIG_SRC_MEMWRITE */
	void *ctx;       /* the adapter's own */

	/* A fresh O_RDWR descriptor of the RAM file that describe() speaks of, which the caller
	 * closes; -errno. Asked once for each context. */
	int (*share_writable)(void *ctx);

	/* Whether bytes may be changed right now: 0, or an error and a static sentence.
	 * VMSIG_ERR_BUSY: for a while (a migration runs, whose dirty log would not see them);
	 * VMSIG_ERR_NO_WRITE_PATH: not in this epoch any more (the guest has panicked). */
	int (*may_write)(void *ctx, const char **ret_why);

	/* Stops the vCPUs, if they run, for at most `bound_ms`; NULL when the adapter cannot.
	 * `done` is called exactly once, later, from the loop: 0: they stand still; an
	 * enum vmsig_error: they do not (TIMEOUT, GONE, UNSUPPORTED, BUSY). After 0 the caller
	 * calls resume(), and is_quiesced() turns false when the bound is over, because the
	 * adapter lets the guest go on by itself then, as it does when the session ends or the
	 * broker dies. One at a time: the next quiesce() comes after resume(). */
	void (*quiesce)(
		void *ctx, uint64_t bound_ms, void (*done)(void *arg, int error), void *arg);
	bool (*is_quiesced)(void *ctx);
	void (*resume)(void *ctx);
} vmsig_memwrite_reg;

#endif
