/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/decode.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/document.h"
#include "broker/config/scalar.h"
#include "proto/nearest.h"
#include "vmsig/vmsig_error.h"

#define LABEL_VALUE_MAX 191u /* bytes */

struct decode_lines {
	struct document document;
};

struct decoder {
	const char *file;
	char folder[PATH_MAX];
	yaml_document_t *document;
	char *error;
	size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int complain(
	struct decoder *decoder, const yaml_node_t *node, const char *format, ...)
{
	int n = snprintf(decoder->error, decoder->error_size, "%s:%zu: ", decoder->file,
		node->start_mark.line + 1);
	va_list args;

	va_start(args, format);
	if (n >= 0 && (size_t)n < decoder->error_size)
		vsnprintf(decoder->error + n, decoder->error_size - (size_t)n, format, args);
	va_end(args);
	return VMSIG_ERR_BAD_REQUEST;
}

static const char *text(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

static void *at(void *object, size_t offset)
{
	return (char *)object + offset;
}

/* ---- scalars ---- */

static int decode_number(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, uint64_t *ret_value)
{
	char low[32], high[32];
	const char *example;
	int r = scalar_parse(field->type, text(node), ret_value, &example);

	if (r)
		return complain(decoder, node, "'%s' is no value for %s; write for example %s",
			text(node), field->key, example);
	if (*ret_value >= field->min && *ret_value <= field->max)
		return 0;
	scalar_format(field->type, field->min, low, sizeof(low));
	scalar_format(field->type, field->max, high, sizeof(high));
	return complain(decoder, node, "%s is %s; write a value from %s to %s", field->key,
		text(node), low, high);
}

static void store_number(const struct decode_field *field, void *object, uint64_t value)
{
	switch (field->type) {
	case DECODE_UINT32:
		*(uint32_t *)at(object, field->offset) = (uint32_t)value;
		break;
	case DECODE_MODE:
		*(mode_t *)at(object, field->offset) = (mode_t)value;
		break;
	case DECODE_BOOL:
		*(bool *)at(object, field->offset) = value != 0;
		break;
	case DECODE_ENUM:
		*(int *)at(object, field->offset) = (int)value;
		break;
	default:
		*(uint64_t *)at(object, field->offset) = value;
	}
}

static int decode_enum(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, uint64_t *ret_value)
{
	const struct decode_choice *choice;
	char names[256] = "";

	for (choice = field->choices; choice->name; choice++) {
		if (strcmp(choice->name, text(node)) == 0) {
			*ret_value = (uint64_t)choice->value;
			return 0;
		}
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			names[0] ? ", " : "", choice->name);
	}
	return complain(decoder, node, "'%s' is no value for %s; write one of: %s", text(node),
		field->key, names);
}

static int decode_string(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, char **ret_string)
{
	const char *value = text(node);

	if (strlen(value) != node->data.scalar.length || !value[0])
		return complain(
			decoder, node, "%s is empty or has a NUL in it; write a text", field->key);
	if (field->type == DECODE_NAME && !scalar_is_name(value))
		return complain(decoder, node,
			"'%s' is no name; write 1 to 63 of A-Z a-z 0-9 . _ - beginning with a "
			"letter or a digit",
			value);
	if (field->type == DECODE_PATH && value[0] != '/') {
		if (asprintf(ret_string, "%s/%s", decoder->folder, value) < 0)
			return -ENOMEM;
		return 0;
	}
	*ret_string = strdup(value);
	return *ret_string ? 0 : -ENOMEM;
}

static int decode_scalar(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, void *object)
{
	uint64_t value = 0;
	int r;

	if (node->type != YAML_SCALAR_NODE)
		return complain(decoder, node, "%s takes a single value", field->key);
	if (field->type <= DECODE_NAME)
		return decode_string(decoder, field, node, at(object, field->offset));
	r = field->type == DECODE_ENUM ? decode_enum(decoder, field, node, &value)
				       : decode_number(decoder, field, node, &value);
	if (!r)
		store_number(field, object, value);
	return r;
}

/* "key:" with nothing behind it, or only comments. */
static bool is_null(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0 &&
	       node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* ---- lists ---- */

static size_t element_size(const struct decode_field *field)
{
	return field->type == DECODE_LIST          ? field->size
	       : field->type == DECODE_UINT32_LIST ? sizeof(uint32_t)
						   : sizeof(char *);
}

static int decode_map(struct decoder *decoder, const struct decode_field *fields,
	const yaml_node_t *node, void *object);

static int decode_element(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, void *element)
{
	struct decode_field scalar = *field;

	if (field->type == DECODE_LIST)
		return decode_map(decoder, field->fields, node, element);
	scalar.offset = 0;
	scalar.type = field->type == DECODE_UINT32_LIST ? DECODE_UINT32
		      : field->type == DECODE_PATH_LIST ? DECODE_PATH
							: DECODE_STRING;
	scalar.min = 0;
	scalar.max = UINT32_MAX;
	return decode_scalar(decoder, &scalar, node, element);
}

static int decode_list(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, void *object)
{
	size_t *count = at(object, field->count_offset);
	size_t n, size = element_size(field);
	char *elements;

	if (node->type != YAML_SEQUENCE_NODE && !is_null(node))
		return complain(
			decoder, node, "%s takes a list: [a, b] or lines with '- '", field->key);
	n = is_null(node)
		    ? 0
		    : (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
	if (n < field->min || n > field->max)
		return complain(decoder, node, "%s has %zu entries; write %llu to %llu", field->key,
			n, (unsigned long long)field->min, (unsigned long long)field->max);
	elements = calloc(n ? n : 1, size);
	if (!elements)
		return -ENOMEM;
	*(void **)at(object, field->offset) = elements;
	for (size_t i = 0; i < n; i++) {
		const yaml_node_t *item = yaml_document_get_node(
			decoder->document, node->data.sequence.items.start[i]);
		int r;

		/* Counted first: what a failed element allocated is released with the rest. */
		*count = i + 1;
		r = decode_element(decoder, field, item, elements + i * size);
		if (r)
			return r;
	}
	return 0;
}

/* ---- labels ---- */

static int label_decode(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_pair_t *pair, char **ret_label)
{
	const yaml_node_t *key = yaml_document_get_node(decoder->document, pair->key);
	const yaml_node_t *value = yaml_document_get_node(decoder->document, pair->value);

	if (key->type != YAML_SCALAR_NODE || !scalar_is_name(text(key)))
		return complain(decoder, key,
			"a label's key is 1 to 63 of A-Z a-z 0-9 . _ - beginning with a letter or "
			"a digit");
	if (value->type != YAML_SCALAR_NODE || value->data.scalar.length > LABEL_VALUE_MAX ||
		strlen(text(value)) != value->data.scalar.length)
		return complain(decoder, value,
			"the label '%s' in %s takes a text of at most %u bytes", text(key),
			field->key, LABEL_VALUE_MAX);
	return asprintf(ret_label, "%s=%s", text(key), text(value)) < 0 ? -ENOMEM : 0;
}

static int label_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Two of one key stand side by side when they are sorted. */
static const char *label_twice(char *const *labels, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		size_t len = strcspn(labels[i], "=") + 1;

		if (strncmp(labels[i - 1], labels[i], len) == 0)
			return labels[i];
	}
	return NULL;
}

static int decode_labels(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, void *object)
{
	size_t *count = at(object, field->count_offset), n;
	const char *twice;
	char **labels;
	int r = 0;

	if (is_null(node))
		return 0;
	if (node->type != YAML_MAPPING_NODE)
		return complain(decoder, node, "%s takes 'key: value' lines", field->key);
	n = (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
	if (n > field->max)
		return complain(decoder, node, "%s has %zu entries; write %llu at most", field->key,
			n, (unsigned long long)field->max);
	labels = calloc(n + 1, sizeof(*labels));
	if (!labels)
		return -ENOMEM;
	*(char ***)at(object, field->offset) = labels;
	for (; !r && *count < n; *count += !r)
		r = label_decode(
			decoder, field, &node->data.mapping.pairs.start[*count], &labels[*count]);
	qsort(labels, *count, sizeof(*labels), label_compare);
	twice = label_twice(labels, *count);
	return !r && twice ? complain(decoder, node, "the label '%.*s' stands here twice",
				     (int)strcspn(twice, "="), twice)
			   : r;
}

/* ---- mappings ---- */

static const struct decode_field *field_find(const struct decode_field *fields, const char *key)
{
	for (; fields->key; fields++) {
		if (strcmp(fields->key, key) == 0)
			return fields;
	}
	return NULL;
}

static int complain_unknown(
	struct decoder *decoder, const struct decode_field *fields, const yaml_node_t *key)
{
	const struct decode_field *field;
	struct nearest nearest = nearest_to(text(key));
	char names[512] = "";

	for (field = fields; field->key; field++) {
		nearest_offer(&nearest, field->key);
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			names[0] ? ", " : "", field->key);
	}
	if (nearest.name)
		return complain(decoder, key, "there is no key '%s'; did you mean '%s'?", text(key),
			nearest.name);
	return complain(decoder, key, "there is no key '%s'; known here: %s", text(key), names);
}

static int decode_value(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *node, void *object)
{
	switch (field->type) {
	case DECODE_MAP:
		return decode_map(decoder, field->fields, node, object);
	case DECODE_LABELS:
		return decode_labels(decoder, field, node, object);
	case DECODE_LIST:
	case DECODE_STRING_LIST:
	case DECODE_PATH_LIST:
	case DECODE_UINT32_LIST:
		return decode_list(decoder, field, node, object);
	default:
		return decode_scalar(decoder, field, node, object);
	}
}

static yaml_node_t *value_of(struct decoder *decoder, const yaml_node_t *map, const char *key)
{
	for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
		map->type == YAML_MAPPING_NODE && pair < map->data.mapping.pairs.top; pair++) {
		yaml_node_t *node = yaml_document_get_node(decoder->document, pair->key);

		if (node->type == YAML_SCALAR_NODE && strcmp(text(node), key) == 0)
			return yaml_document_get_node(decoder->document, pair->value);
	}
	return NULL;
}

static int check_keys(
	struct decoder *decoder, const struct decode_field *fields, const yaml_node_t *node)
{
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
		pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *key = yaml_document_get_node(decoder->document, pair->key);

		if (key->type != YAML_SCALAR_NODE)
			return complain(decoder, key, "a key must be a plain word");
		if (!field_find(fields, text(key)))
			return complain_unknown(decoder, fields, key);
		if (value_of(decoder, node, text(key)) !=
			yaml_document_get_node(decoder->document, pair->value))
			return complain(
				decoder, key, "'%s' stands here twice; remove one", text(key));
	}
	return 0;
}

/* The value of a key that is not there. */
static int apply_standard(struct decoder *decoder, const struct decode_field *field,
	const yaml_node_t *parent, void *object)
{
	if (field->required)
		return complain(decoder, parent, "'%s' is missing here; add it", field->key);
	switch (field->type) {
	case DECODE_STRING:
	case DECODE_PATH:
	case DECODE_NAME:
		if (!field->standard_string)
			return 0;
		*(char **)at(object, field->offset) = strdup(field->standard_string);
		return *(char **)at(object, field->offset) ? 0 : -ENOMEM;
	case DECODE_MAP:
		for (const struct decode_field *sub = field->fields; sub->key; sub++) {
			int r = apply_standard(decoder, sub, parent, object);

			if (r)
				return r;
		}
		return 0;
	case DECODE_LIST:
	case DECODE_LABELS:
	case DECODE_STRING_LIST:
	case DECODE_PATH_LIST:
	case DECODE_UINT32_LIST:
		return 0;
	default:
		store_number(field, object, field->standard);
		return 0;
	}
}

static int decode_map(struct decoder *decoder, const struct decode_field *fields,
	const yaml_node_t *node, void *object)
{
	int r;

	if (node->type != YAML_MAPPING_NODE && !is_null(node))
		return complain(decoder, node, "expected 'key: value' lines here");
	r = is_null(node) ? 0 : check_keys(decoder, fields, node);
	for (const struct decode_field *field = fields; !r && field->key; field++) {
		yaml_node_t *value = value_of(decoder, node, field->key);

		r = value ? decode_value(decoder, field, value, object)
			  : apply_standard(decoder, field, node, object);
		if (!r && value && field->given_offset)
			*(bool *)at(object, field->given_offset) = true;
	}
	return r;
}

/* ---- the whole ---- */

static void find_folder(struct decoder *decoder, const char *file)
{
	char copy[PATH_MAX];

	if (!realpath(file, copy))
		snprintf(copy, sizeof(copy), "%s", file);
	snprintf(decoder->folder, sizeof(decoder->folder), "%s", dirname(copy));
}

static int decode_root(struct decoder *decoder, const struct decode_field *fields, void *object)
{
	yaml_node_t *root = yaml_document_get_root_node(decoder->document);

	if (root)
		return decode_map(decoder, fields, root, object);
	snprintf(decoder->error, decoder->error_size,
		"%s:1: the file is empty; see vmsigd.example.yaml", decoder->file);
	return VMSIG_ERR_BAD_REQUEST;
}

int decode_file(const char *file, const struct decode_field *fields, void *object,
	struct decode_lines **ret_lines, char *error, size_t error_size)
{
	struct decoder decoder = {.file = file, .error = error, .error_size = error_size};
	struct decode_lines *lines = calloc(1, sizeof(*lines));
	int r = lines ? document_load(&lines->document, file, error, error_size) : -ENOMEM;

	if (r) {
		free(lines);
		lines = NULL;
	} else {
		decoder.document = &lines->document.yaml;
		find_folder(&decoder, file);
		r = decode_root(&decoder, fields, object);
	}
	if (r == -ENOMEM)
		snprintf(error, error_size, "%s: out of memory", file);
	if (r || !ret_lines)
		decode_lines_free(lines);
	else
		*ret_lines = lines;
	return r;
}

int decode_text(const char *name, const char *text_of, const char *beside,
	const struct decode_field *fields, void *object, char *error, size_t error_size)
{
	struct decoder decoder = {.file = name, .error = error, .error_size = error_size};
	struct document document;
	int r = document_parse(&document, name, text_of, error, error_size);

	if (!r) {
		decoder.document = &document.yaml;
		find_folder(&decoder, beside);
		r = decode_root(&decoder, fields, object);
		document_deinit(&document);
	}
	if (r == -ENOMEM)
		snprintf(error, error_size, "%s: out of memory", name);
	return r;
}

static bool has_elements(enum decode_type type)
{
	return type == DECODE_LIST || type == DECODE_STRING_LIST || type == DECODE_PATH_LIST ||
	       type == DECODE_LABELS;
}

void decode_free(const struct decode_field *fields, void *object)
{
	for (const struct decode_field *field = fields; field->key; field++) {
		char **value = at(object, field->offset);
		size_t n = 0;

		if (field->type == DECODE_MAP) {
			decode_free(field->fields, object);
			continue;
		}
		if (has_elements(field->type))
			n = *(size_t *)at(object, field->count_offset);
		for (size_t i = 0; i < n; i++) {
			if (field->type == DECODE_LIST)
				decode_free(field->fields, *value + i * field->size);
			else
				free(((char **)(void *)*value)[i]);
		}
		if (field->type <= DECODE_NAME || has_elements(field->type) ||
			field->type == DECODE_UINT32_LIST)
			free(*value);
	}
}

static yaml_node_t *step(struct decoder *decoder, const yaml_node_t *node, const char *word)
{
	char *end;
	size_t index = strtoul(word, &end, 10);

	if (node->type == YAML_MAPPING_NODE)
		return value_of(decoder, node, word);
	if (node->type != YAML_SEQUENCE_NODE || *end || end == word ||
		index >= (size_t)(node->data.sequence.items.top - node->data.sequence.items.start))
		return NULL;
	return yaml_document_get_node(decoder->document, node->data.sequence.items.start[index]);
}

unsigned decode_line_of(const struct decode_lines *lines, const char *path)
{
	yaml_document_t *document = (yaml_document_t *)(uintptr_t)&lines->document.yaml;
	struct decoder decoder = {.document = document};
	yaml_node_t *node = yaml_document_get_root_node(document);

	while (node && *path) {
		size_t len = strcspn(path, "/");
		char word[64];

		snprintf(word, sizeof(word), "%.*s", (int)len, path);
		node = step(&decoder, node, word);
		path += len + (path[len] == '/');
	}
	return node ? (unsigned)node->start_mark.line + 1 : 0;
}

unsigned decode_line(const struct decode_lines *lines, const char *key, size_t index)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%zu", key, index);
	return decode_line_of(lines, path);
}

bool decode_is_ended(const struct decode_lines *lines)
{
	return lines->document.ended;
}

struct decode_lines *decode_lines_free(struct decode_lines *lines)
{
	if (lines)
		document_deinit(&lines->document);
	free(lines);
	return NULL;
}
