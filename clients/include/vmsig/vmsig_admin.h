/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_ADMIN_H
#define VMSIG_ADMIN_H

/*
 * libvmsig: an administrator's connection to vmsigd's admin plane. Blocking only. Calls
 * return 0 or a negated enum vmsig_error; vmsig_admin_last_error() has the sentence.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig.h"
#include "vmsig/vmsig_write.h"

#ifdef __cplusplus
extern "C" {
#endif

#define VMSIG_ADMIN_SOCKET "/run/vmsig/admin.sock" /* where the admin plane listens by default */

typedef struct vmsig_admin vmsig_admin;

/* Connects. As vmsig_open(); socket_path defaults to VMSIG_ADMIN_SOCKET. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_open(
	vmsig_admin **ret_admin, const vmsig_options *options, char *error, size_t error_size);
VMSIG_API vmsig_admin *vmsig_admin_close(vmsig_admin *admin);
VMSIG_API const char *vmsig_admin_last_error(const vmsig_admin *admin);

/* All leases and waiters of the broker. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_leases(
	vmsig_admin *admin, vmsig_lease_entries **ret_entries, int timeout_ms);
/* -NO_LEASE. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_revoke(vmsig_admin *admin, uint64_t lease, int timeout_ms);

/* One record of the audit log as it is stored: `body` is an AuditRecord of vmsig.proto, and
 * hash = SHA-256(hash of the record before | body). */
typedef struct {
	uint64_t id;
	const unsigned char *body;
	size_t body_len;
	unsigned char hash[32];
} vmsig_audit_row;

typedef struct {
	size_t count;
	vmsig_audit_row *rows;
	uint64_t head, first;        /* newest record of the log, oldest that is left */
	unsigned char head_hash[32]; /* of the newest */
	unsigned char anchor[32];    /* of the record before the oldest that is left */
	/* Of vmsig_admin_audit_find(): go on with query.after (newest: query.until) = next, unless
	 * that is 0. */
	uint64_t next;
} vmsig_audit_page;

/* Which records; what is 0 or NULL does not matter. */
typedef struct {
	uint64_t after, until;   /* after < id <= until */
	uint64_t from_ns, to_ns; /* CLOCK_REALTIME, both inclusive */
	const char *endpoint, *tenant;
	uint64_t kinds; /* bit 1 << AuditRecord.Kind */
	uint32_t limit; /* rows of the page; 0: as many as fit into a message */
	bool newest;    /* the newest that fit instead of the oldest */
} vmsig_audit_query;

/* A page of records above `after`, oldest first; with `newest` the newest `limit` ones.
 * limit 0: as many as fit into a message. count 0: there are no more. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_audit(vmsig_admin *admin, uint64_t after, uint32_t limit,
	bool newest, vmsig_audit_page **ret_page, int timeout_ms);
/* A page of records that fit, oldest first; the broker looks them up without reading all of its
 * log. A page without rows is not the end if it has `next`. Brokers of before this call give all
 * records: the caller compares them, which it has to do anyway with more than names. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_audit_find(vmsig_admin *admin,
	const vmsig_audit_query *query, vmsig_audit_page **ret_page, int timeout_ms);
VMSIG_API vmsig_audit_page *vmsig_audit_page_free(vmsig_audit_page *page);

/* ---- a provider: role `provider`, and nothing but the calls below ---- */

#define VMSIG_GUEST_FILES_MAX 16u
#define VMSIG_GUEST_SEGMENTS_MAX 64u

/* A guest of whatever VMM. RAM's files are memfds or on a tmpfs or hugetlbfs, and lie end to end.
 */
typedef struct {
	const char *name; /* of the endpoint: one that the policy gives the provider */
	const int *fds;   /* which stay the caller's; open for writing, if it is writable */
	size_t nfds;
	uint64_t low; /* bytes of RAM below 4 GiB; or: */
	const vmsig_memseg *segs;
	size_t nsegs;
	uint64_t kcr3;   /* the kernel's page tables, */
	uint32_t levels; /* 4 or 5; 0: the broker finds them */
	bool writable;   /* operators may write, as far as the policy lets them */
} vmsig_guest;

/* Has the broker serve it for as long as this connection lasts. After one that was lost, call it
 * again on another one: *ret_resumed says that holders noticed nothing. -BUSY: the name is taken,
 * or a guest that had it still ends; -FORBIDDEN, -QUOTA, -BAD_REQUEST: what is wrong with RAM. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_provide(
	vmsig_admin *admin, const vmsig_guest *guest, bool *ret_resumed, int timeout_ms);
/* The guest was reset: its next epoch begins. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_provide_invalidate(
	vmsig_admin *admin, const char *name, uint64_t kcr3, uint32_t levels, int timeout_ms);
VMSIG_API VMSIG_MUST_USE int vmsig_admin_provide_end(
	vmsig_admin *admin, const char *name, int timeout_ms);
/* Waits beside the connection. -TIMEOUT: it is there; -DISCONNECTED: it is not any more. */
VMSIG_API VMSIG_MUST_USE int vmsig_admin_hold(vmsig_admin *admin, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
