/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/labels.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/scalar.h"

#define SPACE " \t\r\n"
#define KEY_MAX 63 /* scalar_is_name() */

static bool is_label(const char *word, size_t len)
{
	size_t key = strcspn(word, "=");
	char name[KEY_MAX + 1];

	if (key >= len || key > KEY_MAX || len - key - 1 > LABELS_VALUE_MAX)
		return false;
	memcpy(name, word, key);
	name[key] = '\0';
	return scalar_is_name(name);
}

static bool has_key(char *const *labels, size_t n, const char *word)
{
	size_t len = strcspn(word, "=") + 1;

	for (size_t i = 0; i < n; i++) {
		if (labels[i] && strncmp(labels[i], word, len) == 0)
			return true;
	}
	return false;
}

int labels_add(char ***labels, size_t *nlabels, const char *text)
{
	if (!*labels)
		*labels = calloc(LABELS_MAX, sizeof(**labels));
	if (!*labels)
		return -ENOMEM;
	for (text += strspn(text, SPACE); *text; text += strspn(text, SPACE)) {
		size_t len = strcspn(text, SPACE);

		if (*nlabels < LABELS_MAX && is_label(text, len) &&
			!has_key(*labels, *nlabels, text)) {
			(*labels)[*nlabels] = strndup(text, len);
			if (!(*labels)[*nlabels])
				return -ENOMEM;
			++*nlabels;
		}
		text += len;
	}
	return 0;
}

int labels_add_pair(char ***labels, size_t *nlabels, const char *key, const char *value)
{
	char text[KEY_MAX + LABELS_VALUE_MAX + 2];
	int n = snprintf(text, sizeof(text), "%s=%s", key, value);

	if (n < 0 || (size_t)n >= sizeof(text) || strpbrk(value, SPACE))
		return 0;
	return labels_add(labels, nlabels, text);
}

int labels_add_element(char ***labels, size_t *nlabels, const char *element)
{
	const char *begin = strchr(element, '>'), *end = strrchr(element, '<');
	char *text;
	int r;

	if (!begin || !end || end <= begin)
		return 0;
	text = strndup(begin + 1, (size_t)(end - begin - 1));
	if (!text)
		return -ENOMEM;
	r = strpbrk(text, "<>&") ? 0 : labels_add(labels, nlabels, text);
	free(text);
	return r;
}

void labels_free(char **labels, size_t nlabels)
{
	for (size_t i = 0; i < nlabels; i++)
		free(labels[i]);
	free(labels);
}
