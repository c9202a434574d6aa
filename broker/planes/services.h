/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_SERVICES_H
#define BROKER_PLANES_SERVICES_H

/*
 * What the planes translate messages for: the broker's two machines, and who reads its audit log.
 * conn_user() is the struct services.
 *
 *   ctx.h         the read plane: ctx.sock, for sensors and operators
 *   unsaid.h      contexts that nobody says to have taken
 *   write.h       the write plane: write.sock, for operators
 *   admin.h       the admin plane: admin.sock, for administrators
 *   admin_client.h  one of them
 *   roster.c      who is connected
 *   hosting.c     endpoints, as administrators see them
 *   report.c      how the broker does
 *   renew.c       a reload that is asked for
 *   bump.c        the fleet, as administrators ask about it
 *   provide.c     guests that providers offer
 *   convoy.h      the fleet that this host is in, for all who may ask
 *   dialect.h     what they do alike: Hello, errors, what may come when
 *   lease_info.h  leases as write and admin tell of them
 *   steward.h     what administrators have the shell do
 */

#include "broker/metrics/metrics.h"
#include "broker/planes/unsaid.h"

struct auditor;
struct core;
struct desk;
struct steward_ops;

/* What the planes count themselves. */
struct services_counts {
	struct metrics_errors refusals; /* requests that were answered with an error */
	/* From request to answer, or first context; `context`: from handing one out until its
	 * holder has acknowledged it, if it does; `bulk`: writes of data in a memfd, which `write`
	 * lacks. */
	struct histogram subscribe, context, lease, write, bulk, admin;
};

struct services {
	struct core *read;
	struct desk *write;                      /* NULL: nothing can be recorded at the moment; */
	const char *(*write_missing)(void *ctx); /* why, for clients */
	void *ctx;
	struct auditor *audit;             /* reads the audit log */
	const struct steward_ops *steward; /* with `ctx` */
	struct services_counts counts;
	struct unsaid unsaid; /* of ctx.sock */
};

#endif
