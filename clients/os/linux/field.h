/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_FIELD_H
#define CLIENTS_OS_LINUX_FIELD_H

/*
 * The members of the kernel's structs that are read, by name: LINUX_FIELD(TASK_PID,
 * "task_struct.pid"). An alternative is what other kernels call the same thing. What not all
 * kernels have is optional.
 */

#include <stdbool.h>
#include <stddef.h>
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
	X(MM_EXE_FILE, "mm_struct.exe_file", NULL, 1)                                              \
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
	X(MODULE_MEM_SIZE, "module_memory.size", NULL, 1)                                          \
	X(TASK_STACK, "task_struct.stack", NULL, 1)                                                \
	X(TASK_SP, "task_struct.thread.sp", NULL, 1)                                               \
	X(TASK_NSPROXY, "task_struct.nsproxy", NULL, 1)                                            \
	X(TASK_FS, "task_struct.fs", NULL, 1)                                                      \
	X(TASK_REAL_CRED, "task_struct.real_cred", NULL, 1)                                        \
	X(TASK_THREAD_PID, "task_struct.thread_pid", NULL, 1)                                      \
	X(TASK_PID_LINKS, "task_struct.pid_links", NULL, 1)                                        \
	X(PID_TASKS, "pid.tasks", NULL, 1)                                                         \
	X(PIDNS_TABLE, "pid_namespace.idr.idr_rt.xa_head", NULL, 1)                                \
	X(FS_ROOT_MNT, "fs_struct.root.mnt", NULL, 1)                                              \
	X(FS_ROOT_DENTRY, "fs_struct.root.dentry", NULL, 1)                                        \
	X(NSPROXY_MNT, "nsproxy.mnt_ns", NULL, 1)                                                  \
	X(MNTNS_ROOT, "mnt_namespace.root", NULL, 1)                                               \
	X(MOUNT_MOUNTS, "mount.mnt_mounts", NULL, 1)                                               \
	X(MOUNT_CHILD, "mount.mnt_child", NULL, 1)                                                 \
	X(MOUNT_DEVNAME, "mount.mnt_devname", NULL, 1)                                             \
	X(VFSMOUNT_FLAGS, "vfsmount.mnt_flags", NULL, 1)                                           \
	X(VFSMOUNT_SB, "vfsmount.mnt_sb", NULL, 1)                                                 \
	X(SB_FLAGS, "super_block.s_flags", NULL, 1)                                                \
	X(DENTRY_SUBDIRS, "dentry.d_subdirs", NULL, 1)                                             \
	X(DENTRY_CHILD, "dentry.d_child", NULL, 1)                                                 \
	X(DENTRY_CHILDREN, "dentry.d_children.first", NULL, 1)                                     \
	X(DENTRY_SIB, "dentry.d_sib.next", NULL, 1)                                                \
	X(FILE_PRIVATE, "file.private_data", NULL, 1)                                              \
	X(FILE_MAPPING, "file.f_mapping", NULL, 1)                                                 \
	X(FILE_INODE, "file.f_inode", NULL, 1)                                                     \
	X(INODE_SIZE, "inode.i_size", NULL, 1)                                                     \
	X(INODE_MODE, "inode.i_mode", NULL, 1)                                                     \
	X(INODE_LINK, "inode.i_link", NULL, 1)                                                     \
	X(INODE_MAPPING, "inode.i_mapping", NULL, 1)                                               \
	X(MAPPING_PAGES, "address_space.i_pages.xa_head", NULL, 1)                                 \
	X(NODE_SHIFT, "xa_node.shift", NULL, 1)                                                    \
	X(NODE_SLOTS, "xa_node.slots", NULL, 1)                                                    \
	X(FOLIO_INDEX, "folio.index", "page.index", 1)                                             \
	X(PAGE_FLAGS, "page.flags", NULL, 1)                                                       \
	X(SOCKET_SOCK, "socket.sk", NULL, 1)                                                       \
	X(SOCK_PROTOCOL, "sock.sk_protocol", NULL, 1)                                              \
	X(SOCK_FAMILY, "sock_common.skc_family", NULL, 1)                                          \
	X(SOCK_STATE, "sock_common.skc_state", NULL, 1)                                            \
	X(SOCK_LOCAL_PORT, "sock_common.skc_num", NULL, 1)                                         \
	X(SOCK_REMOTE_PORT, "sock_common.skc_dport", NULL, 1)                                      \
	X(SOCK_LOCAL, "sock_common.skc_rcv_saddr", NULL, 1)                                        \
	X(SOCK_REMOTE, "sock_common.skc_daddr", NULL, 1)                                           \
	X(SOCK_LOCAL6, "sock_common.skc_v6_rcv_saddr", NULL, 1)                                    \
	X(SOCK_REMOTE6, "sock_common.skc_v6_daddr", NULL, 1)                                       \
	X(LOG_COUNT_BITS, "printk_ringbuffer.desc_ring.count_bits", NULL, 1)                       \
	X(LOG_DESCS, "printk_ringbuffer.desc_ring.descs", NULL, 1)                                 \
	X(LOG_INFOS, "printk_ringbuffer.desc_ring.infos", NULL, 1)                                 \
	X(LOG_HEAD, "printk_ringbuffer.desc_ring.head_id", NULL, 1)                                \
	X(LOG_TAIL, "printk_ringbuffer.desc_ring.tail_id", NULL, 1)                                \
	X(LOG_SIZE_BITS, "printk_ringbuffer.text_data_ring.size_bits", NULL, 1)                    \
	X(LOG_DATA, "printk_ringbuffer.text_data_ring.data", NULL, 1)                              \
	X(DESC_STATE, "prb_desc.state_var", NULL, 1)                                               \
	X(DESC_BEGIN, "prb_desc.text_blk_lpos.begin", NULL, 1)                                     \
	X(DESC_NEXT, "prb_desc.text_blk_lpos.next", NULL, 1)                                       \
	X(INFO_SEQ, "printk_info.seq", NULL, 1)                                                    \
	X(INFO_TIME, "printk_info.ts_nsec", NULL, 1)                                               \
	X(INFO_LEN, "printk_info.text_len", NULL, 1)                                               \
	X(INFO_FACILITY, "printk_info.facility", NULL, 1)                                          \
	X(MODULE_SECTIONS, "module.sect_attrs", NULL, 1)                                           \
	X(MODULE_SYMS, "module.syms", NULL, 1)                                                     \
	X(MODULE_NUM_SYMS, "module.num_syms", NULL, 1)                                             \
	X(MODULE_GPL_SYMS, "module.gpl_syms", NULL, 1)                                             \
	X(MODULE_NUM_GPL_SYMS, "module.num_gpl_syms", NULL, 1)                                     \
	X(MODULE_SELF, "module.mkobj.mod", NULL, 1)                                                \
	X(MODULE_KALLSYMS, "module.kallsyms", NULL, 1)                                             \
	X(KALLSYMS_SYMBOLS, "mod_kallsyms.symtab", NULL, 1)                                        \
	X(KALLSYMS_COUNT, "mod_kallsyms.num_symtab", NULL, 1)                                      \
	X(KALLSYMS_NAMES, "mod_kallsyms.strtab", NULL, 1)                                          \
	X(SECTIONS_COUNT, "module_sect_attrs.nsections", NULL, 1)                                  \
	X(SECTIONS_ATTRS, "module_sect_attrs.attrs", NULL, 1)                                      \
	X(SECTIONS_GROUP, "module_sect_attrs.grp.bin_attrs",                                       \
		"module_sect_attrs.grp.bin_attrs_new", 1)                                          \
	X(SECTION_NAME, "module_sect_attr.battr.attr.name", NULL, 1)                               \
	X(SECTION_ADDR, "module_sect_attr.address", NULL, 1)                                       \
	X(ATTR_NAME, "bin_attribute.attr.name", NULL, 1)                                           \
	X(ATTR_PRIVATE, "bin_attribute.private", NULL, 1)                                          \
	X(EXPORT_VALUE, "kernel_symbol.value_offset", NULL, 1)

#define LINUX_FIELD_ENUM(field, path, other, optional) LINUX_##field,
enum linux_field { LINUX_FIELD_LIST(LINUX_FIELD_ENUM) LINUX_FIELDS };
#undef LINUX_FIELD_ENUM

/* The structs whose size is needed, by name: arrays of them are walked. */
#define LINUX_STRUCT_LIST(X)                                                                       \
	X(TASK, task_struct)                                                                       \
	X(MODULE, module)                                                                          \
	X(MODULE_MEMORY, module_memory)                                                            \
	X(SECTION, module_sect_attr)                                                               \
	X(EXPORT, kernel_symbol)                                                                   \
	X(LOG_DESC, prb_desc)                                                                      \
	X(LOG_INFO, printk_info)                                                                   \
	X(PAGE, page)

#define LINUX_STRUCT_ENUM(id, name) LINUX_STRUCT_##id,
enum linux_struct { LINUX_STRUCT_LIST(LINUX_STRUCT_ENUM) LINUX_STRUCTS };
#undef LINUX_STRUCT_ENUM

struct linux_fields {
	uint64_t types; /* where the kernel keeps its types (BTF), and how many bytes; 0: nowhere */
	uint32_t types_len;
	struct {
		bool known;
		uint32_t offset; /* bytes into the struct */
		uint32_t size;   /* bytes; of an array: all of it */
	} field[LINUX_FIELDS];
	uint32_t size[LINUX_STRUCTS]; /* bytes; 0: the kernel has none of that name */
};

const char *linux_field_path(enum linux_field field);
/* How many members are known. */
size_t linux_field_count(const struct linux_fields *known);
/* NULL: it has one name only. */
const char *linux_field_other(enum linux_field field);
bool linux_field_is_optional(enum linux_field field);
const char *linux_struct_name(enum linux_struct which);

#endif
