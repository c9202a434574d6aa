/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_MODULE_H
#define CLIENTS_OS_LINUX_INFER_MODULE_H

#include "clients/os/linux/infer.h"

/* Modules, when there are any. */
void infer_modules(struct infer *infer);

#endif
