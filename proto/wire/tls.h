/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_TLS_H
#define PROTO_WIRE_TLS_H

/*
 * TLS policy of every plane: TLS 1.3 only, certificates on both sides, ALPN "vmsig/1", no
 * tickets and no resumption (it would skip certificate and CRL checks), the peer's role
 * checked inside the handshake.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/identity.h"

#define TLS_ALPN "vmsig/1"

struct tls_files {
	const char *ca;   /* PEM, one or more certificates */
	const char *cert; /* PEM chain */
	const char *key;  /* PEM; refused when group or others can read it */
	const char *crl;  /* PEM, a list for every CA of a chain, or NULL: nothing is revoked */
};

enum tls_side { TLS_SERVER, TLS_CLIENT };

struct tls_ctx;

/* `peer_roles` is a mask of enum identity_role that the peer's certificate may have; another
 * role, none or two URI SANs fail the handshake. `error` receives a sentence that names the
 * file and what to do (error_size bytes, always terminated). A server's own certificate must
 * have the role broker, or no client would accept it.
 * 0, VMSIG_ERR_BAD_REQUEST (a file's content), VMSIG_ERR_FORBIDDEN (a key's mode), -errno. */
__attribute__((warn_unused_result)) int tls_ctx_new(struct tls_ctx **ret_ctx, enum tls_side side,
	const struct tls_files *files, unsigned peer_roles, char *error, size_t error_size);
/* Reference counted: a reload replaces the context while connections still use the old one.
 * Thread-safe. */
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
struct tls_ctx *tls_ctx_unref(struct tls_ctx *ctx);
/* When what the context stands on ends, in seconds of CLOCK_REALTIME: our own certificate, the
 * first of the authorities, the first of the revocation lists; and when the oldest of those was
 * issued. INT64_MAX: there is none. */
struct tls_dates {
	int64_t certificate, authority, revocations, revocations_issued;
};
void tls_ctx_dates(const struct tls_ctx *ctx, struct tls_dates *ret_dates);
/* Whether our own certificate is valid at this moment; if not, `text` gets a sentence. */
bool tls_ctx_is_current(const struct tls_ctx *ctx, char *text, size_t size);

#endif
