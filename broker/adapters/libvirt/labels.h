/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_LABELS_H
#define BROKER_ADAPTERS_LIBVIRT_LABELS_H

/*
 * Labels of a domain: a list of "KEY=VALUE", one of a key, keys as those of the configuration. What
 * is written in metadata comes from whoever may define domains; what is no label is left out, and
 * what is beyond LABELS_MAX too. Pure.
 */

#include <stddef.h>

#define LABELS_MAX 64
#define LABELS_VALUE_MAX 191 /* bytes, as in the configuration */

/* Adds the words of a text. The first of a key counts. -ENOMEM. */
__attribute__((warn_unused_result)) int labels_add(
	char ***labels, size_t *nlabels, const char *text);
/* One label; none if the value is not a single word of LABELS_VALUE_MAX bytes at most: a part of it
 * would be somebody else's. -ENOMEM. */
__attribute__((warn_unused_result)) int labels_add_pair(
	char ***labels, size_t *nlabels, const char *key, const char *value);
/* Likewise of an XML element's text; one that has elements or references in it has none. */
__attribute__((warn_unused_result)) int labels_add_element(
	char ***labels, size_t *nlabels, const char *element);
/* Accepts NULL. */
void labels_free(char **labels, size_t nlabels);

#endif
