/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_WRITE_DATA_H
#define CLIENTS_CTL_WRITE_DATA_H

/*
 * The bytes of one `vmsigctl write`: in memory, or beyond WRITE_DATA_INLINE_MAX in a file, which is
 * read as it is written; what has no size, a pipe say, is put into a sealed memfd first. Calls
 * return EXIT_OK, or the exit code after a message, which names the command.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/ctl/ctl.h"

/* Half of what a message takes, so that an undo, which names the bytes to write and the bytes
 * to expect, is one all-or-nothing write too. */
#define WRITE_DATA_INLINE_MAX (VMSIG_WRITE_INLINE_MAX / 2)

struct write_data {
	unsigned char *bytes; /* NULL: they are in the file */
	size_t len;
	int fd;      /* or -1 */
	bool sealed; /* it is a memfd that can be sent as it is */
};

#define WRITE_DATA_INIT ((struct write_data){.fd = -1})

int write_data_hex(struct write_data *data, const struct ctl_command *command, const char *text);
/* `width` bytes, little-endian. */
int write_data_number(struct write_data *data, const struct ctl_command *command, const char *text,
	unsigned width);
/* The whole file, or with "-" standard input. Shows on a terminal how far it is. */
int write_data_file(struct write_data *data, const struct ctl_command *command, const char *path);
/* A sealed memfd with `len` bytes of the data from `at` on, to be closed, and where in it they are.
 * `meanwhile` is called every now and then. 0 or -errno; -EPIPE: the file has become shorter. */
__attribute__((warn_unused_result)) int write_data_memfd(const struct write_data *data, size_t at,
	size_t len, void (*meanwhile)(void *ctx), void *ctx, int *ret_memfd, uint64_t *ret_offset);
void write_data_clear(struct write_data *data);

#endif
