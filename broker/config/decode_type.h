/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_CONFIG_DECODE_TYPE_H
#define BROKER_CONFIG_DECODE_TYPE_H

/* What a value of a configuration can be: decode.h puts it into a struct, scalar.h reads it. */

enum decode_type {
	DECODE_STRING,      /* char * */
	DECODE_PATH,        /* char *; relative ones are taken from the file's folder */
	DECODE_NAME,        /* char *; 1 to 63 of [A-Za-z0-9._-], first a letter or digit */
	DECODE_UINT32,      /* uint32_t */
	DECODE_UINT64,      /* uint64_t; decimal or 0x... */
	DECODE_SIZE,        /* uint64_t bytes; "512MiB", "4GiB", "4096" */
	DECODE_MILLIS,      /* uint64_t ms; "250ms", "2s", "5min", "1h" */
	DECODE_NANOS,       /* uint64_t ns; the same notation */
	DECODE_MODE,        /* mode_t; octal */
	DECODE_BOOL,        /* bool */
	DECODE_ENUM,        /* int */
	DECODE_STRING_LIST, /* char **, with a size_t count */
	DECODE_PATH_LIST,   /* likewise, each as a PATH */
	DECODE_LABELS,      /* char **, with a size_t count: a mapping as sorted "KEY=VALUE" */
	DECODE_UINT32_LIST, /* uint32_t *, with a size_t count */
	DECODE_MAP,         /* a nested mapping into the same struct */
	DECODE_LIST,        /* an array of structs, with a size_t count */
};

#endif
