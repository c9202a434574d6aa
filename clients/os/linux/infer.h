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
 *   infer_module modules
 *   infer_net    sockets
 *   infer_note   what the kernel says of itself for crash dumps (VMCOREINFO)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"

#define INFER_TASK_BYTES 0x2000u /* 7.3 has the last one that is needed at 0xdc0; lockdep adds */
#define INFER_MM_BYTES 0x600u
#define INFER_AREA_BYTES 0x100u
#define INFER_FILE_BYTES 0x200u
#define INFER_TASKS_MAX 128u
#define INFER_SPACES_MAX 16u
#define INFER_AREAS_MAX 256u
#define INFER_FILES_MAX 64u
/* Reads of one attempt: a second or two. An honest guest takes some ten thousand. */
#define INFER_READS_MAX 1000000u

struct infer_task {
	uint64_t at;
	uint8_t bytes[INFER_TASK_BYTES];
};

struct infer_space {
	uint64_t at;   /* of the mm_struct */
	uint64_t task; /* one that has it */
	uint32_t areas;
	uint8_t bytes[INFER_MM_BYTES];
};

struct infer_area {
	uint64_t at, mm;
	uint64_t start, end;
	uint8_t bytes[INFER_AREA_BYTES];
};

struct infer_file {
	uint64_t at;
	uint64_t mnt, dentry, inode; /* 0: not known yet */
	bool mapped;                 /* an area is of it: it is regular */
	uint8_t bytes[INFER_FILE_BYTES];
};

/* Objects that are looked at; the first task is init_task, then 1 and 2. */
struct infer {
	struct linux_kernel *kernel;
	uint64_t init;
	struct infer_task *tasks;
	size_t task_count;
	struct infer_space *spaces;
	size_t space_count;
	struct infer_area *areas;
	size_t area_count;
	struct infer_file *files;
	size_t file_count;
	uint32_t left; /* reads */
	int error;     /* a read that failed for another reason than the address */
};

/* Fills kernel->fields as far as it goes. VMSIG_ERR_UNSUPPORTED: not even tasks were found. */
__attribute__((warn_unused_result)) int linux_infer(struct linux_kernel *kernel);

#endif
