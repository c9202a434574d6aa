/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_THREAD_COMPARE_H
#define CLIENTS_OS_WINDOWS_THREAD_COMPARE_H

/*
 * Where threads have their members, when no function's code tells: found by what is true of all
 * threads of the first process, and taken only when it is true of another one's, too.
 */

#include "clients/os/windows/kernel.h"

/* Fills the offsets of threads; what was not found is 0. */
void windows_thread_compare(struct windows_kernel *kernel);

#endif
