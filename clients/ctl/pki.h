/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_H
#define CLIENTS_CTL_PKI_H

/*
 * A small certificate authority for one host, or for several: keys of EC P-256 or Ed25519,
 * certificates whose one URI SAN is vmsig://<role>/<name>. Files are written whole or not at all,
 * keys with mode 0600; nothing but renewed certificates and the revocation list is overwritten.
 *
 * In the CA's folder: ca.pem, ca.key (which may be encrypted), crl.pem, and index.txt, one line for
 * each certificate: serial, role, name, last day. In an identity's folder: key.pem, cert.pem,
 * ca.pem, as --identity takes them.
 *
 * A key need not be where the CA is: pki_request() makes it with a request, and pki_sign() turns
 * that into a certificate. The signer says for whom; of the request nothing but the key is taken.
 *
 *   pki          the authority's work
 *   pki_command  its command line
 *   pki_how      in which way
 *   pki_folder   files
 *   pki_key      private keys
 *   pki_cert     certificates and requests
 */

#include <stdbool.h>
#include <stddef.h>

#include "clients/ctl/pki_how.h"

/* 0 or a positive enum vmsig_error; `error` gets a sentence. */
__attribute__((warn_unused_result)) int pki_init(const char *dir, const char *name,
	const struct pki_how *how, char *error, size_t error_size);
__attribute__((warn_unused_result)) int pki_issue(const char *ca_dir, const char *role,
	const char *name, const char *out_dir, const struct pki_how *how, char *error,
	size_t error_size);
/* key.pem and request.pem in the folder. */
__attribute__((warn_unused_result)) int pki_request(const char *role, const char *name,
	const char *out_dir, const struct pki_how *how, char *error, size_t error_size);
/* cert.pem and ca.pem in the folder, for the key of a request that asks for this role and name. */
__attribute__((warn_unused_result)) int pki_sign(const char *ca_dir, const char *request,
	const char *role, const char *name, const char *out_dir, const struct pki_how *how,
	char *error, size_t error_size);
/* A new certificate for the key of an identity, which takes the place of cert.pem in one step.
 * *ret_done: it was not too early for it. */
__attribute__((warn_unused_result)) int pki_renew(const char *ca_dir, const char *dir,
	const struct pki_how *how, bool *ret_done, char *error, size_t error_size);
/* Signs crl.pem anew, or makes an empty one. */
__attribute__((warn_unused_result)) int pki_renew_crl(const char *ca_dir, const struct pki_how *how,
	bool *ret_done, char *error, size_t error_size);
/* Adds a certificate, by its file or by its serial (the other is NULL), to crl.pem in the CA's
 * folder. */
__attribute__((warn_unused_result)) int pki_revoke(const char *ca_dir, const char *cert_file,
	const char *serial, const struct pki_how *how, char *error, size_t error_size);

enum pki_state { PKI_VALID, PKI_EXPIRED, PKI_REVOKED };

struct pki_entry {
	const char *serial, *role, *name, *until; /* the last day, in UTC */
	enum pki_state state;
};

/* All certificates that the CA has made, oldest first. `each` returns false to end. */
__attribute__((warn_unused_result)) int pki_list(const char *ca_dir,
	bool (*each)(void *ctx, const struct pki_entry *entry), void *ctx, char *error,
	size_t error_size);

#endif
