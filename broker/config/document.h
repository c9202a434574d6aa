/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_DOCUMENT_H
#define BROKER_CONFIG_DOCUMENT_H

/*
 * A YAML file, read within bounds: 4 MiB, 16 levels, 500,000 nodes, one document, no aliases, so
 * that it costs some 100 MiB and a second at most, whatever is in it.
 */

#include <stdbool.h>
#include <stddef.h>

#include <yaml.h>

struct document {
	yaml_document_t yaml;
	bool ended; /* with a line "...", as whoever writes one can show that it is whole */
};

/* `error` gets "FILE:LINE: what is wrong", except for -ENOMEM. 0, VMSIG_ERR_BAD_REQUEST, -errno
 * (-EAGAIN: it grows or shrinks at this moment). */
__attribute__((warn_unused_result)) int document_load(
	struct document *ret_document, const char *file, char *error, size_t error_size);
/* The same of a text; `name` stands for the file in errors. */
__attribute__((warn_unused_result)) int document_parse(struct document *ret_document,
	const char *name, const char *text, char *error, size_t error_size);
void document_deinit(struct document *document);

#endif
