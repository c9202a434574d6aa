/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_PLANES_ADMIN_CLIENT_H
#define BROKER_PLANES_ADMIN_CLIENT_H

/*
 * One administrator's connection, for the files that handle its requests:
 *
 *   admin.c    leases, the audit log; the plane
 *   roster.c   who is connected, and is to be no more
 *   hosting.c  endpoints
 *   report.c   how the broker does
 *   renew.c    the configuration, read again
 *   provide.c  guests of providers
 *   bump.c     the fleet that this host is in
 */

#include <stdbool.h>
#include <stddef.h>

#include "broker/planes/convoy.h"
#include "broker/planes/dialect.h"
#include "broker/planes/services.h"
#include "broker/planes/steward.h"
#include "broker/policy/account.h"
#include "broker/write/desk.h"

struct audit_asked;
struct renew_asked;
struct revoke_asked;

/* Requests without an answer that a connection pays for. */
enum admin_slot { ADMIN_QUESTIONS, ADMIN_REVOCATIONS, ADMIN_RELOADS };

struct admin_client {
	struct plane_client base;
	const struct services *services;
	struct desk *desk;      /* NULL: there is none at the moment */
	struct account account; /* enum admin_slot */
	struct audit_asked *asked;
	struct revoke_asked *revokes;
	struct renew_asked *renewals;
	struct convoy convoy;
	struct steward_provider provider;
};

#define PROVIDER_CLIENT(who)                                                                       \
	((struct admin_client *)(void *)((char *)(who)-offsetof(struct admin_client, provider)))

/* Who asks, for a refusal. */
struct account_actor admin_actor(const struct admin_client *client);
/* Whether it may know of everything there is: of what concerns all endpoints alike. */
bool admin_sees_all(const struct admin_client *client);
/* Why it is refused; static. */
const char *admin_all_needed(void);
/* What it did goes into the audit log, if there is one at the moment. */
void admin_record(const struct admin_client *client, const struct desk_deed *deed);
/* As the desk knows it. */
struct desk_admin admin_signature(const struct admin_client *client);
/* The endpoint, whose labels count too. */
bool admin_sees(const struct admin_client *client, const struct selector_subject *endpoint);

/* Requests; what they return closes the connection. */
int roster_on_list(void *state, void *message);
int roster_on_disconnect(void *state, void *message);
int hosting_on_list(void *state, void *message);
int hosting_on_add(void *state, void *message);
int hosting_on_remove(void *state, void *message);
int hosting_on_invalidate(void *state, void *message);
int report_on_status(void *state, void *message);
int report_on_stats(void *state, void *message);
int renew_on_reload(void *state, void *message);
int bump_on_query(void *state, void *message);
int bump_on_bump(void *state, void *message);
int provide_on_provide(void *state, void *message);
int provide_on_invalidate(void *state, void *message);
int provide_on_end(void *state, void *message);
void provide_begin(struct admin_client *client);
/* The connection ends. */
void provide_forget(struct admin_client *client);
void renew_forget(struct admin_client *client);

#endif
