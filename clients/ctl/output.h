/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_OUTPUT_H
#define CLIENTS_CTL_OUTPUT_H

/*
 * Where a command puts what it makes of a guest: standard output, or a file that is made anew and
 * readable for its owner only, as it has the guest's secrets. A file that was not finished is
 * removed.
 */

#include <stdbool.h>

struct ctl_output {
	const char *path; /* "-": standard output */
	int fd;
	bool is_file;
};

/* EXIT_OK, or the exit code after a message. */
int ctl_output_open(struct ctl_output *output, const char *path);
/* Of a command that has come to `code`: what is returned is what to exit with. */
int ctl_output_close(struct ctl_output *output, int code);

#endif
