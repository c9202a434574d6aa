/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_PKI_H
#define TESTS_SUPPORT_PKI_H

/*
 * A certificate authority for tests, in a temporary directory of its own. Everything is made
 * at run time with P-256 keys. Any failure prints a sentence and aborts the test process.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/wire/tls.h"

struct pki;

/* Files of one certificate; the key has mode 0600. */
struct pki_cert {
	char cert[PATH_MAX];
	char key[PATH_MAX];
	long serial;
};

struct pki_request {
	const char *const *uris; /* URI SANs, NULL-terminated; NULL: none */
	bool loopback;           /* the SAN 127.0.0.1, for a server there */
	long not_before;         /* seconds from now; 0: an hour ago */
	long not_after;          /* seconds from now; 0: in a day */
};

struct pki *pki_new(void);
/* Removes the directory and what is in it. Accepts NULL, returns NULL. */
struct pki *pki_free(struct pki *pki);

const char *pki_dir(const struct pki *pki);
/* Path of the CA's certificate. */
const char *pki_ca(const struct pki *pki);

/* Issues dir/NAME.crt and dir/NAME.key. */
void pki_issue(struct pki *pki, const char *name, const struct pki_request *request,
	struct pki_cert *ret_cert);
/* The same for one URI and a day. */
void pki_issue_uri(struct pki *pki, const char *name, const char *uri, struct pki_cert *ret_cert);

/* Puts the serial on the revocation list, which the next pki_crl() writes. */
void pki_revoke(struct pki *pki, const struct pki_cert *cert);
/* Writes the current list, also an empty one, and returns its path. */
const char *pki_crl(struct pki *pki);

/* For tls_ctx_new(); crl may be NULL. */
struct tls_files pki_files(const struct pki *pki, const struct pki_cert *cert, const char *crl);

#endif
