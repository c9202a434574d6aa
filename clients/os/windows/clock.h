/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_CLOCK_H
#define CLIENTS_OS_WINDOWS_CLOCK_H

/* Times: what the kernel shows to all processes. */

#include "clients/os/windows/kernel.h"

/* When the guest was started, in 100 ns since 1601; 0: it is not known. */
uint64_t windows_clock_start(struct windows_kernel *kernel);
/* Nanoseconds between the two; 0: one is not known. */
uint64_t windows_clock_since(uint64_t start, uint64_t time);

#endif
