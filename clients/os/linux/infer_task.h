/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_TASK_H
#define CLIENTS_OS_LINUX_INFER_TASK_H

/* task_struct and what hangs on it: the list of tasks, and their members. Members are known
 * afterwards, or not: infer.h. */

#include "clients/os/linux/infer_probe.h"

/* The list of tasks, and those that are looked at. VMSIG_ERR_UNSUPPORTED: there is none. */
__attribute__((warn_unused_result)) int infer_tasks(struct infer *infer);
/* What every task has in itself, besides its address space and its files. */
/* Parents and pids, which all else rests on. */
void infer_family(struct infer *infer);
void infer_task_members(struct infer *infer);

#endif
