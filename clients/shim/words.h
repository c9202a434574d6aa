/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_WORDS_H
#define CLIENTS_SHIM_WORDS_H

/*
 * A command line's words, as sh(1) has them as far as that makes sense here: blanks part them,
 * '...' and "..." keep what is inside as it is, a \ outside of '...' keeps the character
 * behind it, a # at the start of a word begins a comment.
 */

#include <stdbool.h>
#include <stddef.h>

#define WORDS_MAX 8 /* of a line */

enum words_error {
	WORDS_OK = 0,
	WORDS_QUOTE = 1, /* a quote, or the character behind a \, is missing */
	WORDS_MANY = 2,  /* more than WORDS_MAX */
};

/* Takes `line` apart in place; the words point into it. */
__attribute__((warn_unused_result)) enum words_error words_split(
	char *line, char *ret_words[static WORDS_MAX], int *ret_count);

#endif
