/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_FILE_H
#define CLIENTS_OS_LINUX_INFER_FILE_H

/* struct file, dentry and inode: of what areas map and tasks have open. Members are known
 * afterwards, or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* Files that areas are of and that tasks have open; names, inodes, file systems. Needs areas. */
void infer_files(struct infer *infer);

#endif
