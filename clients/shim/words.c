/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/words.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* What is left of the word at *at is moved to *to; both go behind it. */
static enum words_error take_word(const char **at, char **to)
{
	const char *from = *at;
	char quote = '\0';

	for (; *from && (quote || !is_blank(*from)); from++) {
		if (quote ? *from == quote : *from == '\'' || *from == '"') {
			quote = quote ? '\0' : *from;
			continue;
		}
		if (*from == '\\' && quote != '\'' && !*++from)
			return WORDS_QUOTE;
		*(*to)++ = *from;
	}
	*at = from;
	return quote ? WORDS_QUOTE : WORDS_OK;
}

enum words_error words_split(char *line, char *ret_words[static WORDS_MAX], int *ret_count)
{
	const char *at = line;
	char *to = line;
	int count = 0;

	for (;;) {
		enum words_error error;
		bool is_last;

		while (is_blank(*at))
			at++;
		if (!*at || *at == '#')
			break;
		if (count == WORDS_MAX)
			return WORDS_MANY;
		ret_words[count++] = to;
		error = take_word(&at, &to);
		if (error)
			return error;
		is_last = !*at;
		/* The blank behind the word has been read, or its quotes made room. */
		*to++ = '\0';
		if (is_last)
			break;
		at++;
	}
	*ret_count = count;
	return WORDS_OK;
}
