/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_TLS_CTX_H
#define PROTO_WIRE_TLS_CTX_H

/* The inside of a context, for tls.c, which makes it, and tls_peer.c, which has its sessions. */

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "proto/wire/tls.h"

struct tls_ctx {
	atomic_uint refs;
	SSL_CTX *ssl_ctx;
	unsigned peer_roles;
	enum tls_side side;
};

#endif
