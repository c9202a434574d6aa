/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_SERVICES_H
#define BROKER_PLANES_SERVICES_H

/*
 * What the planes translate messages for: the broker's two machines, and who reads its audit log.
 * conn_user() is the struct services.
 *
 *   ctx.h         the read plane: ctx.sock, for sensors and operators
 *   write.h       the write plane: write.sock, for operators
 *   admin.h       the admin plane: admin.sock, for administrators
 *   dialect.h     what they do alike: Hello, errors, what may come when
 *   lease_info.h  leases as write and admin tell of them
 *   steward.h     what administrators have the shell do
 */

struct auditor;
struct core;
struct desk;

struct services {
	struct core *read;
	struct desk *write;                      /* NULL: nothing can be recorded at the moment; */
	const char *(*write_missing)(void *ctx); /* why, for clients */
	void *ctx;
	struct auditor *audit; /* reads the audit log */
};

#endif
