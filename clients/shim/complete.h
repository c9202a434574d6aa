/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_COMPLETE_H
#define CLIENTS_SHIM_COMPLETE_H

/* What can stand where the cursor is. */

#include <stddef.h>

#define COMPLETE_MAX 16 /* candidates */
#define COMPLETE_WORD 16

struct completion {
	size_t typed; /* bytes of the word before the cursor */
	size_t count;
	char words[COMPLETE_MAX][COMPLETE_WORD];
};

/* For the first `len` bytes of a line. */
void complete(const char *line, size_t len, struct completion *ret_completion);
/* How many bytes the candidates have in common; 0 without any. */
size_t complete_common(const struct completion *completion);

#endif
