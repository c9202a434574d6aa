/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_MODULE_H
#define CLIENTS_OS_LINUX_INFER_MODULE_H

/* struct module, of those that are loaded. Members are known afterwards, or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* Modules, when there are any. */
void infer_modules(struct infer *infer);

#endif
