/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/pki_cert.h"

#include <stdio.h>
#include <string.h>

#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "clients/ctl/pki_key.h"
#include "proto/wire/identity.h"
#include "vmsig/vmsig_error.h"

#define SERIAL_BITS 127 /* random, and positive in DER: RFC 5280, 4.1.2.2 */
#define CLOCK_SKEW_S 300
#define DAY_S 86400L

int pki_uri(struct pki_sentence *sentence, const char *role, const char *name,
	char uri[static PKI_URI_MAX])
{
	struct identity identity;

	if (!identity_role_parse(role))
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"'%s' is no role; write sensor, operator, admin, monitor, provider or "
			"broker",
			role);
	snprintf(uri, PKI_URI_MAX, "vmsig://%s/%s", role, name);
	if (identity_parse(uri, strlen(uri), &identity))
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"'%s' is no name; write 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a "
			"letter "
			"or a digit",
			name);
	return 0;
}

/* ---- making ---- */

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
	if (ok && X509_sign(cert, issuer_key, pki_key_digest(issuer_key)))
		return cert;
	X509_free(cert);
	return NULL;
}

X509 *pki_cert_authority(EVP_PKEY *key, const char *name, unsigned days)
{
	static const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
		{NID_key_usage, "critical,keyCertSign,cRLSign"},
		{NID_subject_key_identifier, "hash"},
	};

	return make_cert(key, name, days, NULL, key, extensions, 3);
}

X509 *pki_cert_identity(EVP_PKEY *key, const char *name, const char *uri, unsigned days,
	X509 *issuer, EVP_PKEY *issuer_key)
{
	char san[PKI_URI_MAX + 8];
	const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:FALSE"},
		{NID_key_usage, "critical,digitalSignature"},
		{NID_ext_key_usage, "serverAuth,clientAuth"},
		{NID_subject_key_identifier, "hash"},
		{NID_authority_key_identifier, "keyid"},
		{NID_subject_alt_name, san},
	};

	snprintf(san, sizeof(san), "URI:%s", uri);
	return make_cert(key, name, days, issuer, issuer_key, extensions,
		sizeof(extensions) / sizeof(extensions[0]));
}

static bool ask_for_uri(X509_REQ *request, const char *uri)
{
	char san[PKI_URI_MAX + 8];
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
	X509_EXTENSION *extension;
	bool ok;

	snprintf(san, sizeof(san), "URI:%s", uri);
	extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
	ok = extensions && extension && sk_X509_EXTENSION_push(extensions, extension);
	if (!ok)
		X509_EXTENSION_free(extension);
	ok = ok && X509_REQ_add_extensions(request, extensions);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return ok;
}

X509_REQ *pki_cert_request(EVP_PKEY *key, const char *name, const char *uri)
{
	X509_REQ *request = X509_REQ_new();
	bool ok = request && X509_REQ_set_version(request, X509_REQ_VERSION_1) &&
		  set_name(X509_REQ_get_subject_name(request), name) &&
		  X509_REQ_set_pubkey(request, key) && ask_for_uri(request, uri) &&
		  X509_REQ_sign(request, key, pki_key_digest(key));

	if (ok)
		return request;
	X509_REQ_free(request);
	return NULL;
}

/* ---- reading ---- */

static int copy_uri(struct pki_sentence *sentence, const char *path, const GENERAL_NAMES *names,
	char uri[static PKI_URI_MAX])
{
	const ASN1_IA5STRING *only = NULL;
	struct identity identity;
	int n = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_URI)
			continue;
		only = name->d.uniformResourceIdentifier;
		n++;
	}
	if (n != 1 || ASN1_STRING_length(only) >= PKI_URI_MAX ||
		identity_parse((const char *)ASN1_STRING_get0_data(only),
			(size_t)ASN1_STRING_length(only), &identity))
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s has no vmsig://ROLE/NAME, or more than one", path);
	snprintf(uri, PKI_URI_MAX, "%.*s", ASN1_STRING_length(only),
		(const char *)ASN1_STRING_get0_data(only));
	return 0;
}

int pki_cert_uri(struct pki_sentence *sentence, const char *path, const X509 *cert,
	char uri[static PKI_URI_MAX])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int r = copy_uri(sentence, path, names, uri);

	GENERAL_NAMES_free(names);
	return r;
}

int pki_cert_request_uri(struct pki_sentence *sentence, const char *path, X509_REQ *request,
	char uri[static PKI_URI_MAX])
{
	STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
	GENERAL_NAMES *names = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
	int r = copy_uri(sentence, path, names, uri);

	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return r;
}
