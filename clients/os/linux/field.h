/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_FIELD_H
#define CLIENTS_OS_LINUX_FIELD_H

/*
 * The members of the kernel's structs that are read, by name: LINUX_FIELD(TASK_PID,
 * "task_struct.pid"). An alternative is what other kernels call the same thing. What not all
 * kernels have is optional.
 */

#include <stdbool.h>
#include <stdint.h>

/* X(field, path, path in other kernels or NULL, optional) */
#define LINUX_FIELD_LIST(X)                                                                        \
	X(TASK_TASKS, "task_struct.tasks", NULL, 0)                                                \
	X(TASK_MM, "task_struct.mm", NULL, 0)                                                      \
	X(TASK_PID, "task_struct.pid", NULL, 0)                                                    \
	X(TASK_TGID, "task_struct.tgid", NULL, 0)                                                  \
	X(TASK_REAL_PARENT, "task_struct.real_parent", NULL, 0)                                    \
	X(TASK_THREAD_NODE, "task_struct.thread_node", NULL, 0)                                    \
	X(TASK_START, "task_struct.start_boottime", "task_struct.real_start_time", 0)              \
	X(TASK_CRED, "task_struct.cred", NULL, 0)                                                  \
	X(TASK_COMM, "task_struct.comm", NULL, 0)                                                  \
	X(TASK_FILES, "task_struct.files", NULL, 0)                                                \
	X(TASK_SIGNAL, "task_struct.signal", NULL, 0)                                              \
	X(TASK_STATE, "task_struct.__state", "task_struct.state", 0)                               \
	X(TASK_EXIT_STATE, "task_struct.exit_state", NULL, 0)                                      \
	X(TASK_FLAGS, "task_struct.flags", NULL, 0)                                                \
	X(SIGNAL_THREAD_HEAD, "signal_struct.thread_head", NULL, 0)                                \
	X(SIGNAL_NR_THREADS, "signal_struct.nr_threads", NULL, 0)                                  \
	X(CRED_UID, "cred.uid", NULL, 0)                                                           \
	X(MM_PGD, "mm_struct.pgd", NULL, 0)                                                        \
	X(MM_MAP_COUNT, "mm_struct.map_count", NULL, 0)                                            \
	X(MM_ARG_START, "mm_struct.arg_start", NULL, 0)                                            \
	X(MM_ARG_END, "mm_struct.arg_end", NULL, 0)                                                \
	X(MM_ENV_START, "mm_struct.env_start", NULL, 0)                                            \
	X(MM_ENV_END, "mm_struct.env_end", NULL, 0)                                                \
	X(MM_START_BRK, "mm_struct.start_brk", NULL, 0)                                            \
	X(MM_BRK, "mm_struct.brk", NULL, 0)                                                        \
	X(MM_START_STACK, "mm_struct.start_stack", NULL, 0)                                        \
	X(MM_VDSO, "mm_struct.context.vdso", NULL, 1)                                              \
	X(MM_TREE, "mm_struct.mm_mt.ma_root", NULL, 1)                                             \
	X(MM_LIST, "mm_struct.mmap", NULL, 1)                                                      \
	X(MAPLE_RANGE_PIVOT, "maple_range_64.pivot", NULL, 1)                                      \
	X(MAPLE_RANGE_SLOT, "maple_range_64.slot", NULL, 1)                                        \
	X(MAPLE_ARANGE_PIVOT, "maple_arange_64.pivot", NULL, 1)                                    \
	X(MAPLE_ARANGE_SLOT, "maple_arange_64.slot", NULL, 1)                                      \
	X(VMA_START, "vm_area_struct.vm_start", NULL, 0)                                           \
	X(VMA_END, "vm_area_struct.vm_end", NULL, 0)                                               \
	X(VMA_FLAGS, "vm_area_struct.vm_flags", NULL, 0)                                           \
	X(VMA_PGOFF, "vm_area_struct.vm_pgoff", NULL, 0)                                           \
	X(VMA_FILE, "vm_area_struct.vm_file", NULL, 0)                                             \
	X(VMA_NEXT, "vm_area_struct.vm_next", NULL, 1)                                             \
	X(FILES_TABLE, "files_struct.fdt", NULL, 0)                                                \
	X(TABLE_MAX, "fdtable.max_fds", NULL, 0)                                                   \
	X(TABLE_FILES, "fdtable.fd", NULL, 0)                                                      \
	X(FILE_MNT, "file.f_path.mnt", NULL, 0)                                                    \
	X(FILE_DENTRY, "file.f_path.dentry", NULL, 0)                                              \
	X(DENTRY_PARENT, "dentry.d_parent", NULL, 0)                                               \
	X(DENTRY_NAME, "dentry.d_name.name", NULL, 0)                                              \
	X(DENTRY_NAME_LEN, "dentry.d_name.len", NULL, 0)                                           \
	X(DENTRY_INODE, "dentry.d_inode", NULL, 0)                                                 \
	X(DENTRY_SB, "dentry.d_sb", NULL, 0)                                                       \
	X(DENTRY_HASHED, "dentry.d_hash.pprev", NULL, 0)                                           \
	X(INODE_NUMBER, "inode.i_ino", NULL, 0)                                                    \
	X(SB_TYPE, "super_block.s_type", NULL, 0)                                                  \
	X(FS_NAME, "file_system_type.name", NULL, 0)                                               \
	X(VFSMOUNT_ROOT, "vfsmount.mnt_root", NULL, 0)                                             \
	X(MOUNT_PARENT, "mount.mnt_parent", NULL, 0)                                               \
	X(MOUNT_POINT, "mount.mnt_mountpoint", NULL, 0)                                            \
	X(MOUNT_VFSMOUNT, "mount.mnt", NULL, 0)                                                    \
	X(MODULE_LIST, "module.list", NULL, 0)                                                     \
	X(MODULE_NAME, "module.name", NULL, 0)                                                     \
	X(MODULE_BASE, "module.core_layout.base", NULL, 1)                                         \
	X(MODULE_SIZE, "module.core_layout.size", NULL, 1)                                         \
	X(MODULE_MEM, "module.mem", NULL, 1)                                                       \
	X(MODULE_MEM_BASE, "module_memory.base", NULL, 1)                                          \
	X(MODULE_MEM_SIZE, "module_memory.size", NULL, 1)

#define LINUX_FIELD_ENUM(field, path, other, optional) LINUX_##field,
enum linux_field { LINUX_FIELD_LIST(LINUX_FIELD_ENUM) LINUX_FIELDS };
#undef LINUX_FIELD_ENUM

struct linux_fields {
	uint64_t types; /* where the kernel keeps its types (BTF), and how many bytes; 0: nowhere */
	uint32_t types_len;
	struct {
		bool known;
		uint32_t offset; /* bytes into the struct */
		uint32_t size;   /* bytes; of an array: all of it */
	} field[LINUX_FIELDS];
	uint32_t module_memory_size; /* bytes of a struct module_memory; 0: there is none */
};

const char *linux_field_path(enum linux_field field);
/* NULL: it has one name only. */
const char *linux_field_other(enum linux_field field);
bool linux_field_is_optional(enum linux_field field);

#endif
