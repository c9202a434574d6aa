/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_PROMPT_H
#define CLIENTS_SHIM_PROMPT_H

/* The terminal: a person types, with editing, history and completion. */

#include <stddef.h>

struct shim;

/* Runs what a person types at the terminal, with editing, history and completion, until the
 * end. EXIT_OK, or 128 and the signal that has ended it. */
int prompt_run(struct shim *shim);

/* What stands in front of the line: endpoint, epoch, what is left of the lease. */
void prompt_text(const struct shim *shim, char *text, size_t size);

#endif
