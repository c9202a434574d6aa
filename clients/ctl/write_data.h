/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_WRITE_DATA_H
#define CLIENTS_CTL_WRITE_DATA_H

/*
 * The bytes of one `vmsigctl write`: in memory, or beyond WRITE_DATA_INLINE_MAX in a sealed
 * memfd. Calls return EXIT_OK, or the exit code after a message.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/ctl/ctl.h"

/* Half of what a message takes, so that an undo, which names the bytes to write and the bytes
 * to expect, is one all-or-nothing write too. */
#define WRITE_DATA_INLINE_MAX (VMSIG_WRITE_INLINE_MAX / 2)

struct write_data {
	unsigned char *bytes; /* NULL: they are in the memfd */
	size_t len;
	int memfd; /* or -1 */
};

#define WRITE_DATA_INIT ((struct write_data){.memfd = -1})

int write_data_hex(struct write_data *data, const char *text);
/* `width` bytes, little-endian. */
int write_data_number(struct write_data *data, const char *text, unsigned width);
/* The whole file, or with "-" standard input. Shows on a terminal how far it is. */
int write_data_file(struct write_data *data, const char *path);
void write_data_clear(struct write_data *data);

#endif
