/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_POLICY_SELECTOR_H
#define BROKER_POLICY_SELECTOR_H

/*
 * How the policy names endpoints, in a tenant's `endpoints` and in those of its write rules:
 *
 *   web*               a glob (fnmatch(3)) of the name
 *   label:env=prod     those with that label; what is behind "label:" is a glob of KEY=VALUE
 *
 * A name has no colon in it, so neither can be mistaken for the other. An endpoint's labels are a
 * sorted list of "KEY=VALUE", one of a key, from the configuration or from what discovered it.
 * Pure.
 */

#include <stdbool.h>
#include <stddef.h>

#define SELECTOR_LABEL "label:"

/* What is selected, or not. Borrowed. */
struct selector_subject {
	const char *name;
	char *const *labels;
	size_t nlabels;
};

/* One without labels. */
static inline struct selector_subject selector_named(const char *name)
{
	return (struct selector_subject){.name = name};
}

bool selector_matches(const char *selector, const struct selector_subject *subject);
/* The first that matches, or `n`. */
size_t selector_find(char *const *selectors, size_t n, const struct selector_subject *subject);

/* A copy of the labels: *ret_labels is NULL for none. -ENOMEM. */
__attribute__((warn_unused_result)) int selector_labels_copy(
	char ***ret_labels, char *const *labels, size_t n);
/* Accepts NULL. */
void selector_labels_free(char **labels, size_t n);

#endif
