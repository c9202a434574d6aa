/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/bio.h"

#include <pthread.h>
#include <string.h>

#include <openssl/err.h>

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static int bio_read(BIO *bio, char *out, size_t len, size_t *ret_len)
{
	struct bio_buffers *buffers = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (buffers->rx.len == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	if (len > buffers->rx.len)
		len = buffers->rx.len;
	memcpy(out, buffer_head(&buffers->rx), len);
	buffer_consume(&buffers->rx, len);
	*ret_len = len;
	return 1;
}

static int bio_write(BIO *bio, const char *data, size_t len, size_t *ret_len)
{
	struct bio_buffers *buffers = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (buffer_append(&buffers->tx, data, len) < 0) {
		ERR_raise(ERR_LIB_BIO, ERR_R_MALLOC_FAILURE);
		return 0;
	}
	*ret_len = len;
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	struct bio_buffers *buffers = BIO_get_data(bio);

	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_PENDING:
		return (long)buffers->rx.len;
	case BIO_CTRL_WPENDING:
		return (long)buffers->tx.len;
	default:
		return 0;
	}
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static void method_free(void)
{
	BIO_meth_free(method);
}

static void method_new(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "vmsig buffers");

	if (!m)
		return;
	if (BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_write_ex(m, bio_write) &&
		BIO_meth_set_ctrl(m, bio_ctrl) && BIO_meth_set_create(m, bio_create) &&
		OPENSSL_atexit(method_free)) {
		method = m;
		return;
	}
	BIO_meth_free(m);
}

BIO *bio_buffers_new(struct bio_buffers *buffers)
{
	BIO *bio;

	pthread_once(&method_once, method_new);
	if (!method)
		return NULL;
	bio = BIO_new(method);
	if (bio)
		BIO_set_data(bio, buffers);
	return bio;
}
