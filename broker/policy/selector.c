/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy/selector.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static bool matches_label(const char *glob, const struct selector_subject *subject)
{
	for (size_t i = 0; i < subject->nlabels; i++) {
		if (fnmatch(glob, subject->labels[i], 0) == 0)
			return true;
	}
	return false;
}

bool selector_matches(const char *selector, const struct selector_subject *subject)
{
	static const size_t len = sizeof(SELECTOR_LABEL) - 1;

	if (strncmp(selector, SELECTOR_LABEL, len) == 0)
		return matches_label(selector + len, subject);
	return fnmatch(selector, subject->name, 0) == 0;
}

size_t selector_find(char *const *selectors, size_t n, const struct selector_subject *subject)
{
	size_t i = 0;

	while (i < n && !selector_matches(selectors[i], subject))
		i++;
	return i;
}

int selector_labels_copy(char ***ret_labels, char *const *labels, size_t n)
{
	char **copy = NULL;

	if (n) {
		copy = calloc(n, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(labels[i]);
		if (!copy[i]) {
			selector_labels_free(copy, n);
			return -ENOMEM;
		}
	}
	*ret_labels = copy;
	return 0;
}

void selector_labels_free(char **labels, size_t n)
{
	for (size_t i = 0; labels && i < n; i++)
		free(labels[i]);
	free(labels);
}
