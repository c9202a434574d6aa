/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_COMPARE_H
#define CLIENTS_OS_WINDOWS_COMPARE_H

/*
 * Members of processes without any code: by what is true of the first process and of those that
 * follow it. The first one has number 4, the name "System", no parent and no program; it is the
 * parent of the next one; all of them are in one ring behind their numbers.
 */

#include "clients/os/windows/kernel.h"

/* Fills what is 0 in kernel->offset, or with `trusted` false all that can be found. */
void windows_compare(struct windows_kernel *kernel, bool trusted);

#endif
