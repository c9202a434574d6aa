/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_NEAREST_H
#define PROTO_NEAREST_H

/*
 * Which of some names was meant by a word that is none of them: the one that the fewest letters
 * lie between, left out, put in, changed or swapped with the next. A word that is far from all of
 * them has no nearest one.
 */

struct nearest {
	const char *word;
	const char *name; /* the nearest so far, one of those that were offered; or NULL */
	unsigned distance;
};

/* `word` is borrowed, and so are the names. */
struct nearest nearest_to(const char *word);
void nearest_offer(struct nearest *nearest, const char *name);

#endif
