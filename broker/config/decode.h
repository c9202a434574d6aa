/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_DECODE_H
#define BROKER_CONFIG_DECODE_H

/*
 * Decodes a YAML document into C structs by tables of fields: what a key means, where its
 * value goes, its bounds and its default are data. An error names file, line, what is wrong
 * and what to write instead.
 *
 * Memory: strings and lists are allocated into the struct, also when decoding fails half
 * way; decode_free() with the same table releases them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/config/decode_type.h"

struct decode_choice {
	const char *name;
	int value;
};

struct decode_field {
	const char *key; /* NULL ends a table */
	enum decode_type type;
	size_t offset;       /* of the value in the struct */
	size_t count_offset; /* lists: of the size_t count */
	size_t given_offset; /* of a bool that says the key was there; 0: none */
	uint64_t min, max;   /* numbers: bounds in the stored unit; lists: of the count */
	uint64_t standard;   /* numbers and enums: value when the key is absent */
	const char *standard_string;
	bool required;
	const struct decode_choice *choices; /* ENUM; a NULL name ends it */
	const struct decode_field *fields;   /* MAP, LIST */
	size_t size;                         /* LIST: of one struct */
};

/* 0, VMSIG_ERR_BAD_REQUEST or -errno. `*ret_lines`, made on success unless ret_lines is NULL,
 * tells where a list's element stands, for checks that the tables cannot express. */
struct decode_lines;
__attribute__((warn_unused_result)) int decode_file(const char *file,
	const struct decode_field *fields, void *object, struct decode_lines **ret_lines,
	char *error, size_t error_size);
/* The same of a text, which `name` stands for in errors; paths are taken from the folder of the
 * file `beside`. */
__attribute__((warn_unused_result)) int decode_text(const char *name, const char *text,
	const char *beside, const struct decode_field *fields, void *object, char *error,
	size_t error_size);
void decode_free(const struct decode_field *fields, void *object);

/* Line (from 1) of element `index` of the top-level list `key`; 0 when unknown. */
unsigned decode_line(const struct decode_lines *lines, const char *key, size_t index);
/* Line (from 1) of what "KEY/INDEX/KEY..." names; 0: it is not there, and a default holds. */
unsigned decode_line_of(const struct decode_lines *lines, const char *path);
/* Whether the document ends with a line "...", as whoever writes one can show that it is whole. */
bool decode_is_ended(const struct decode_lines *lines);
struct decode_lines *decode_lines_free(struct decode_lines *lines);

#endif
