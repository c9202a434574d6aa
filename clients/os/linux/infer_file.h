/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_FILE_H
#define CLIENTS_OS_LINUX_INFER_FILE_H

#include "clients/os/linux/infer.h"

/* Files that areas are of and that tasks have open; names, inodes, file systems. Needs areas. */
void infer_files(struct infer *infer);

#endif
