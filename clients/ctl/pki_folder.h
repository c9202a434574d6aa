/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_FOLDER_H
#define CLIENTS_CTL_PKI_FOLDER_H

/*
 * Folders of the certificate authority and of identities: PEM files that are written whole or not
 * at all, and read back. A sentence says what went wrong, with the file's name.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

struct pki_sentence {
	char *text;
	size_t size;
};

/* Sets the sentence, forgets OpenSSL's errors, and returns `error`. */
__attribute__((format(printf, 3, 4))) int pki_complain(
	struct pki_sentence *sentence, int error, const char *format, ...);
/* "cannot `what`", with OpenSSL's reason. */
int pki_complain_openssl(struct pki_sentence *sentence, const char *what);

void pki_path(char path[static PATH_MAX], const char *dir, const char *file);
/* Makes it if it is not there; either way only its owner may enter, and with `holds_keys` that has
 * to be this user. */
__attribute__((warn_unused_result)) int pki_folder_make(
	struct pki_sentence *sentence, const char *dir, bool holds_keys);
__attribute__((warn_unused_result)) int pki_append(
	struct pki_sentence *sentence, const char *dir, const char *file, const char *line);

/* How one kind of object is encoded. */
typedef int (*pki_encode_fn)(BIO *bio, const void *object);
int pki_encode_cert(BIO *bio, const void *object);
int pki_encode_request(BIO *bio, const void *object);
int pki_encode_crl(BIO *bio, const void *object);
int pki_encode_key(BIO *bio, const void *object);
int pki_encode_sealed(BIO *bio, const void *object); /* an encrypted key, X509_SIG */

/* One PEM file. Unless `replace` it must not be there yet. */
__attribute__((warn_unused_result)) int pki_write(struct pki_sentence *sentence, const char *dir,
	const char *file, pki_encode_fn encode, const void *object, mode_t mode, bool replace);

/* NULL after a sentence. */
X509 *pki_read_cert(struct pki_sentence *sentence, const char *path);
X509_REQ *pki_read_request(struct pki_sentence *sentence, const char *path);
/* The list in the folder; an empty one when there is none. NULL after a sentence: it cannot be
 * read, and what it revokes must not be forgotten. */
X509_CRL *pki_read_crl(struct pki_sentence *sentence, const char *dir);

#endif
