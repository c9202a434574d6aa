/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "proto/wire/tls_ctx.h"
#include "proto/wire/tls_peer.h"
#include "vmsig/vmsig_error.h"

/* A CRL that names a hundred thousand certificates has about 6 MiB in PEM. */
#define PEM_FILE_MAX (16l << 20)
/* Bytes of certificates a peer may make us hold before it is authenticated. */
#define PEER_CHAIN_MAX (32l << 10)
#define PEER_CHAIN_DEPTH 4

/* Where sentences about a context that is being built go. */
struct tls_sentence {
	char *text;
	size_t size;
};

struct pem {
	char *data;
	size_t len;
};

__attribute__((format(printf, 3, 4))) static int fail(
	const struct tls_sentence *error, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, error->size, format, args);
	va_end(args);
	return code;
}

/* As fail(), with OpenSSL's reason; the error queue is empty afterwards. */
static int fail_ssl(const struct tls_sentence *error, const char *path, const char *what)
{
	unsigned long e = ERR_peek_error();
	const char *reason = ERR_reason_error_string(e);

	ERR_clear_error();
	if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE)
		return fail(error, -ENOMEM, "%s: out of memory", path);
	return fail(error, VMSIG_ERR_BAD_REQUEST, "%s: %s: %s", path, what,
		reason ? reason : "unknown reason");
}

static void pem_deinit(struct pem *pem)
{
	if (pem->data)
		OPENSSL_cleanse(pem->data, pem->len);
	free(pem->data);
	*pem = (struct pem){0};
}

static int file_check(
	const struct stat *st, const char *path, bool secret, const struct tls_sentence *error)
{
	if (!S_ISREG(st->st_mode))
		return fail(error, VMSIG_ERR_BAD_REQUEST, "%s: not a regular file", path);
	if (st->st_size > PEM_FILE_MAX)
		return fail(error, VMSIG_ERR_BAD_REQUEST, "%s: larger than %ld bytes", path,
			PEM_FILE_MAX);
	if (secret && (st->st_mode & 077))
		return fail(error, VMSIG_ERR_FORBIDDEN,
			"%s: the private key is open to group or others (mode %04o); run: "
			"chmod 600 %s",
			path, st->st_mode & 07777u, path);
	return 0;
}

static int file_read(int fd, char *data, size_t size, size_t *ret_len)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, data + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

/* Checks and reads through one descriptor, so that the file checked is the file read. */
static int pem_read(
	const char *path, bool secret, struct pem *ret_pem, const struct tls_sentence *error)
{
	struct pem pem = {0};
	struct stat st;
	int r;
	/* O_NONBLOCK: a FIFO in its place must not hang the start. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return fail(error, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0) {
		r = fail(error, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	r = file_check(&st, path, secret, error);
	if (r)
		goto out;
	pem.len = (size_t)st.st_size;
	pem.data = malloc(pem.len + 1);
	if (!pem.data) {
		r = fail(error, -ENOMEM, "%s: out of memory", path);
		goto out;
	}
	r = file_read(fd, pem.data, pem.len, &pem.len);
	if (r) {
		r = fail(error, r, "%s: %s", path, strerror(-r));
		goto out;
	}
	*ret_pem = pem;
	pem = (struct pem){0};
out:
	pem_deinit(&pem);
	close(fd);
	return r;
}

/* A library must not ask on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

/* Whether a loop over PEM objects stopped for the right reason: there are no more. */
static bool pem_at_end(void)
{
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;

	if (end)
		ERR_clear_error();
	return end;
}

typedef int (*object_use_fn)(SSL_CTX *ssl_ctx, BIO *bio, bool first);

/* Each returns 1 when one object was taken, 0 when there is none left or on an error. */
static int use_ca(SSL_CTX *ssl_ctx, BIO *bio, bool first)
{
	X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
	int ok = cert && X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl_ctx), cert);

	X509_free(cert);
	return ok;
}

static int use_crl(SSL_CTX *ssl_ctx, BIO *bio, bool first)
{
	X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, no_passphrase, NULL);
	int ok = crl && X509_STORE_add_crl(SSL_CTX_get_cert_store(ssl_ctx), crl);

	X509_CRL_free(crl);
	return ok;
}

static int use_cert(SSL_CTX *ssl_ctx, BIO *bio, bool first)
{
	X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
	int ok = cert && (first ? SSL_CTX_use_certificate(ssl_ctx, cert)
				: SSL_CTX_add1_chain_cert(ssl_ctx, cert));

	X509_free(cert);
	return ok;
}

static int use_key(SSL_CTX *ssl_ctx, BIO *bio, bool first)
{
	EVP_PKEY *key = first ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	int ok = key && SSL_CTX_use_PrivateKey(ssl_ctx, key);

	EVP_PKEY_free(key);
	return ok;
}

static int pem_use(SSL_CTX *ssl_ctx, const char *path, bool secret, object_use_fn use,
	const char *what, const struct tls_sentence *error)
{
	struct pem pem = {0};
	BIO *bio = NULL;
	bool first = true;
	int r;

	r = pem_read(path, secret, &pem, error);
	if (r)
		return r;
	bio = BIO_new_mem_buf(pem.data, (int)pem.len);
	if (!bio) {
		r = fail_ssl(error, path, what);
		goto out;
	}
	while (use(ssl_ctx, bio, first))
		first = false;
	if (first || (!secret && !pem_at_end()))
		r = fail_ssl(error, path, what);
out:
	BIO_free(bio);
	pem_deinit(&pem);
	return r;
}

static int crl_use(SSL_CTX *ssl_ctx, const char *path, const struct tls_sentence *error)
{
	int r = pem_use(ssl_ctx, path, false, use_crl, "not a PEM revocation list", error);

	if (r)
		return r;
	/* Every certificate of a chain is looked up, so each CA needs its list in the file; a
	 * missing or outdated list fails the handshake rather than skip the check. */
	X509_STORE_set_flags(
		SSL_CTX_get_cert_store(ssl_ctx), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return 0;
}

/* A broker that no client would accept should not start. */
static int own_cert_check(
	SSL_CTX *ssl_ctx, const char *path, enum tls_side side, const struct tls_sentence *error)
{
	struct identity id;
	char why[160];

	if (side != TLS_SERVER)
		return 0;
	if (tls_peer_certificate(SSL_CTX_get0_certificate(ssl_ctx), &id, why, sizeof(why)))
		return fail(error, VMSIG_ERR_BAD_REQUEST, "%s: %s", path, why);
	if (id.role != IDENTITY_BROKER)
		return fail(error, VMSIG_ERR_BAD_REQUEST,
			"%s: a server needs a certificate with the role broker, this one has %s",
			path, identity_role_name(id.role));
	return 0;
}

static int files_use(SSL_CTX *ssl_ctx, enum tls_side side, const struct tls_files *files,
	const struct tls_sentence *error)
{
	int r;

	r = pem_use(ssl_ctx, files->ca, false, use_ca, "not a PEM certificate", error);
	if (r)
		return r;
	r = pem_use(ssl_ctx, files->cert, false, use_cert, "not a PEM certificate", error);
	if (r)
		return r;
	r = own_cert_check(ssl_ctx, files->cert, side, error);
	if (r)
		return r;
	r = pem_use(ssl_ctx, files->key, true, use_key,
		"not an unencrypted PEM private key of the certificate", error);
	if (r)
		return r;
	if (SSL_CTX_check_private_key(ssl_ctx) != 1)
		return fail_ssl(error, files->key, "does not belong to the certificate");
	return files->crl ? crl_use(ssl_ctx, files->crl, error) : 0;
}

static bool policy_set(SSL_CTX *ssl_ctx, enum tls_side side)
{
	static const unsigned char alpn[] = "\x07" TLS_ALPN;
	char groups[] = "X25519:P-256"; /* the macro that takes it casts a const away */

	SSL_CTX_set_security_level(ssl_ctx, 2);
	SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
					     SSL_OP_NO_RENEGOTIATION |
					     SSL_OP_CIPHER_SERVER_PREFERENCE);
	/* There are no middleboxes on a UNIX socket. */
	SSL_CTX_clear_options(ssl_ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_CTX_set_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ssl_ctx, 0);
	SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(ssl_ctx, PEER_CHAIN_MAX);
	SSL_CTX_set_verify_depth(ssl_ctx, PEER_CHAIN_DEPTH);
	tls_peer_configure(ssl_ctx, side == TLS_SERVER);
	/* SSL_CTX_set_alpn_protos() returns 0 on success, unlike its neighbours. */
	return SSL_CTX_set_min_proto_version(ssl_ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ssl_ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_num_tickets(ssl_ctx, 0) &&
	       SSL_CTX_set_ciphersuites(ssl_ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
						 "TLS_CHACHA20_POLY1305_SHA256") &&
	       SSL_CTX_set1_groups_list(ssl_ctx, groups) &&
	       SSL_CTX_set_alpn_protos(ssl_ctx, alpn, sizeof(alpn) - 1) == 0;
}

int tls_ctx_new(struct tls_ctx **ret_ctx, enum tls_side side, const struct tls_files *files,
	unsigned peer_roles, char *error, size_t error_size)
{
	const struct tls_sentence sentence = {.text = error, .size = error_size};
	struct tls_ctx *ctx = calloc(1, sizeof(*ctx));
	int r;

	if (error_size)
		error[0] = '\0';
	if (!ctx)
		return fail(&sentence, -ENOMEM, "out of memory");
	atomic_init(&ctx->refs, 1);
	ctx->peer_roles = peer_roles;
	ctx->side = side;
	ERR_clear_error();
	ctx->ssl_ctx = SSL_CTX_new(side == TLS_SERVER ? TLS_server_method() : TLS_client_method());
	if (!ctx->ssl_ctx || !policy_set(ctx->ssl_ctx, side)) {
		r = fail_ssl(&sentence, "TLS", "this OpenSSL does not do what is needed");
		goto out;
	}
	r = files_use(ctx->ssl_ctx, side, files, &sentence);
	if (r)
		goto out;
	*ret_ctx = ctx;
	ctx = NULL;
out:
	ERR_clear_error();
	tls_ctx_unref(ctx);
	return r;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
	if (ctx)
		atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

struct tls_ctx *tls_ctx_unref(struct tls_ctx *ctx)
{
	if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	SSL_CTX_free(ctx->ssl_ctx);
	free(ctx);
	return NULL;
}

bool tls_ctx_is_current(const struct tls_ctx *ctx, char *text, size_t size)
{
	const X509 *cert = SSL_CTX_get0_certificate(ctx->ssl_ctx);

	return !cert || tls_peer_is_current(cert, text, size);
}

/* ---- dates ---- */

static void sooner(int64_t *first, const ASN1_TIME *moment)
{
	int64_t seconds = moment ? tls_seconds(moment) : INT64_MAX;

	*first = seconds < *first ? seconds : *first;
}

void tls_ctx_dates(const struct tls_ctx *ctx, struct tls_dates *ret_dates)
{
	struct tls_dates dates = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
	const X509 *own = SSL_CTX_get0_certificate(ctx->ssl_ctx);
	X509_STORE *store = SSL_CTX_get_cert_store(ctx->ssl_ctx);
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

	if (own)
		sooner(&dates.certificate, X509_get0_notAfter(own));
	/* Handshakes on other threads sort it. */
	(void)X509_STORE_lock(store);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		const X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
		const X509 *authority = X509_OBJECT_get0_X509(object);
		const X509_CRL *crl = X509_OBJECT_get0_X509_CRL((X509_OBJECT *)(uintptr_t)object);

		if (authority)
			sooner(&dates.authority, X509_get0_notAfter(authority));
		if (crl) {
			sooner(&dates.revocations, X509_CRL_get0_nextUpdate(crl));
			sooner(&dates.revocations_issued, X509_CRL_get0_lastUpdate(crl));
		}
	}
	(void)X509_STORE_unlock(store);
	*ret_dates = dates;
}
