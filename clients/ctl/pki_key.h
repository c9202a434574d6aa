/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_KEY_H
#define CLIENTS_CTL_PKI_KEY_H

/*
 * Private keys: made, read, and encrypted with a passphrase, which comes from a file or is asked
 * for on the terminal, never from the command line that everybody sees.
 */

#include "clients/ctl/pki_folder.h"
#include "clients/ctl/pki_how.h"

/* A new one of how->key_type. NULL after a sentence. */
EVP_PKEY *pki_key_new(struct pki_sentence *sentence, const struct pki_how *how);
/* Into `file`, mode 0600; encrypted as `how` says. */
__attribute__((warn_unused_result)) int pki_key_write(struct pki_sentence *sentence,
	const char *dir, const char *file, EVP_PKEY *key, const struct pki_how *how);
/* NULL after a sentence. */
EVP_PKEY *pki_key_read(struct pki_sentence *sentence, const char *path, const struct pki_how *how);
/* What signatures by the key are made over; NULL: the algorithm has its own. */
const EVP_MD *pki_key_digest(const EVP_PKEY *key);

#endif
