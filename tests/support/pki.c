/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/pki.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define HOUR 3600l
#define DAY (24 * HOUR)

struct pki {
	char dir[PATH_MAX - 300];
	char ca_path[PATH_MAX];
	char crl_path[PATH_MAX];
	EVP_PKEY *key;
	X509 *cert;
	X509_CRL *crl;
	long serial;
};

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			must_failed(#condition, __LINE__);                                         \
	} while (0)

__attribute__((noreturn)) static void must_failed(const char *what, int line)
{
	fprintf(stderr, "%s:%d: %s failed\n", __FILE__, line, what);
	ERR_print_errors_fp(stderr);
	abort();
}

static FILE *file_create(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	FILE *file;

	must(fd >= 0);
	must(fchmod(fd, mode) == 0);
	file = fdopen(fd, "w");
	must(file);
	return file;
}

static void cert_write(const char *path, X509 *cert)
{
	FILE *file = file_create(path, 0644);

	must(PEM_write_X509(file, cert));
	must(fclose(file) == 0);
}

static void key_write(const char *path, EVP_PKEY *key)
{
	FILE *file = file_create(path, 0600);

	must(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
	must(fclose(file) == 0);
}

static void extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	must(ext);
	must(X509_add_ext(cert, ext, -1));
	X509_EXTENSION_free(ext);
}

static void san_add(X509 *cert, const char *const *uris)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	must(names);
	for (size_t i = 0; uris[i]; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *text = ASN1_IA5STRING_new();

		must(name && text && ASN1_STRING_set(text, uris[i], -1));
		GENERAL_NAME_set0_value(name, GEN_URI, text);
		must(sk_GENERAL_NAME_push(names, name));
	}
	must(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1);
	GENERAL_NAMES_free(names);
}

static X509 *cert_start(struct pki *pki, const char *common_name, EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name;

	must(cert);
	must(X509_set_version(cert, 2));
	must(ASN1_INTEGER_set(X509_get_serialNumber(cert), ++pki->serial));
	must(X509_set_pubkey(cert, key));
	name = X509_get_subject_name(cert);
	must(X509_NAME_add_entry_by_txt(
		name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0));
	return cert;
}

static void cert_dates(X509 *cert, long not_before, long not_after)
{
	must(X509_gmtime_adj(X509_getm_notBefore(cert), not_before));
	must(X509_gmtime_adj(X509_getm_notAfter(cert), not_after));
}

static void crl_new(struct pki *pki)
{
	ASN1_TIME *last = X509_gmtime_adj(NULL, -HOUR);
	ASN1_TIME *next = X509_gmtime_adj(NULL, DAY);

	pki->crl = X509_CRL_new();
	must(pki->crl && last && next);
	must(X509_CRL_set_version(pki->crl, 1));
	must(X509_CRL_set_issuer_name(pki->crl, X509_get_subject_name(pki->cert)));
	must(X509_CRL_set1_lastUpdate(pki->crl, last));
	must(X509_CRL_set1_nextUpdate(pki->crl, next));
	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
}

struct pki *pki_new(void)
{
	struct pki *pki = calloc(1, sizeof(*pki));
	const char *tmp = getenv("TMPDIR");

	must(pki);
	snprintf(pki->dir, sizeof(pki->dir), "%s/vmsig-pki-XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(pki->dir));
	snprintf(pki->ca_path, sizeof(pki->ca_path), "%s/ca.crt", pki->dir);
	snprintf(pki->crl_path, sizeof(pki->crl_path), "%s/ca.crl", pki->dir);
	/* Two authorities of one process tree must not share names and serials. */
	pki->serial = (long)getpid() * 1000;
	pki->key = EVP_EC_gen("P-256");
	must(pki->key);
	pki->cert = cert_start(pki, "vmsig test CA", pki->key);
	cert_dates(pki->cert, -HOUR, DAY);
	must(X509_set_issuer_name(pki->cert, X509_get_subject_name(pki->cert)));
	extension_add(pki->cert, pki->cert, NID_basic_constraints, "critical,CA:TRUE");
	extension_add(pki->cert, pki->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	extension_add(pki->cert, pki->cert, NID_subject_key_identifier, "hash");
	must(X509_sign(pki->cert, pki->key, EVP_sha256()));
	cert_write(pki->ca_path, pki->cert);
	crl_new(pki);
	return pki;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

struct pki *pki_free(struct pki *pki)
{
	if (!pki)
		return NULL;
	must(nftw(pki->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0);
	X509_CRL_free(pki->crl);
	X509_free(pki->cert);
	EVP_PKEY_free(pki->key);
	free(pki);
	return NULL;
}

const char *pki_dir(const struct pki *pki)
{
	return pki->dir;
}

const char *pki_ca(const struct pki *pki)
{
	return pki->ca_path;
}

void pki_issue(struct pki *pki, const char *name, const struct pki_request *request,
	struct pki_cert *ret_cert)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert;

	must(key);
	cert = cert_start(pki, name, key);
	cert_dates(cert, request->not_before ? request->not_before : -HOUR,
		request->not_after ? request->not_after : DAY);
	must(X509_set_issuer_name(cert, X509_get_subject_name(pki->cert)));
	extension_add(cert, pki->cert, NID_basic_constraints, "critical,CA:FALSE");
	extension_add(cert, pki->cert, NID_subject_key_identifier, "hash");
	extension_add(cert, pki->cert, NID_authority_key_identifier, "keyid:always");
	if (request->uris)
		san_add(cert, request->uris);
	if (request->loopback)
		extension_add(cert, pki->cert, NID_subject_alt_name, "IP:127.0.0.1");
	must(X509_sign(cert, pki->key, EVP_sha256()));

	snprintf(ret_cert->cert, sizeof(ret_cert->cert), "%s/%s.crt", pki->dir, name);
	snprintf(ret_cert->key, sizeof(ret_cert->key), "%s/%s.key", pki->dir, name);
	ret_cert->serial = pki->serial;
	cert_write(ret_cert->cert, cert);
	key_write(ret_cert->key, key);
	X509_free(cert);
	EVP_PKEY_free(key);
}

void pki_issue_uri(struct pki *pki, const char *name, const char *uri, struct pki_cert *ret_cert)
{
	const char *const uris[] = {uri, NULL};
	const struct pki_request request = {.uris = uris};

	pki_issue(pki, name, &request, ret_cert);
}

void pki_revoke(struct pki *pki, const struct pki_cert *cert)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_TIME *date = X509_gmtime_adj(NULL, -60);

	must(entry && serial && date);
	must(ASN1_INTEGER_set(serial, cert->serial));
	must(X509_REVOKED_set_serialNumber(entry, serial));
	must(X509_REVOKED_set_revocationDate(entry, date));
	must(X509_CRL_add0_revoked(pki->crl, entry));
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(date);
}

const char *pki_crl(struct pki *pki)
{
	FILE *file = file_create(pki->crl_path, 0644);

	must(X509_CRL_sort(pki->crl));
	must(X509_CRL_sign(pki->crl, pki->key, EVP_sha256()));
	must(PEM_write_X509_CRL(file, pki->crl));
	must(fclose(file) == 0);
	return pki->crl_path;
}

struct tls_files pki_files(const struct pki *pki, const struct pki_cert *cert, const char *crl)
{
	return (struct tls_files){
		.ca = pki->ca_path, .cert = cert->cert, .key = cert->key, .crl = crl};
}
