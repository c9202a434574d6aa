/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_TLS_PEER_H
#define PROTO_WIRE_TLS_PEER_H

/*
 * What one connection's handshake found out about its peer, and sentences about failures.
 * Internal to proto: everybody else sees struct chan.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "proto/wire/identity.h"

struct tls_ctx;

struct tls_peer {
	unsigned roles; /* mask of enum identity_role that is accepted */
	bool verified;
	struct identity identity; /* when verified */
	char error[192];          /* why verification failed; "" when it did not */
};

/* A TLS object of the context whose verification fills *peer, which must outlive it. NULL
 * when there is no memory. */
SSL *tls_peer_session(struct tls_ctx *ctx, struct tls_peer *peer);

/* Reads who a certificate speaks for. 0; VMSIG_ERR_BAD_REQUEST with a sentence in `error`. */
__attribute__((warn_unused_result)) int tls_peer_certificate(
	X509 *cert, struct identity *ret_identity, char *error, size_t error_size);

/* Verifies the certificates that an established session's peer has shown against the store
 * of `ctx`. 0; VMSIG_ERR_UNAUTHENTICATED with a sentence in `error`; -ENOMEM. */
__attribute__((warn_unused_result)) int tls_peer_reverify(
	SSL *ssl, struct tls_ctx *ctx, char *error, size_t error_size);

/* When the first certificate ends of the chain that the session's peer was verified by: seconds of
 * CLOCK_REALTIME; INT64_MAX when there is none. */
int64_t tls_peer_until(const SSL *ssl);

/* Arms verification on a context that is being built. */
void tls_peer_configure(SSL_CTX *ssl_ctx, bool server);

/* Empties this thread's OpenSSL error queue into one sentence. Returns the most fitting of
 * VMSIG_ERR_UNAUTHENTICATED (the peer refused us with an alert about identity, or does not
 * speak what we do), VMSIG_ERR_PROTOCOL (anything else the peer did) and -ENOMEM. `*ret_alert`: the
 * peer's alert, or -1. */
__attribute__((warn_unused_result)) int tls_peer_failure(
	char *error, size_t error_size, int *ret_alert);
/* Whether an own certificate is valid now; if not, `text` gets a sentence. */
bool tls_peer_is_current(const X509 *cert, char *text, size_t size);
/* After such a refusal: what the peer may have seen in our own certificate, which the alert does
 * not say. "" without one. */
void tls_peer_own_face(SSL *ssl, int alert, char *text, size_t size);

#endif
