/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_ACCESSOR_H
#define CLIENTS_OS_WINDOWS_ACCESSOR_H

/* Functions that return one member of an object, or its address: their code says where it is. */

#include "clients/os/windows/kernel.h"

/* The offset that the exported function's code has; 0: it is not exported, not resident, or does
 * more than that. */
uint32_t windows_accessor(struct windows_kernel *kernel, const char *function);

#endif
