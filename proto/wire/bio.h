/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_BIO_H
#define PROTO_WIRE_BIO_H

/*
 * OpenSSL BIO over two of our buffers: reads take from `rx`, writes append to `tx`. An empty
 * `rx` is "retry", never end of stream: only the channel knows that the stream has ended.
 */

#include <openssl/bio.h>

#include "proto/wire/buffer.h"

struct bio_buffers {
	struct buffer rx; /* ciphertext from the peer */
	struct buffer tx; /* ciphertext for the peer */
};

/* A new BIO that borrows `buffers`, or NULL when there is no memory. Thread-safe. */
BIO *bio_buffers_new(struct bio_buffers *buffers);

#endif
