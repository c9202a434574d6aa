/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_MOUNT_H
#define CLIENTS_OS_LINUX_INFER_MOUNT_H

/* Mounts, the namespace that they are in, and names below a folder. Members are known afterwards,
 * or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* Mounts, the namespace that they are in, and names below a folder. Needs files. */
void infer_mounts(struct infer *infer);

#endif
