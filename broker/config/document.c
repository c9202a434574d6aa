/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/config/document.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmsig/vmsig_error.h"

#define FILE_MAX (4u << 20) /* bytes of a configuration; far beyond thousands of endpoints */
#define DEPTH_MAX 16        /* of nesting; the tables need six */
#define NODES_MAX 500000u   /* of some 100 bytes each */

struct file_bytes {
	unsigned char *data;
	size_t len;
};

/* Whom to tell what is wrong. */
struct reader {
	const char *file;
	char *error;
	size_t error_size;
};

struct shape {
	size_t nodes, depth, documents;
	bool ended; /* an explicit end of the document */
};

static int complain_at(struct reader *reader, size_t line, const char *what)
{
	snprintf(reader->error, reader->error_size, "%s:%zu: %s", reader->file, line + 1, what);
	return VMSIG_ERR_BAD_REQUEST;
}

static const char *shape_error(struct shape *shape, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		return shape->documents++ ? "a second document begins here, which nobody would "
					    "read; remove the '---' and what follows"
					  : NULL;
	case YAML_DOCUMENT_END_EVENT:
		shape->ended = !event->data.document_end.implicit;
		return NULL;
	case YAML_ALIAS_EVENT:
		return "aliases (*name) are not known here; write the value out";
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		if (++shape->depth > DEPTH_MAX)
			return "this is nested too deeply; no key takes that";
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		shape->depth--;
		return NULL;
	default:
		break;
	}
	return ++shape->nodes > NODES_MAX ? "there is more in the file than any configuration has"
					  : NULL;
}

static int parser_error(struct reader *reader, const yaml_parser_t *parser)
{
	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	snprintf(reader->error, reader->error_size, "%s:%zu: %s; this is not valid YAML",
		reader->file, parser->problem_mark.line + 1,
		parser->problem ? parser->problem : "cannot be read");
	return VMSIG_ERR_BAD_REQUEST;
}

/* Before the document is built: what it would cost. */
static int check_shape(struct reader *reader, const struct file_bytes *bytes, bool *ret_ended)
{
	struct shape shape = {0};
	yaml_parser_t parser;
	bool more = true;
	int r = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, bytes->data, bytes->len);
	while (!r && more) {
		yaml_event_t event;
		const char *error;

		if (!yaml_parser_parse(&parser, &event)) {
			r = parser_error(reader, &parser);
			break;
		}
		error = shape_error(&shape, &event);
		if (error)
			r = complain_at(reader, event.start_mark.line, error);
		more = event.type != YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	*ret_ended = shape.ended;
	return r;
}

static int load_document(
	struct reader *reader, const struct file_bytes *bytes, yaml_document_t *document)
{
	yaml_parser_t parser;
	int r = 0;

	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, bytes->data, bytes->len);
	if (!yaml_parser_load(&parser, document))
		r = parser_error(reader, &parser);
	yaml_parser_delete(&parser);
	return r;
}

static int read_all(int fd, struct file_bytes *bytes, size_t size)
{
	/* One more shows that it has grown. */
	bytes->data = malloc(size + 1);
	if (!bytes->data)
		return -ENOMEM;
	while (bytes->len <= size) {
		ssize_t n = read(fd, bytes->data + bytes->len, size + 1 - bytes->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		bytes->len += (size_t)n;
	}
	return 0;
}

/* Not waiting for the other end of a pipe that somebody put in its place. */
static int read_file(struct reader *reader, struct file_bytes *bytes)
{
	int fd = open(reader->file, O_RDONLY | O_NONBLOCK | O_CLOEXEC), r = 0;
	struct stat st = {0};

	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		r = VMSIG_ERR_BAD_REQUEST;
	else
		r = read_all(fd, bytes, (size_t)st.st_size);
	if (!r && bytes->len != (size_t)st.st_size)
		r = -EAGAIN;
	if (r < 0 && r != -ENOMEM)
		snprintf(reader->error, reader->error_size, "%s: %s", reader->file,
			r == -EAGAIN ? "it is being written at this moment; try again"
				     : strerror(-r));
	if (r > 0)
		snprintf(reader->error, reader->error_size,
			"%s: not a file, or larger than %u bytes", reader->file, FILE_MAX);
	if (fd >= 0)
		close(fd);
	return r;
}

static int parse(
	struct reader *reader, const struct file_bytes *bytes, struct document *ret_document)
{
	struct document document = {0};
	int r = check_shape(reader, bytes, &document.ended);

	if (!r)
		r = load_document(reader, bytes, &document.yaml);
	if (!r)
		*ret_document = document;
	return r;
}

int document_load(struct document *ret_document, const char *file, char *error, size_t error_size)
{
	struct reader reader = {.file = file, .error = error, .error_size = error_size};
	struct file_bytes bytes = {0};
	int r = read_file(&reader, &bytes);

	if (!r)
		r = parse(&reader, &bytes, ret_document);
	free(bytes.data);
	return r;
}

int document_parse(struct document *ret_document, const char *name, const char *text, char *error,
	size_t error_size)
{
	struct reader reader = {.file = name, .error = error, .error_size = error_size};
	const struct file_bytes bytes = {
		.data = (unsigned char *)(uintptr_t)text, .len = strlen(text)};

	return parse(&reader, &bytes, ret_document);
}

void document_deinit(struct document *document)
{
	yaml_document_delete(&document->yaml);
}
