/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_ADAPTER_H
#define BROKER_ADAPTERS_ADAPTER_H

/*
 * An adapter turns one source of guest memory into an endpoint: it registers through the
 * seam (vmsig_emit), bootstraps when the core asks, and reports what happens to the guest.
 * It lives on the loop thread; what takes time or waits for a file system is a job.
 *
 *   adapter       what an adapter is to the shell
 *   publisher     what it tells the core and the log
 *   errand        a job that it may lose interest in
 *   memwrite_reg  its guest's write path, as the core has it
 *   passage       its guest's way between hosts
 *   memfiles_reg  its guest's RAM files, likewise
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/config/config.h"
#include "vmsig/vmsig_event.h"

struct adapter;
struct claims;
struct guardian;
struct jobs;
struct offer;
struct passage;
struct shares;

struct adapter_env {
	uv_loop_t *loop;
	struct shares *shares; /* of the loop's time; what a guest or QEMU decides is its task */
	const vmsig_emit *emit;
	uint32_t endpoint;                    /* id, already added to the core */
	const struct config_endpoint *config; /* outlives the adapter */
	struct jobs *jobs;                    /* for what waits: each endpoint has a line there */
	struct claims *claims;                /* who has which RAM file */
	struct offer *offer;                  /* of a provider, with the config in it; or NULL */
	struct guardian *guardian;            /* NULL: vCPUs may not be stopped */
	const struct passage *passage;        /* NULL: nobody wants to know; outlives the adapter */
};

typedef void (*adapter_stopped_fn)(void *arg);

struct adapter_ops {
	const char *name;
	/* Starts; what can come later (a QEMU that is not there yet) is no error. `error` gets a
	 * sentence. 0, positive enum vmsig_error, -errno. */
	int (*start)(struct adapter **ret_adapter, const struct adapter_env *env, char *error,
		size_t error_size);
	/* The broker is about to end, and stop() follows: leaves to the next one what proves that
	 * the guest is still in the same session. NULL: there is no such thing. */
	void (*leave)(struct adapter *adapter);
	/* Unregisters at once; calls `stopped` from the loop when every handle is closed. Jobs
	 * that run are not waited for: they may hang. */
	void (*stop)(struct adapter *adapter, adapter_stopped_fn stopped, void *arg);
	/* For the guardian (qemu/guardian.h): has a guest go on that has no QMP socket. NULL: they
	 * all have one. */
	bool (*rescue)(const char *ward, int process);
};

/* Every adapter embeds this first. */
struct adapter {
	const struct adapter_ops *ops;
};

extern const struct adapter_ops adapter_file;
extern const struct adapter_ops adapter_provider; /* needs an offer */
extern const struct adapter_ops adapter_qemu;
extern const struct adapter_ops adapter_libvirt;

#endif
