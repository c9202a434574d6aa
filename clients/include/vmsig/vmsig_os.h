/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMSIG_OS_H
#define VMSIG_OS_H

/*
 * What is in a guest: its kernel's symbols, processes, threads, address spaces, modules, open
 * files. All of it is made from the guest's memory alone, read-only: no agent, no symbol files, no
 * network.
 *
 * A handle is opened on a context (vmsig_mem.h) and belongs to that context's epoch: after a reset
 * both are closed and opened anew. It is used by one thread at a time, as the context is.
 *
 * The guest runs while it is read, and it may lie. Walks are bounded and find their way out of
 * circles; a walk that did not hold together is begun anew some times, and what is left of the last
 * attempt is marked `partial`, never passed off as whole. What was found of an object is given out
 * only when the object was still the same afterwards. Texts come from the guest: they may have any
 * bytes but NUL, and a terminal must not be shown them as they are.
 *
 * Calls return 0 or a negated enum vmsig_error: what reads of memory return (STALE_EPOCH, GONE,
 * ...), -VMSIG_ERR_UNSUPPORTED for what this kernel or system does not have or could not be found
 * in it, -VMSIG_ERR_NOT_MAPPED for a page that is not resident, -VMSIG_ERR_TORN for an object that
 * changed whenever it was looked at, -VMSIG_ERR_GONE for a process that has ended,
 * -VMSIG_ERR_NO_MEMORY.
 *
 * Linux x86-64 whose kernel carries its types (CONFIG_DEBUG_INFO_BTF, which distributions have).
 * Tried on guests of 6.1; the tables of symbols of 5.10 to 7.0 are tried on constructed ones only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_mem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct vmsig_os_handle vmsig_os_handle;

/* Finds out what runs under the kernel's root `kcr3` and learns its symbols and types: some ten
 * milliseconds to some hundred, and up to 256 MiB of memory meanwhile. `mem` is borrowed and
 * outlives the handle. -VMSIG_ERR_UNSUPPORTED: no system that is known, `ret_error` (of
 * `error_size` bytes; may be NULL) says what was missing. Meanwhile libbpf, with which types are
 * read, says nothing in this process; a program that has it print something of its own opens one
 * guest at a time. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_open(vmsig_os_handle **ret_os, vmsig_mem *mem, uint64_t kcr3,
	char *ret_error, size_t error_size);
/* The same from a bare descriptor of guest RAM, as vmsig_mem_from_ro_fd() takes it, with `levels` 4
 * or 5 of page tables. */
VMSIG_API VMSIG_MUST_USE int vmsig_linux_open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low,
	uint64_t kcr3, unsigned levels, char *ret_error, size_t error_size);
/* Accepts NULL, returns NULL. */
VMSIG_API vmsig_os_handle *vmsig_os_close(vmsig_os_handle *os);
/* enum vmsig_os. */
VMSIG_API uint32_t vmsig_os_kind(const vmsig_os_handle *os);

/* ---- symbols of the kernel ---- */

typedef struct {
	uint64_t addr;
	const char *name; /* valid as long as the handle */
	char type;        /* as nm(1) has them: T, t, D, b, ... */
} vmsig_symbol;

VMSIG_API size_t vmsig_os_symbol_count(const vmsig_os_handle *os);
/* In the order of the kernel's own table; index < vmsig_os_symbol_count(). */
VMSIG_API vmsig_symbol vmsig_os_symbol(const vmsig_os_handle *os, size_t index);
/* The first one of that name. False: there is none. */
VMSIG_API bool vmsig_os_symbol_find(
	const vmsig_os_handle *os, const char *name, vmsig_symbol *ret_symbol);
/* The last one that begins at or before `addr`, inside of the kernel's image. */
VMSIG_API bool vmsig_os_symbol_at(
	const vmsig_os_handle *os, uint64_t addr, vmsig_symbol *ret_symbol);

/* Where the kernel keeps the description of its types (BTF): guest-virtual address and bytes.
 * -VMSIG_ERR_UNSUPPORTED: it carries none. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_types(
	const vmsig_os_handle *os, uint64_t *ret_addr, uint32_t *ret_len);

/* ---- processes ---- */

#define VMSIG_PROC_NAME_MAX 63

#define VMSIG_PROC_KERNEL 0x1u /* a thread of the kernel's, without an address space */
#define VMSIG_PROC_ZOMBIE 0x2u /* it has ended, and nobody has asked how */

typedef struct {
	uint64_t object;   /* where the guest keeps it */
	uint64_t root;     /* of its page tables, as `cr3` of vmsig_gva_read(); 0: it has none */
	uint64_t start_ns; /* since the guest was started */
	uint32_t pid;      /* of the process; of a thread: its own */
	uint32_t parent;   /* the parent's pid; of a thread: the process' */
	uint32_t uid;
	uint32_t threads;
	uint32_t flags; /* VMSIG_PROC_* */
	char state;     /* as in /proc/PID/stat: R, S, D, T, Z, I, ... */
	char name[VMSIG_PROC_NAME_MAX + 1];
} vmsig_proc;

typedef struct {
	vmsig_proc *processes;
	size_t count;
	bool partial; /* the list changed whenever it was walked */
} vmsig_proc_list;

VMSIG_API VMSIG_MUST_USE int vmsig_os_processes(vmsig_os_handle *os, vmsig_proc_list **ret_list);
VMSIG_API void vmsig_proc_list_free(vmsig_proc_list *list);
/* -VMSIG_ERR_GONE: there is none of that pid. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_process(
	vmsig_os_handle *os, uint32_t pid, vmsig_proc *ret_process);
/* Threads of a process, itself included; freed like a list of processes. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_threads(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_proc_list **ret_list);

/* Bytes that the process was started with: words that end with NUL each. At most `size` bytes;
 * *ret_len is how many there are, of which no more than VMSIG_OS_TEXT_MAX are ever read. A kernel
 * thread has none: 0 bytes. */
#define VMSIG_OS_TEXT_MAX (128u * 1024)
VMSIG_API VMSIG_MUST_USE int vmsig_os_command_line(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len);
VMSIG_API VMSIG_MUST_USE int vmsig_os_environment(
	vmsig_os_handle *os, const vmsig_proc *process, char *buf, size_t size, size_t *ret_len);

/* ---- address spaces ---- */

#define VMSIG_MAP_SHARED 0x10u /* beside VMSIG_PROT_READ, WRITE, EXEC */

typedef struct {
	uint64_t start, end; /* [start, end) */
	uint64_t offset;     /* into the file, in bytes */
	uint32_t prot;       /* VMSIG_PROT_READ | WRITE | EXEC, VMSIG_MAP_SHARED */
	const char *path;    /* of the file, "[heap]", "[stack]", "[vdso]", or "" */
} vmsig_map;

typedef struct {
	vmsig_map *maps;
	size_t count;
	bool partial;
} vmsig_map_list;

/* In ascending order. Of a kernel thread there are none. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_maps(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_map_list **ret_list);
VMSIG_API void vmsig_map_list_free(vmsig_map_list *list);

/* ---- modules of the kernel ---- */

typedef struct {
	uint64_t object;
	uint64_t base;
	uint64_t size; /* bytes of all its parts */
	char name[VMSIG_PROC_NAME_MAX + 1];
} vmsig_module;

typedef struct {
	vmsig_module *modules;
	size_t count;
	bool partial;
} vmsig_module_list;

VMSIG_API VMSIG_MUST_USE int vmsig_os_modules(vmsig_os_handle *os, vmsig_module_list **ret_list);
VMSIG_API void vmsig_module_list_free(vmsig_module_list *list);

/* ---- open files ---- */

typedef struct {
	uint64_t object;
	int32_t number;   /* of the descriptor */
	const char *path; /* "/etc/passwd", "pipe:[17]", "/tmp/x (deleted)" */
} vmsig_open_file;

typedef struct {
	vmsig_open_file *files;
	size_t count;
	bool partial;
} vmsig_file_list;

VMSIG_API VMSIG_MUST_USE int vmsig_os_files(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_file_list **ret_list);
VMSIG_API void vmsig_file_list_free(vmsig_file_list *list);

#ifdef __cplusplus
}
#endif

#endif
