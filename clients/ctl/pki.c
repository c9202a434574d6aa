/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/pki.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "proto/wire/identity.h"
#include "vmsig/vmsig_error.h"

#define SERIAL_BITS 127 /* random, and positive in DER: RFC 5280, 4.1.2.2 */
#define CLOCK_SKEW_S 300
#define DAY_S 86400L

struct pki_sentence {
	char *text;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int complain(
	struct pki_sentence *sentence, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(sentence->text, sentence->size, format, args);
	va_end(args);
	ERR_clear_error();
	return error;
}

static int complain_openssl(struct pki_sentence *sentence, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return complain(sentence, VMSIG_ERR_INTERNAL, "cannot %s: %s", what,
		reason ? reason : "OpenSSL gives no reason");
}

/* ---- files ---- */

static void path_join(char path[static PATH_MAX], const char *dir, const char *file)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, file);
}

static int make_folder(struct pki_sentence *sentence, const char *dir)
{
	/* chmod: the mode does not depend on the umask. */
	if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || chmod(dir, 0700) < 0)
		return complain(sentence, VMSIG_ERR_IO, "cannot make the folder %s: %s", dir,
			strerror(errno));
	return 0;
}

static int write_all(int fd, const char *data, long len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, (size_t)len);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			data += n;
			len -= n;
		}
	}
	return fsync(fd);
}

/* Beside its place first, then linked there: link(2) does not replace. */
static int write_file(struct pki_sentence *sentence, const char *dir, const char *file,
	BIO *content, mode_t mode, bool replace)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	char *data;
	long len = BIO_get_mem_data(content, &data);
	int fd, r;

	path_join(path, dir, file);
	path_join(temporary, dir, ".new-XXXXXX");
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return complain(
			sentence, VMSIG_ERR_IO, "cannot write in %s: %s", dir, strerror(errno));
	r = fchmod(fd, mode) < 0 || write_all(fd, data, len) < 0;
	if (!r)
		r = replace ? rename(temporary, path) : link(temporary, path);
	if (r)
		r = complain(sentence, VMSIG_ERR_IO, "cannot write %s: %s%s", path, strerror(errno),
			errno == EEXIST ? "; choose another folder or remove it first" : "");
	close(fd);
	unlink(temporary);
	return r;
}

static int append_index(struct pki_sentence *sentence, const char *ca_dir, const char *line)
{
	char path[PATH_MAX];
	int fd, r;

	path_join(path, ca_dir, "index.txt");
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	r = fd < 0 || write_all(fd, line, (long)strlen(line)) < 0;
	if (r)
		r = complain(sentence, VMSIG_ERR_IO, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- objects ---- */

typedef int (*pem_write_fn)(BIO *bio, const void *object);

static int pem_write_key(BIO *bio, const void *object)
{
	return PEM_write_bio_PrivateKey(
		bio, (EVP_PKEY *)(uintptr_t)object, NULL, NULL, 0, NULL, NULL);
}

static int pem_write_cert(BIO *bio, const void *object)
{
	return PEM_write_bio_X509(bio, (X509 *)(uintptr_t)object);
}

static int pem_write_crl(BIO *bio, const void *object)
{
	return PEM_write_bio_X509_CRL(bio, (X509_CRL *)(uintptr_t)object);
}

/* The memory that held a key is cleared: BIO_s_secmem. */
static int write_pem(struct pki_sentence *sentence, const char *dir, const char *file,
	pem_write_fn write_object, const void *object, mode_t mode, bool replace)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int r;

	if (!bio || !write_object(bio, object))
		r = complain_openssl(sentence, "encode a PEM file");
	else
		r = write_file(sentence, dir, file, bio, mode, replace);
	BIO_free(bio);
	return r;
}

static X509 *load_cert(struct pki_sentence *sentence, const char *path)
{
	BIO *bio = BIO_new_file(path, "r");
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	if (!cert)
		complain(sentence, VMSIG_ERR_IO, "cannot read a certificate from %s", path);
	BIO_free(bio);
	return cert;
}

static EVP_PKEY *load_key(struct pki_sentence *sentence, const char *path)
{
	BIO *bio = BIO_new_file(path, "r");
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

	if (!key)
		complain(sentence, VMSIG_ERR_IO,
			"cannot read a key from %s; is it a CA made by `vmsigctl pki init`?", path);
	BIO_free(bio);
	return key;
}

static bool set_serial(X509 *cert)
{
	BIGNUM *number = BN_new();
	bool ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
		  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));

	BN_free(number);
	return ok;
}

static bool set_name(X509_NAME *name, const char *text)
{
	return X509_NAME_add_entry_by_txt(
		name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0);
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;
	bool ok;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = extension && X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	return ok;
}

struct extension {
	int nid;
	const char *value;
};

/* `issuer` of NULL: self-signed. */
static X509 *make_cert(EVP_PKEY *key, const char *subject, unsigned days, X509 *issuer,
	EVP_PKEY *issuer_key, const struct extension *extensions, size_t n)
{
	X509 *cert = X509_new();
	bool ok = cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
		  X509_gmtime_adj(X509_getm_notBefore(cert), -CLOCK_SKEW_S) &&
		  X509_gmtime_adj(X509_getm_notAfter(cert), DAY_S * (long)days) &&
		  X509_set_pubkey(cert, key) && set_name(X509_get_subject_name(cert), subject) &&
		  X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));

	for (size_t i = 0; ok && i < n; i++)
		ok = add_extension(
			cert, issuer ? issuer : cert, extensions[i].nid, extensions[i].value);
	if (ok && X509_sign(cert, issuer_key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

/* ---- commands ---- */

int pki_init(const char *dir, const char *name, unsigned days, char *error, size_t error_size)
{
	static const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
		{NID_key_usage, "critical,keyCertSign,cRLSign"},
		{NID_subject_key_identifier, "hash"},
	};
	struct pki_sentence sentence = {error, error_size};
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make_cert(key, name, days, NULL, key, extensions, 3) : NULL;
	int r = cert ? make_folder(&sentence, dir) : complain_openssl(&sentence, "make a CA");

	if (!r)
		r = write_pem(&sentence, dir, "ca.key", pem_write_key, key, 0600, false);
	if (!r)
		r = write_pem(&sentence, dir, "ca.pem", pem_write_cert, cert, 0644, false);
	X509_free(cert);
	EVP_PKEY_free(key);
	return r;
}

struct authority {
	X509 *cert;
	EVP_PKEY *key;
};

static int authority_load(
	struct pki_sentence *sentence, const char *dir, struct authority *authority)
{
	char path[PATH_MAX];

	path_join(path, dir, "ca.pem");
	authority->cert = load_cert(sentence, path);
	if (!authority->cert)
		return VMSIG_ERR_IO;
	path_join(path, dir, "ca.key");
	authority->key = load_key(sentence, path);
	return authority->key ? 0 : VMSIG_ERR_IO;
}

static void authority_deinit(struct authority *authority)
{
	X509_free(authority->cert);
	EVP_PKEY_free(authority->key);
}

static int check_names(struct pki_sentence *sentence, const char *role, const char *name, char *uri,
	size_t uri_size)
{
	struct identity identity;

	if (!identity_role_parse(role))
		return complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"'%s' is no role; write sensor, operator, admin, provider or broker", role);
	snprintf(uri, uri_size, "vmsig://%s/%s", role, name);
	if (identity_parse(uri, strlen(uri), &identity))
		return complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"'%s' is no name; write 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a "
			"letter "
			"or a digit",
			name);
	return 0;
}

static int index_line(struct pki_sentence *sentence, const char *ca_dir, X509 *cert,
	const char *role, const char *name)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *serial = number ? BN_bn2hex(number) : NULL;
	struct tm until;
	char line[256], date[32];
	int r;

	if (!serial || !ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until)) {
		r = complain_openssl(sentence, "describe the certificate");
	} else {
		strftime(date, sizeof(date), "%Y-%m-%d", &until);
		snprintf(line, sizeof(line), "%s %s %s %s\n", serial, role, name, date);
		r = append_index(sentence, ca_dir, line);
	}
	OPENSSL_free(serial);
	BN_free(number);
	return r;
}

int pki_issue(const char *ca_dir, const char *role, const char *name, const char *out_dir,
	unsigned days, char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	char uri[128], san[160];
	const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:FALSE"},
		{NID_key_usage, "critical,digitalSignature"},
		{NID_ext_key_usage, "serverAuth,clientAuth"},
		{NID_subject_key_identifier, "hash"},
		{NID_authority_key_identifier, "keyid"},
		{NID_subject_alt_name, san},
	};
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int r = check_names(&sentence, role, name, uri, sizeof(uri));

	if (!r)
		r = authority_load(&sentence, ca_dir, &authority);
	if (r)
		goto out;
	snprintf(san, sizeof(san), "URI:%s", uri);
	key = EVP_EC_gen("P-256");
	cert = key ? make_cert(key, name, days, authority.cert, authority.key, extensions,
			     sizeof(extensions) / sizeof(extensions[0]))
		   : NULL;
	r = cert ? make_folder(&sentence, out_dir)
		 : complain_openssl(&sentence, "issue the certificate");
	if (!r)
		r = write_pem(&sentence, out_dir, "key.pem", pem_write_key, key, 0600, false);
	if (!r)
		r = write_pem(&sentence, out_dir, "cert.pem", pem_write_cert, cert, 0644, false);
	if (!r)
		r = write_pem(
			&sentence, out_dir, "ca.pem", pem_write_cert, authority.cert, 0644, false);
	if (!r)
		r = index_line(&sentence, ca_dir, cert, role, name);
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_deinit(&authority);
	return r;
}

/* The list so far, or a new one. */
static X509_CRL *crl_load(const char *ca_dir)
{
	char path[PATH_MAX];
	X509_CRL *crl = NULL;
	BIO *bio;

	path_join(path, ca_dir, "crl.pem");
	bio = BIO_new_file(path, "r");
	if (bio)
		crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
	BIO_free(bio);
	ERR_clear_error();
	return crl ? crl : X509_CRL_new();
}

#define CRL_DAYS 3650 /* a list stands until the next revocation replaces it */

static bool crl_add(X509_CRL *crl, X509 *cert, const struct authority *authority)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, 0), *next = X509_gmtime_adj(NULL, DAY_S * CRL_DAYS);
	X509_REVOKED *revoked = X509_REVOKED_new();
	bool ok = now && next && revoked && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
		  X509_CRL_set_issuer_name(crl, X509_get_subject_name(authority->cert)) &&
		  X509_CRL_set1_lastUpdate(crl, now) && X509_CRL_set1_nextUpdate(crl, next) &&
		  X509_REVOKED_set_serialNumber(
			  revoked, (ASN1_INTEGER *)(uintptr_t)X509_get0_serialNumber(cert)) &&
		  X509_REVOKED_set_revocationDate(revoked, now) &&
		  X509_CRL_add0_revoked(crl, revoked);

	if (ok)
		ok = X509_CRL_sort(crl) && X509_CRL_sign(crl, authority->key, EVP_sha256());
	else
		X509_REVOKED_free(revoked);
	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	return ok;
}

int pki_revoke(const char *ca_dir, const char *cert_file, char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	X509 *cert = load_cert(&sentence, cert_file);
	X509_CRL *crl = NULL;
	X509_REVOKED *entry;
	int r = cert ? authority_load(&sentence, ca_dir, &authority) : VMSIG_ERR_IO;

	if (r)
		goto out;
	crl = crl_load(ca_dir);
	if (crl && X509_CRL_get0_by_cert(crl, &entry, cert) == 1)
		r = complain(&sentence, VMSIG_ERR_BAD_REQUEST, "%s is revoked already", cert_file);
	else if (!crl || !crl_add(crl, cert, &authority))
		r = complain_openssl(&sentence, "write the revocation list");
	else
		r = write_pem(&sentence, ca_dir, "crl.pem", pem_write_crl, crl, 0644, true);
out:
	X509_CRL_free(crl);
	X509_free(cert);
	authority_deinit(&authority);
	return r;
}
