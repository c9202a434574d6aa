/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_INFER_H
#define CLIENTS_OS_LINUX_INFER_H

/*
 * Where the members of a kernel's structs are, when it carries no types (BTF): found by what has to
 * hold among its objects, and taken only when it holds for all that are looked at. What is not
 * found stays unknown, and what needs it is refused by its name.
 *
 * What limits it:
 *  - CONFIG_RANDSTRUCT moves members about, and nearly all of this rests on which one follows
 *    which; such a kernel is served by its types, or not at all.
 *  - PREEMPT_RT makes locks larger. What lies behind a lock (file descriptors, mounts, pages) is
 *    found by its contents, as elsewhere, and where that fails it is not found.
 *  - Objects that a guest does not have now (modules, sockets) say nothing; they are looked for
 *    again when somebody asks for them.
 *  - init_task and the like are found by the table of symbols.
 *
 *   infer        all of it, and the objects that are looked at
 *   infer_probe  reading what may be nothing
 *   infer_task   task_struct and what hangs on it
 *   infer_space  mm_struct, vm_area_struct
 *   infer_file   struct file, dentry, inode
 *   infer_mount  mounts and their namespace
 *   infer_cache  pages of files
 *   infer_module  modules
 *   infer_net    sockets
 *   infer_note   what the kernel says of itself for crash dumps (VMCOREINFO)
 */

#include "clients/os/linux/kernel.h"

/* Fills kernel->fields as far as it goes. VMSIG_ERR_UNSUPPORTED: not even tasks were found. */
__attribute__((warn_unused_result)) int linux_infer(struct linux_kernel *kernel);

#endif
