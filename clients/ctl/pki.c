/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/ctl/pki.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/x509.h>

#include "clients/ctl/pki_cert.h"
#include "clients/ctl/pki_folder.h"
#include "clients/ctl/pki_key.h"
#include "vmsig/vmsig_error.h"

#define DAY_S 86400L
#define INDEX "index.txt"
#define INDEX_LINE_MAX 256

int pki_init(const char *dir, const char *name, const struct pki_how *how, char *error,
	size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	EVP_PKEY *key = pki_key_new(&sentence, how);
	X509 *cert = key ? pki_cert_authority(key, name, how->days) : NULL;
	int r = VMSIG_ERR_BAD_REQUEST;

	if (key)
		r = cert ? pki_folder_make(&sentence, dir, true)
			 : pki_complain_openssl(&sentence, "make a CA");
	if (!r)
		r = pki_key_write(&sentence, dir, "ca.key", key, how);
	if (!r)
		r = pki_write(&sentence, dir, "ca.pem", pki_encode_cert, cert, 0644, false);
	X509_free(cert);
	EVP_PKEY_free(key);
	return r;
}

/* ---- the authority ---- */

struct authority {
	X509 *cert;
	EVP_PKEY *key;
};

static int authority_load(struct pki_sentence *sentence, const char *dir, const struct pki_how *how,
	struct authority *authority)
{
	char path[PATH_MAX];

	pki_path(path, dir, "ca.pem");
	authority->cert = pki_read_cert(sentence, path);
	if (!authority->cert)
		return VMSIG_ERR_IO;
	pki_path(path, dir, "ca.key");
	authority->key = pki_key_read(sentence, path, how);
	if (!authority->key)
		return VMSIG_ERR_IO;
	if (X509_check_private_key(authority->cert, authority->key))
		return 0;
	return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST, "%s does not belong to ca.pem", path);
}

static void authority_deinit(struct authority *authority)
{
	X509_free(authority->cert);
	EVP_PKEY_free(authority->key);
}

/* ---- identities ---- */

static int index_line(
	struct pki_sentence *sentence, const char *ca_dir, X509 *cert, const char *uri)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *serial = number ? BN_bn2hex(number) : NULL;
	const char *role = uri + strlen("vmsig://"), *name = strchr(role, '/');
	struct tm until;
	char line[INDEX_LINE_MAX], date[32];
	int r;

	if (!serial || !name || !ASN1_TIME_to_tm(X509_get0_notAfter(cert), &until)) {
		r = pki_complain_openssl(sentence, "describe the certificate");
	} else {
		strftime(date, sizeof(date), "%Y-%m-%d", &until);
		snprintf(line, sizeof(line), "%s %.*s %s %s\n", serial, (int)(name - role), role,
			name + 1, date);
		r = pki_append(sentence, ca_dir, INDEX, line);
	}
	OPENSSL_free(serial);
	BN_free(number);
	return r;
}

static const char *name_of(const char *uri)
{
	return strrchr(uri, '/') + 1;
}

/* Makes the certificate and notes it. *ret_cert on success. */
static int certify(struct pki_sentence *sentence, const char *ca_dir,
	const struct authority *authority, EVP_PKEY *key, const char *uri, unsigned days,
	X509 **ret_cert)
{
	X509 *cert =
		pki_cert_identity(key, name_of(uri), uri, days, authority->cert, authority->key);
	int r = cert ? index_line(sentence, ca_dir, cert, uri)
		     : pki_complain_openssl(sentence, "issue the certificate");

	if (r)
		X509_free(cert);
	else
		*ret_cert = cert;
	return r;
}

/* An identity's folder without its key, which is there or elsewhere. */
static int write_identity(struct pki_sentence *sentence, const char *dir, X509 *cert,
	const struct authority *authority)
{
	int r = pki_write(sentence, dir, "cert.pem", pki_encode_cert, cert, 0644, false);

	return r ? r
		 : pki_write(
			   sentence, dir, "ca.pem", pki_encode_cert, authority->cert, 0644, false);
}

int pki_issue(const char *ca_dir, const char *role, const char *name, const char *out_dir,
	const struct pki_how *how, char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	const struct pki_how bare = {.key_type = how->key_type};
	char uri[PKI_URI_MAX];
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int r = pki_uri(&sentence, role, name, uri);

	if (!r)
		r = authority_load(&sentence, ca_dir, how, &authority);
	if (r)
		goto out;
	key = pki_key_new(&sentence, how);
	r = key ? pki_folder_make(&sentence, out_dir, true) : VMSIG_ERR_BAD_REQUEST;
	if (!r)
		r = pki_key_write(&sentence, out_dir, "key.pem", key, &bare);
	if (!r)
		r = certify(&sentence, ca_dir, &authority, key, uri, how->days, &cert);
	if (!r)
		r = write_identity(&sentence, out_dir, cert, &authority);
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_deinit(&authority);
	return r;
}

/* ---- keys that are elsewhere ---- */

int pki_request(const char *role, const char *name, const char *out_dir, const struct pki_how *how,
	char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	const struct pki_how bare = {.key_type = how->key_type};
	char uri[PKI_URI_MAX];
	EVP_PKEY *key;
	X509_REQ *request;
	int r = pki_uri(&sentence, role, name, uri);

	if (r)
		return r;
	key = pki_key_new(&sentence, how);
	if (!key)
		return VMSIG_ERR_BAD_REQUEST;
	request = pki_cert_request(key, name, uri);
	r = request ? pki_folder_make(&sentence, out_dir, true)
		    : pki_complain_openssl(&sentence, "make the request");
	if (!r)
		r = pki_key_write(&sentence, out_dir, "key.pem", key, &bare);
	if (!r)
		r = pki_write(&sentence, out_dir, "request.pem", pki_encode_request, request, 0644,
			false);
	X509_REQ_free(request);
	EVP_PKEY_free(key);
	return r;
}

/* Whoever asks has the key, and asks for what the signer thinks. */
static int request_check(struct pki_sentence *sentence, const char *path, X509_REQ *request,
	const char *uri, EVP_PKEY **ret_key)
{
	char asked[PKI_URI_MAX];
	int r = pki_cert_request_uri(sentence, path, request, asked);

	if (r)
		return r;
	if (strcmp(asked, uri) != 0)
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s asks for %s and not for %s; sign nothing that nobody has asked for",
			path, asked, uri);
	*ret_key = X509_REQ_get0_pubkey(request);
	if (!*ret_key || X509_REQ_verify(request, *ret_key) != 1)
		return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s is not signed by its own key; it was altered", path);
	return 0;
}

/* Before there is a certificate that nobody gets. */
static int check_free(struct pki_sentence *sentence, const char *dir)
{
	char path[PATH_MAX];

	pki_path(path, dir, "cert.pem");
	if (access(path, F_OK) < 0)
		return 0;
	return pki_complain(sentence, VMSIG_ERR_IO,
		"%s is there already; choose another folder or remove it first", path);
}

int pki_sign(const char *ca_dir, const char *path, const char *role, const char *name,
	const char *out_dir, const struct pki_how *how, char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	char uri[PKI_URI_MAX];
	X509_REQ *request = NULL;
	EVP_PKEY *key = NULL; /* the request's */
	X509 *cert = NULL;
	int r = pki_uri(&sentence, role, name, uri);

	if (!r) {
		request = pki_read_request(&sentence, path);
		r = request ? request_check(&sentence, path, request, uri, &key) : VMSIG_ERR_IO;
	}
	if (!r)
		r = authority_load(&sentence, ca_dir, how, &authority);
	if (!r)
		r = pki_folder_make(&sentence, out_dir, false);
	if (!r)
		r = check_free(&sentence, out_dir);
	if (!r)
		r = certify(&sentence, ca_dir, &authority, key, uri, how->days, &cert);
	if (!r)
		r = write_identity(&sentence, out_dir, cert, &authority);
	X509_free(cert);
	X509_REQ_free(request);
	authority_deinit(&authority);
	return r;
}

/* ---- renewing ---- */

/* Whether no more than so many days are left; always, without such a bound. */
static bool is_due(const ASN1_TIME *until, unsigned within)
{
	int days = 0, seconds = 0;

	if (!within || !until || !ASN1_TIME_diff(&days, &seconds, NULL, until))
		return true;
	return days < (int)within;
}

static int check_issued(struct pki_sentence *sentence, const char *ca_dir, const char *path,
	const struct authority *authority, X509 *cert)
{
	return X509_verify(cert, X509_get0_pubkey(authority->cert)) == 1
		       ? 0
		       : pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
				 "%s was not issued by the CA in %s", path, ca_dir);
}

/* A certificate of ours that stands. */
static int check_own(struct pki_sentence *sentence, const char *ca_dir, const char *path,
	const struct authority *authority, X509 *cert)
{
	X509_CRL *crl;
	X509_REVOKED *entry;
	int r = check_issued(sentence, ca_dir, path, authority, cert);

	if (r)
		return r;
	crl = pki_read_crl(sentence, ca_dir);
	if (!crl)
		return VMSIG_ERR_IO;
	if (X509_CRL_get0_by_cert(crl, &entry, cert) == 1)
		r = pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"%s is revoked, and is not renewed; issue another identity", path);
	X509_CRL_free(crl);
	return r;
}

/* Whoever may write to the folder of one role does not get a certificate of another. */
static int check_role(
	struct pki_sentence *sentence, const char *path, const char *uri, const char *role)
{
	const char *own = uri + strlen("vmsig://");
	size_t len = strcspn(own, "/");

	if (!role || (strlen(role) == len && strncmp(own, role, len) == 0))
		return 0;
	return pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
		"%s is for %s, and only one of the role %s is to be renewed; issue a new one there",
		path, uri, role);
}

static int renew(struct pki_sentence *sentence, const char *ca_dir, const char *dir,
	const char *path, const struct pki_how *how, X509 *old)
{
	struct authority authority = {0};
	char uri[PKI_URI_MAX];
	X509 *cert = NULL;
	int r = pki_cert_uri(sentence, path, old, uri);

	if (!r)
		r = check_role(sentence, path, uri, how->role);
	if (!r)
		r = authority_load(sentence, ca_dir, how, &authority);
	if (!r)
		r = check_own(sentence, ca_dir, path, &authority, old);
	if (!r)
		r = certify(
			sentence, ca_dir, &authority, X509_get0_pubkey(old), uri, how->days, &cert);
	if (!r)
		r = pki_write(sentence, dir, "cert.pem", pki_encode_cert, cert, 0644, true);
	X509_free(cert);
	authority_deinit(&authority);
	return r;
}

int pki_renew(const char *ca_dir, const char *dir, const struct pki_how *how, bool *ret_done,
	char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	char path[PATH_MAX];
	X509 *old;
	int r = 0;

	pki_path(path, dir, "cert.pem");
	old = pki_read_cert(&sentence, path);
	if (!old)
		return VMSIG_ERR_IO;
	*ret_done = is_due(X509_get0_notAfter(old), how->within);
	if (*ret_done)
		r = renew(&sentence, ca_dir, dir, path, how, old);
	X509_free(old);
	return r;
}

/* ---- the revocation list ---- */

static bool crl_sign(X509_CRL *crl, const struct authority *authority, unsigned days)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
	ASN1_TIME *next = X509_gmtime_adj(NULL, DAY_S * (long)days);
	bool ok = now && next && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
		  X509_CRL_set_issuer_name(crl, X509_get_subject_name(authority->cert)) &&
		  X509_CRL_set1_lastUpdate(crl, now) && X509_CRL_set1_nextUpdate(crl, next) &&
		  X509_CRL_sort(crl) &&
		  X509_CRL_sign(crl, authority->key, pki_key_digest(authority->key));

	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	return ok;
}

static int crl_write(struct pki_sentence *sentence, const char *ca_dir, X509_CRL *crl,
	const struct authority *authority, unsigned days)
{
	if (!crl_sign(crl, authority, days))
		return pki_complain_openssl(sentence, "write the revocation list");
	return pki_write(sentence, ca_dir, "crl.pem", pki_encode_crl, crl, 0644, true);
}

int pki_renew_crl(const char *ca_dir, const struct pki_how *how, bool *ret_done, char *error,
	size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	X509_CRL *crl = pki_read_crl(&sentence, ca_dir);
	int r = 0;

	if (!crl)
		return VMSIG_ERR_IO;
	*ret_done = is_due(X509_CRL_get0_nextUpdate(crl), how->within);
	if (*ret_done)
		r = authority_load(&sentence, ca_dir, how, &authority);
	if (*ret_done && !r)
		r = crl_write(&sentence, ca_dir, crl, &authority, how->days);
	X509_CRL_free(crl);
	authority_deinit(&authority);
	return r;
}

static bool crl_add(X509_CRL *crl, const ASN1_INTEGER *serial)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
	X509_REVOKED *revoked = X509_REVOKED_new();
	bool ok = now && revoked &&
		  X509_REVOKED_set_serialNumber(revoked, (ASN1_INTEGER *)(uintptr_t)serial) &&
		  X509_REVOKED_set_revocationDate(revoked, now) &&
		  X509_CRL_add0_revoked(crl, revoked);

	if (!ok)
		X509_REVOKED_free(revoked);
	ASN1_TIME_free(now);
	return ok;
}

/* ---- the index ---- */

static enum pki_state state_of(X509_CRL *crl, const char *serial_text, const char *until)
{
	BIGNUM *number = NULL;
	ASN1_INTEGER *serial = NULL;
	X509_REVOKED *entry;
	time_t now = time(NULL);
	struct tm tm;
	char today[32];
	bool revoked;

	if (BN_hex2bn(&number, serial_text))
		serial = BN_to_ASN1_INTEGER(number, NULL);
	revoked = serial && X509_CRL_get0_by_serial(crl, &entry, serial) == 1;
	ASN1_INTEGER_free(serial);
	BN_free(number);
	if (revoked)
		return PKI_REVOKED;
	strftime(today, sizeof(today), "%Y-%m-%d", gmtime_r(&now, &tm));
	return strcmp(until, today) < 0 ? PKI_EXPIRED : PKI_VALID;
}

static bool list_line(X509_CRL *crl, char *line,
	bool (*each)(void *ctx, const struct pki_entry *entry), void *ctx)
{
	struct pki_entry entry;
	char *rest = NULL;

	entry.serial = strtok_r(line, " \n", &rest);
	entry.role = entry.serial ? strtok_r(NULL, " \n", &rest) : NULL;
	entry.name = entry.role ? strtok_r(NULL, " \n", &rest) : NULL;
	entry.until = entry.name ? strtok_r(NULL, " \n", &rest) : NULL;
	if (!entry.until)
		return true;
	entry.state = state_of(crl, entry.serial, entry.until);
	return each(ctx, &entry);
}

/* One that has issued nothing yet has its key. */
static bool is_authority(const char *dir)
{
	char path[PATH_MAX];

	pki_path(path, dir, "ca.key");
	return access(path, F_OK) == 0;
}

int pki_list(const char *ca_dir, bool (*each)(void *ctx, const struct pki_entry *entry), void *ctx,
	char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	char path[PATH_MAX], line[INDEX_LINE_MAX];
	X509_CRL *crl = pki_read_crl(&sentence, ca_dir);
	FILE *file;

	if (!crl)
		return VMSIG_ERR_IO;
	pki_path(path, ca_dir, INDEX);
	file = fopen(path, "re");
	if (!file && errno != ENOENT) {
		X509_CRL_free(crl);
		return pki_complain(
			&sentence, VMSIG_ERR_IO, "cannot read %s: %s", path, strerror(errno));
	}
	if (!file && !is_authority(ca_dir)) {
		X509_CRL_free(crl);
		return pki_complain(&sentence, VMSIG_ERR_IO,
			"%s is no authority's folder (it has neither ca.key nor " INDEX
			"); make one with `vmsigctl pki init`",
			ca_dir);
	}
	while (file && fgets(line, sizeof(line), file) && list_line(crl, line, each, ctx))
		;
	if (file)
		fclose(file);
	X509_CRL_free(crl);
	return 0;
}

/* ---- revoking ---- */

static ASN1_INTEGER *serial_parse(const char *text)
{
	ASN1_INTEGER *serial;
	BIGNUM *number = NULL;

	if (text[0] && strspn(text, "0123456789abcdefABCDEF") == strlen(text) && strlen(text) <= 40)
		(void)BN_hex2bn(&number, text);
	serial = number ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
	BN_free(number);
	return serial;
}

struct wanted_serial {
	const ASN1_INTEGER *serial;
	bool found;
};

static bool is_wanted_serial(void *ctx, const struct pki_entry *entry)
{
	struct wanted_serial *wanted = ctx;
	ASN1_INTEGER *serial = serial_parse(entry->serial);

	wanted->found = serial && ASN1_INTEGER_cmp(serial, wanted->serial) == 0;
	ASN1_INTEGER_free(serial);
	return !wanted->found;
}

/* Of one that was never issued nobody would have to be kept out. */
static int serial_given(struct pki_sentence *sentence, const char *ca_dir, const char *text,
	ASN1_INTEGER **ret_serial)
{
	struct wanted_serial wanted = {.serial = serial_parse(text)};
	int r = wanted.serial
			? pki_list(
				  ca_dir, is_wanted_serial, &wanted, sentence->text, sentence->size)
			: pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
				  "'%s' is no serial; take one that `vmsigctl pki ls` shows", text);

	if (!r && !wanted.found)
		r = pki_complain(sentence, VMSIG_ERR_BAD_REQUEST,
			"the CA in %s has issued nothing with the serial '%s'; take one that "
			"`vmsigctl pki ls` shows, or name the certificate's file",
			ca_dir, text);
	if (r)
		ASN1_INTEGER_free((ASN1_INTEGER *)(uintptr_t)wanted.serial);
	else
		*ret_serial = (ASN1_INTEGER *)(uintptr_t)wanted.serial;
	return r;
}

/* `named` is a certificate, or an identity's folder. */
static int serial_of(struct pki_sentence *sentence, const char *ca_dir, const char *named,
	const struct authority *authority, ASN1_INTEGER **ret_serial)
{
	char path[PATH_MAX];
	const char *cert_file = named;
	struct stat st;
	X509 *cert;
	int r;

	if (stat(named, &st) == 0 && S_ISDIR(st.st_mode)) {
		pki_path(path, named, "cert.pem");
		cert_file = path;
	}
	cert = pki_read_cert(sentence, cert_file);
	r = cert ? check_issued(sentence, ca_dir, cert_file, authority, cert) : VMSIG_ERR_IO;

	if (!r)
		*ret_serial = ASN1_INTEGER_dup(X509_get0_serialNumber(cert));
	X509_free(cert);
	return r;
}

int pki_revoke(const char *ca_dir, const char *cert_file, const char *text,
	const struct pki_how *how, char *error, size_t error_size)
{
	struct pki_sentence sentence = {error, error_size};
	struct authority authority = {0};
	ASN1_INTEGER *serial = NULL;
	X509_CRL *crl = NULL;
	X509_REVOKED *entry;
	int r = authority_load(&sentence, ca_dir, how, &authority);

	if (!r)
		r = cert_file ? serial_of(&sentence, ca_dir, cert_file, &authority, &serial)
			      : serial_given(&sentence, ca_dir, text, &serial);
	if (!r) {
		crl = pki_read_crl(&sentence, ca_dir);
		r = crl ? 0 : VMSIG_ERR_IO;
	}
	if (!r && X509_CRL_get0_by_serial(crl, &entry, serial) == 1)
		r = pki_complain(&sentence, VMSIG_ERR_BAD_REQUEST, "%s is revoked already",
			cert_file ? cert_file : text);
	if (!r && !crl_add(crl, serial))
		r = pki_complain_openssl(&sentence, "write the revocation list");
	if (!r)
		r = crl_write(&sentence, ca_dir, crl, &authority, how->days);
	X509_CRL_free(crl);
	ASN1_INTEGER_free(serial);
	authority_deinit(&authority);
	return r;
}
