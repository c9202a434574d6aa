/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/shim/complete.h"

#include <stdbool.h>
#include <string.h>

#include "clients/shim/command.h"

static void offer(struct completion *completion, const char *typed, const char *word, size_t len)
{
	if (len < completion->typed || memcmp(word, typed, completion->typed) != 0)
		return;
	if (completion->count == COMPLETE_MAX || len >= COMPLETE_WORD)
		return;
	memcpy(completion->words[completion->count], word, len);
	completion->words[completion->count++][len] = '\0';
}

static void offer_commands(struct completion *completion, const char *typed)
{
	const struct shim_command *command;

	for (size_t i = 0; (command = shim_command_at(i)); i++)
		offer(completion, typed, command->name, strlen(command->name));
}

static void offer_words(struct completion *completion, const char *typed, const char *words)
{
	while (*words) {
		size_t len = strcspn(words, " ");

		offer(completion, typed, words, len);
		words += len;
		words += strspn(words, " ");
	}
}

void complete(const char *line, size_t len, struct completion *ret_completion)
{
	static const char blanks[] = " \t";
	const struct shim_command *command = NULL;
	const char *end = line + len, *word = line;
	size_t number = 0; /* of the word; 0 is the command */

	*ret_completion = (struct completion){0};
	for (const char *at = line; at < end; at++) {
		if (!strchr(blanks, *at))
			continue;
		if (at > word) {
			if (number++ == 0)
				command = shim_command_find_name(word, (size_t)(at - word));
		}
		word = at + 1;
	}
	ret_completion->typed = (size_t)(end - word);
	if (number == 0)
		offer_commands(ret_completion, word);
	else if (command && number <= COMMAND_ARGUMENTS_MAX && command->words[number - 1]) {
		if (strcmp(command->words[number - 1], "*") == 0)
			offer_commands(ret_completion, word);
		else
			offer_words(ret_completion, word, command->words[number - 1]);
	}
}

size_t complete_common(const struct completion *completion)
{
	size_t common = completion->count ? strlen(completion->words[0]) : 0;

	for (size_t i = 1; i < completion->count; i++) {
		size_t n = 0;

		while (n < common && completion->words[i][n] == completion->words[0][n])
			n++;
		common = n;
	}
	return common;
}
