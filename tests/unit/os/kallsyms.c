/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/os/kallsyms.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PERCPU 10u /* the first symbols, in kernels whose per-CPU ones are absolute */

struct writer {
	uint8_t *image;
	size_t at;
};

static bool has_percpu(enum kallsyms_shape shape)
{
	return shape == KALLSYMS_5_10 || shape == KALLSYMS_6_1 || shape == KALLSYMS_6_12;
}

void kallsyms_name(enum kallsyms_shape shape, unsigned i, char ret_name[static 256])
{
	static const char types[] = "TtDdBbRrVW";

	if (i == KALLSYMS_LONG && shape != KALLSYMS_5_10 && shape != KALLSYMS_ABSOLUTE)
		snprintf(ret_name, 256, "T%0200u", i);
	else
		snprintf(ret_name, 256, "%csymbol_%u.cold", types[i % 10], i);
}

uint64_t kallsyms_addr(enum kallsyms_shape shape, unsigned i, uint64_t base)
{
	if (has_percpu(shape) && i < PERCPU)
		return i * 64;
	return base + (uint64_t)i * 1024;
}

static void put(struct writer *writer, uint64_t value, size_t size)
{
	memcpy(writer->image + writer->at, &value, size);
	writer->at += size;
}

static void align(struct writer *writer, size_t to)
{
	writer->at = (writer->at + to - 1) & ~(to - 1);
}

/* Word i is the character i; of what no name has it is empty, but for one that is longer. */
static size_t word(unsigned i, char ret_word[static 8])
{
	bool single = (i >= '0' && i <= '9') || (i >= 'A' && i <= 'Z') || (i >= 'a' && i <= 'z') ||
		      i == '_' || i == '.';

	if (i == 0 || i == 200)
		return (size_t)snprintf(ret_word, 8, "symbol_");
	ret_word[0] = (char)i;
	ret_word[1] = 0;
	return single ? 1 : 0;
}

/* The words of a name; symbol_ is one. */
static size_t words_of(const char *name, uint8_t *ret_words)
{
	size_t n = 0;

	for (const char *at = name; *at; n++) {
		if (at > name && strncmp(at, "symbol_", 7) == 0) {
			ret_words[n] = 200;
			at += 7;
		} else {
			ret_words[n] = (uint8_t)*at++;
		}
	}
	return n;
}

static void put_names(struct writer *writer, enum kallsyms_shape shape, uint32_t *marks)
{
	size_t start = writer->at;

	for (unsigned i = 0; i < KALLSYMS_COUNT; i++) {
		uint8_t words[256];
		char name[256];
		size_t n;

		kallsyms_name(shape, i, name);
		n = words_of(name, words);
		if (i % 256 == 0)
			marks[i / 256] = (uint32_t)(writer->at - start);
		if (n > 127)
			put(writer, (n & 0x7f) | 0x80, 1);
		put(writer, n > 127 ? n >> 7 : n, 1);
		memcpy(writer->image + writer->at, words, n);
		writer->at += n;
	}
}

static void put_words(struct writer *writer)
{
	uint16_t index[256];
	char text[8];

	align(writer, 8);
	for (unsigned i = 0, start = (unsigned)writer->at; i < 256; i++) {
		size_t len = word(i, text);

		index[i] = (uint16_t)(writer->at - start);
		memcpy(writer->image + writer->at, text, len);
		writer->at += len + 1;
		writer->image[writer->at - 1] = 0;
	}
	align(writer, 8);
	memcpy(writer->image + writer->at, index, sizeof(index));
	writer->at += sizeof(index);
}

static void put_offsets(
	struct writer *writer, enum kallsyms_shape shape, uint64_t gva, uint64_t base)
{
	align(writer, 8);
	for (unsigned i = 0; i < KALLSYMS_COUNT; i++) {
		uint64_t addr = kallsyms_addr(shape, i, base);

		if (shape == KALLSYMS_ABSOLUTE)
			put(writer, addr, 8);
		else if (shape == KALLSYMS_7_0)
			put(writer, addr - (gva + writer->at), 4);
		else if (shape == KALLSYMS_6_16)
			put(writer, addr - base, 4);
		else
			put(writer, addr < base ? addr : base - 1 - addr, 4);
	}
	align(writer, 8);
	if (shape != KALLSYMS_7_0 && shape != KALLSYMS_ABSOLUTE)
		put(writer, base, 8);
}

static void put_number_and_names(struct writer *writer, enum kallsyms_shape shape)
{
	uint32_t marks[(KALLSYMS_COUNT + 255) / 256];

	put(writer, KALLSYMS_COUNT, 4);
	align(writer, 8);
	put_names(writer, shape, marks);
	align(writer, 8);
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		put(writer, marks[i], shape == KALLSYMS_ABSOLUTE ? 8 : 4);
}

void kallsyms_write(enum kallsyms_shape shape, uint8_t image[static KALLSYMS_IMAGE], uint64_t gva,
	uint64_t base)
{
	bool last = shape >= KALLSYMS_6_12 && shape != KALLSYMS_ABSOLUTE;
	struct writer writer = {.image = image, .at = 4096};

	if (!last)
		put_offsets(&writer, shape, gva, base);
	align(&writer, 8);
	put_number_and_names(&writer, shape);
	/* Bytes that look like a part of the first word. */
	if (shape == KALLSYMS_6_1) {
		align(&writer, 8);
		memset(image + writer.at, 'x', 3 * KALLSYMS_COUNT);
		writer.at += 3 * KALLSYMS_COUNT;
	}
	put_words(&writer);
	if (last)
		put_offsets(&writer, shape, gva, base);
}
