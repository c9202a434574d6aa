/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_STEWARD_H
#define BROKER_PLANES_STEWARD_H

/*
 * What administrators have the shell do: a table of calls that it binds, since a plane does not
 * know it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/policy/selector.h"
#include "broker/policy/tenant.h"
#include "vmsig/vmsig_memctx.h"

struct atlas;          /* fleet/atlas.h */
struct compare_result; /* config/compare.h */
struct metrics;        /* metrics/metrics.h */

/* One who waits for a reload; embedded in what the asker has. */
struct steward_reload {
	/* It is over. 0: it holds, and `changes` is what changed; else `text` says what is wrong,
	 * and where. All of it is borrowed for the call, which comes once:
	 * VMSIG_ERR_SHUTTING_DOWN when the broker has ended before. */
	void (*done)(struct steward_reload *asked, int error, const char *text,
		const struct compare_result *changes);
	struct steward_reload *prev, *next;
	bool is_served; /* by the reload that runs, and not by the one after it */
};

/* One who waits for all guests of the fleet; embedded in what the asker has. */
struct steward_survey {
	/* They are known: fleet_atlas() has them until fleet_forget(), for the asker's next turn.
	 * Else etcd could not be asked, and nothing has to be forgotten; also after they were
	 * known, when this host leaves the fleet. Perhaps before fleet_survey() returns. */
	void (*done)(struct steward_survey *asked, bool known);
	struct steward_survey **list; /* that it is in; NULL: none */
	struct steward_survey *prev, *next;
};

#define STEWARD_WARNINGS_MAX 16u

struct steward_status {
	const char *config; /* borrowed, as are all texts, until the loop's next turn */
	uint64_t uptime_ms;
	uint32_t tenants;
	uint64_t reloads, reload_ms; /* ago */
	const char *reload_error;    /* of the last one; "": none */
	const char *warnings[STEWARD_WARNINGS_MAX];
	size_t nwarnings;
};

/* One who provides guests, by one connection; embedded in what that has. */
struct steward_provider {
	/* One that it asked for is served, or why not: positive enum vmsig_error or -errno, with
	 * a sentence or NULL. `resumed`: it was there already. */
	void (*answer)(struct steward_provider *who, uint64_t request_id, const char *name,
		int error, const char *why, bool resumed);
};

/* Where the kernel of a guest is. */
struct steward_kernel {
	const char *name;
	uint64_t kcr3;
	uint32_t levels; /* 0: to be found */
};

/* A guest that shall be served, as its provider describes it: nothing of it is checked. */
struct steward_wish {
	const struct tenant *tenant;
	uid_t uid;
	struct steward_kernel kernel;
	uint64_t low; /* bytes; or: */
	const vmsig_memseg *segs;
	size_t nseg;
	bool writable;
	const int *fds; /* of RAM, which are taken over in any case */
	size_t nfds;
};

/* The fleet as this host has it; texts are borrowed until the next call. */
struct steward_fleet {
	const char *name, *host, *etcd, *version;
	const char *problem; /* NULL: none */
};
struct steward_guest {
	const char *uuid, *state, *holder, *target;
	uint32_t epoch;
	uint64_t token, right_ms;
};

/* Identities of the clusters that the fleet trusts before a bump, and with it, and why it was
 * frozen: a sentence, that is static. */
struct steward_bump {
	uint64_t old, new;
	const char *why;
};

/* Something that was discovered and is no endpoint. All of it is borrowed. */
struct steward_unserved {
	struct selector_subject subject; /* what the policy would have selected it by */
	const char *origin;              /* as endpoint_origin() */
	const char *place;               /* a file or a UUID */
	const char *why;                 /* a sentence, with what to do */
};

typedef void (*steward_unserved_fn)(void *arg, const struct steward_unserved *one);

struct steward_ops {
	/* VMSIG_ERR_UNSUPPORTED: this host is alone. */
	int (*fleet)(void *ctx, struct steward_fleet *ret_fleet);
	/* False: the endpoint is none of the fleet's. */
	bool (*fleet_guest)(void *ctx, uint32_t endpoint, struct steward_guest *ret_guest);
	/* All that etcd has; this host is in a fleet. */
	void (*fleet_survey)(void *ctx, struct steward_survey *asked);
	/* What it has asked for, or what was read since; borrowed until the loop's next turn. NULL:
	 * it is not known. */
	const struct atlas *(*fleet_atlas)(void *ctx, const struct steward_survey *asked);
	/* It is not waited for, or not wanted, any more. */
	void (*fleet_forget)(void *ctx, struct steward_survey *asked);
	/* As fleet(); VMSIG_ERR_BAD_REQUEST: nothing is frozen; _NOT_READY, _BUSY. */
	int (*fleet_bump)(void *ctx, struct steward_bump *ret_bump);
	void (*reload)(void *ctx, struct steward_reload *asked);
	/* An element of the configuration's `endpoints`, which may() has to allow. `error` gets a
	 * sentence. VMSIG_ERR_BAD_REQUEST, _FORBIDDEN, _QUOTA, -errno. */
	int (*endpoint_add)(void *ctx, const char *yaml,
		bool (*may)(void *who, const struct selector_subject *endpoint), void *who,
		char *error, size_t error_size);
	/* VMSIG_ERR_NO_SUCH_ENDPOINT; _BAD_REQUEST: its origin is not "added". */
	int (*endpoint_remove)(void *ctx, const char *name);
	/* "config", "added", or how it comes and goes by itself; NULL: it ends. */
	const char *(*endpoint_origin)(void *ctx, const char *name);
	/* Its guest's, as it is configured; NULL: it is not. */
	const char *(*endpoint_uuid)(void *ctx, const char *name);
	void (*unserved)(void *ctx, steward_unserved_fn each, void *arg);
	/* VMSIG_ERR_NO_SUCH_ENDPOINT. */
	int (*endpoint_invalidate)(void *ctx, const char *name);
	/* Is answered, now or later. */
	void (*provide)(void *ctx, const struct steward_wish *wish, struct steward_provider *who,
		uint64_t request_id);
	/* VMSIG_ERR_NO_SUCH_ENDPOINT: this connection provides none of the name;
	 * _BAD_REQUEST: there can be no such kernel. */
	int (*provide_invalidate)(
		void *ctx, const struct steward_provider *who, const struct steward_kernel *kernel);
	int (*provide_end)(void *ctx, const struct steward_provider *who, const char *name);
	/* Those that wait for a provider to come back end: of the tenant (NULL: any) and uid. How
	 * many. */
	uint32_t (*providers_cut)(void *ctx, const char *tenant, const uid_t *uid);
	/* Its connection has ended. */
	void (*provider_left)(void *ctx, const struct steward_provider *who, bool may_come_back);
	void (*status)(void *ctx, struct steward_status *ret_status);
	void (*stats)(void *ctx, struct metrics *metrics);
};

#endif
