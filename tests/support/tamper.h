/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_TAMPER_H
#define TESTS_SUPPORT_TAMPER_H

/*
 * Somebody who can write to the state directory, and knows the journal's format: sums fit again
 * after each of these.
 */

#include <stdint.h>

enum tamper {
	TAMPER_BODY,   /* the record says something else */
	TAMPER_HASH,   /* and its hash is another */
	TAMPER_SWAP,   /* it changes places with the one behind it */
	TAMPER_REMOVE, /* it is gone, and those behind it have moved up */
	TAMPER_CUT,    /* nothing is behind it any more */
	TAMPERS,
};

/* Does that to the audit record `id`, which the newest segment in state_dir/journal has. */
void tamper_with(const char *state_dir, enum tamper tamper, uint64_t id);

#endif
