/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_PKI_HOW_H
#define CLIENTS_CTL_PKI_HOW_H

/* In which way keys are made, and things signed: the options of `vmsigctl pki`. */

#include <stdbool.h>

struct pki_how {
	const char *key_type;        /* of new keys: p256, ed25519; NULL: p256 */
	const char *passphrase_file; /* of an encrypted CA key; NULL: asked on the terminal */
	bool encrypt;                /* the new CA key */
	unsigned days;               /* from now that what is signed holds */
	unsigned within;             /* renewals: only if no more days are left; 0: always */
	const char *role;            /* renewals: only of this one; NULL: of any */
};

#endif
