/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_H
#define CLIENTS_CTL_PKI_H

/*
 * A small certificate authority for one host: EC P-256 keys, certificates whose one URI SAN
 * is vmsig://<role>/<name>. Files are written whole or not at all, keys with mode 0600;
 * nothing is overwritten.
 *
 * In the CA's folder: ca.pem, ca.key, and index.txt, one line for each certificate: serial,
 * role, name, last day. In an identity's folder: key.pem, cert.pem, ca.pem, as --identity
 * takes them.
 */

#include <stddef.h>

/* 0 or a positive enum vmsig_error; `error` gets a sentence. `days` is from now. */
__attribute__((warn_unused_result)) int pki_init(
	const char *dir, const char *name, unsigned days, char *error, size_t error_size);
__attribute__((warn_unused_result)) int pki_issue(const char *ca_dir, const char *role,
	const char *name, const char *out_dir, unsigned days, char *error, size_t error_size);
/* Adds a certificate to the CA's revocation list and writes crl.pem into the CA's folder. */
__attribute__((warn_unused_result)) int pki_revoke(
	const char *ca_dir, const char *cert_file, char *error, size_t error_size);

#endif
