/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_SCRIPT_H
#define CLIENTS_SHIM_SCRIPT_H

/* Lines of standard input, for programs: no editing, and the first failure ends it unless told
 * otherwise. */

struct shim;

/* Runs the lines of standard input, up to the first command that fails, or with keep_going to
 * the end. The exit status of the first that has failed. */
int script_run(struct shim *shim);

#endif
