/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_TLS_CTX_H
#define PROTO_WIRE_TLS_CTX_H

/* The inside of a context, for tls.c, which makes it, and tls_peer.c, which has its sessions. */

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include <openssl/ssl.h>

#include "proto/wire/tls.h"

/* Of a moment in a certificate; INT64_MIN when it cannot be read, which counts as over. */
static inline int64_t tls_seconds(const ASN1_TIME *moment)
{
	struct tm tm = {0};

	return ASN1_TIME_to_tm(moment, &tm) ? (int64_t)timegm(&tm) : INT64_MIN;
}

struct tls_ctx {
	atomic_uint refs;
	SSL_CTX *ssl_ctx;
	unsigned peer_roles;
	enum tls_side side;
};

#endif
