/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_CERT_H
#define CLIENTS_CTL_PKI_CERT_H

/* What is signed: certificates of authorities and identities, and requests for the latter. */

#include "clients/ctl/pki_folder.h"

#define PKI_URI_MAX 128

/* vmsig://ROLE/NAME, checked. 0 or VMSIG_ERR_BAD_REQUEST. */
__attribute__((warn_unused_result)) int pki_uri(struct pki_sentence *sentence, const char *role,
	const char *name, char uri[static PKI_URI_MAX]);

/* All three: NULL without a sentence. `days` from now. */
X509 *pki_cert_authority(EVP_PKEY *key, const char *name, unsigned days);
X509 *pki_cert_identity(EVP_PKEY *key, const char *name, const char *uri, unsigned days,
	X509 *issuer, EVP_PKEY *issuer_key);
X509_REQ *pki_cert_request(EVP_PKEY *key, const char *name, const char *uri);

/* The only URI that it is for, or asks for. 0 or VMSIG_ERR_BAD_REQUEST. */
__attribute__((warn_unused_result)) int pki_cert_uri(struct pki_sentence *sentence,
	const char *path, const X509 *cert, char uri[static PKI_URI_MAX]);
__attribute__((warn_unused_result)) int pki_cert_request_uri(struct pki_sentence *sentence,
	const char *path, X509_REQ *request, char uri[static PKI_URI_MAX]);

#endif
