/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/nearest.h"

#include <stddef.h>
#include <string.h>

#define LEN_MAX 32u     /* longer words are nobody's slip */
#define DISTANCE_MAX 2u /* more letters than these make another word */

static unsigned smaller(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* What it takes to make `row` letters of `a` out of `column` letters of `b`, from what it took
 * for fewer of both: the rows before are in `before` and `earlier`. */
static unsigned step(const char *a, const char *b, size_t row, size_t column,
	const unsigned *before, const unsigned *earlier, const unsigned *current)
{
	unsigned cost = before[column - 1] + (a[row - 1] != b[column - 1]);

	cost = smaller(cost, smaller(before[column], current[column - 1]) + 1);
	if (row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1])
		cost = smaller(cost, earlier[column - 2] + 1);
	return cost;
}

static unsigned distance_of(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned rows[3][LEN_MAX + 1];
	unsigned *earlier = rows[0], *before = rows[1], *current = rows[2], *free_row;

	for (size_t column = 0; column <= b_len; column++)
		before[column] = earlier[column] = (unsigned)column;
	for (size_t row = 1; row <= a_len; row++) {
		current[0] = (unsigned)row;
		for (size_t column = 1; column <= b_len; column++)
			current[column] = step(a, b, row, column, before, earlier, current);
		free_row = earlier;
		earlier = before;
		before = current;
		current = free_row;
	}
	return before[b_len];
}

struct nearest nearest_to(const char *word)
{
	return (struct nearest){.word = word, .distance = DISTANCE_MAX + 1};
}

void nearest_offer(struct nearest *nearest, const char *name)
{
	size_t word_len = strlen(nearest->word), name_len = strlen(name);
	unsigned distance;

	if (word_len > LEN_MAX || name_len > LEN_MAX)
		return;
	distance = distance_of(nearest->word, word_len, name, name_len);
	/* Of a short word nothing is left when two letters in three are others. */
	if (distance < nearest->distance && 2 * distance <= word_len) {
		nearest->name = name;
		nearest->distance = distance;
	}
}
