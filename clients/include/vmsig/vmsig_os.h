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
 * Linux x86-64 with a table of all its symbols (CONFIG_KALLSYMS_ALL). Where the members of its
 * structs are, a kernel that carries its types says itself (CONFIG_DEBUG_INFO_BTF, which
 * distributions have). Of one that does not it is found by what has to hold among its objects; then
 *  - what could not be found is refused where it is needed, and vmsig_os_missing() names it;
 *  - a kernel whose structs are shuffled (CONFIG_RANDSTRUCT) is not understood: it needs its types;
 *  - in one with PREEMPT_RT, what is found among larger locks may be less;
 *  - sections and exports of modules are not found.
 * Tried on Debian's kernels from 5.10 to 7.3, nearly all without their types too:
 * tests/e2e/README.md.
 *
 * Windows x64 from 7 SP1 and Server 2008 R2 to 11 24H2 and Server 2025: VERIFIED ON CONSTRUCTED
 * IMAGES, NOT ON WINDOWS. The images follow published layouts of fourteen versions, and the kernels
 * and libraries in them were made by a real linker; no Windows was there to try it on. Where
 * members of objects are is told by the code of functions that ntoskrnl.exe exports and by what
 * objects have in common, not by a table of versions. There,
 *  - symbols are what ntoskrnl.exe exports, and nothing describes its types;
 *  - a command line is one word, and texts are in UTF-8;
 *  - maps are areas (VADs) with the protection that they were made with, which pages may have
 * changed, and paths without their volume;
 *  - open files, sockets, mounts, the log and contents of files are not to be had.
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
 * `error_size` bytes; may be NULL) says what was missing. What was
 * learnt is kept: another handle of this process on the same kernel at the same place is opened in
 * microseconds, whatever endpoint it is of. Meanwhile libbpf, with which types are
 * read, says nothing in this process; a program that has it print something of its own opens one
 * guest at a time. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_open(vmsig_os_handle **ret_os, vmsig_mem *mem, uint64_t kcr3,
	char *ret_error, size_t error_size);
/* The same from a bare descriptor of guest RAM, as vmsig_mem_from_ro_fd() takes it, with `levels` 4
 * or 5 of page tables. */
VMSIG_API VMSIG_MUST_USE int vmsig_linux_open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low,
	uint64_t kcr3, unsigned levels, char *ret_error, size_t error_size);
/* Windows x64 in the same way; `levels` is 4 in all that there are. */
VMSIG_API VMSIG_MUST_USE int vmsig_win32_open_ro_fd(vmsig_os_handle **ret_os, int fd, uint64_t low,
	uint64_t kcr3, unsigned levels, char *ret_error, size_t error_size);
/* What the last call lacked that returned -VMSIG_ERR_UNSUPPORTED: a member of the kernel's structs,
 * "task_struct.files", or a symbol. NULL: there was no such call. */
VMSIG_API const char *vmsig_os_missing(const vmsig_os_handle *os);
/* Accepts NULL, returns NULL. */
VMSIG_API vmsig_os_handle *vmsig_os_close(vmsig_os_handle *os);
/* enum vmsig_os. */
VMSIG_API uint32_t vmsig_os_kind(const vmsig_os_handle *os);
/* What people have to be told who are shown what was found in such a guest, as a part of a
 * sentence: "verified on constructed images, not on Windows". NULL: nothing. */
VMSIG_API const char *vmsig_os_caveat(const vmsig_os_handle *os);

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

#define VMSIG_PROC_KERNEL                                                                          \
	0x1u                   /* a thread of the kernel's, without an address space; of Windows a \
				* process without a program */
#define VMSIG_PROC_ZOMBIE 0x2u /* it has ended, and nobody has asked how */

#define VMSIG_PROC_NO_UID UINT32_MAX /* of Windows, whose users have no numbers */

typedef struct {
	uint64_t object;   /* where the guest keeps it */
	uint64_t root;     /* of its page tables, as `cr3` of vmsig_gva_read(); 0: it has none */
	uint64_t start_ns; /* since the guest was started */
	uint32_t pid;      /* of the process; of a thread: its own */
	uint32_t parent;   /* the parent's pid; of a thread: the process' */
	uint32_t uid;
	uint32_t threads; /* of Windows 0 when their list changed while they were counted */
	uint32_t flags;   /* VMSIG_PROC_* */
	char state;       /* as in /proc/PID/stat: R, S, D, T, Z, I, ...; '?' of Windows, or Z */
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

/* ---- registers ---- */

#define VMSIG_REGISTERS 16

typedef struct {
	uint64_t general[VMSIG_REGISTERS]; /* rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8 to r15 */
	uint64_t rip, rflags;
	uint32_t known; /* a bit for each of general */
	uint16_t cs, ss;
} vmsig_registers;

/* What the kernel has saved in memory, which are no CPU's registers of now: of a process as it was
 * when it entered the kernel last, of a kernel thread where it gave its CPU away last.
 * -VMSIG_ERR_NOT_MAPPED: nothing of the kind is there, as of a kernel thread that runs. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_registers(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_registers *ret_registers);

/* ---- address spaces ---- */

#define VMSIG_MAP_SHARED 0x10u /* beside VMSIG_PROT_READ, WRITE, EXEC */

typedef struct {
	uint64_t start, end; /* [start, end) */
	uint64_t offset;     /* into the file, in bytes */
	uint32_t prot;       /* VMSIG_PROT_READ | WRITE | EXEC, VMSIG_MAP_SHARED */
	const char *path;    /* of the file, "[heap]", "[stack]", "[vdso]", or "" */
	uint64_t object;     /* where the guest keeps the open file; 0: it is of none */
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

/* ---- what is in files ---- */

typedef struct {
	uint64_t object;
	uint64_t mapping; /* where the guest keeps its pages */
	uint64_t size;    /* bytes, as the guest says: any number */
	uint32_t mode;    /* as stat(2) has it */
} vmsig_file;

/* By its name, as the process sees files. -VMSIG_ERR_NOT_MAPPED: the guest's kernel does not
 * remember that name, which says nothing about its disk. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_file_find(
	vmsig_os_handle *os, const vmsig_proc *process, const char *path, vmsig_file *ret_file);
/* What a process has open, deleted ones and those without a name too. -VMSIG_ERR_NOT_MAPPED: it has
 * no such descriptor. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_file_of(
	vmsig_os_handle *os, const vmsig_proc *process, int32_t fd, vmsig_file *ret_file);
#define VMSIG_OS_PAGE 4096u
/* A page of it, of which all bytes behind its size are nobody's. -VMSIG_ERR_NOT_MAPPED: it is not
 * resident, or the file has none there. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_file_page(
	vmsig_os_handle *os, const vmsig_file *file, uint64_t index, void *ret_page);
/* Indices of the pages that are resident, in ascending order. A non-zero return of the visitor
 * stops and is returned as it is. */
typedef int (*vmsig_page_fn)(void *ctx, uint64_t index);
VMSIG_API VMSIG_MUST_USE int vmsig_os_file_pages(
	vmsig_os_handle *os, const vmsig_file *file, vmsig_page_fn visit, void *ctx);

/* ---- sockets ---- */

typedef struct {
	uint64_t object;
	uint64_t inode; /* the number in "socket:[...]" */
	uint32_t pid;
	int32_t fd;
	uint16_t family;   /* 2: IPv4, 10: IPv6 */
	uint16_t protocol; /* as in an IP header: 6 TCP, 17 UDP, ... */
	uint16_t local_port, remote_port;
	uint8_t local[16], remote[16]; /* in the network's order; of IPv4 the first four */
	uint8_t state; /* of TCP, as /proc/net/tcp has it: 1 established, 10 listening */
} vmsig_socket;

typedef struct {
	vmsig_socket *sockets;
	size_t count;
	bool partial;
} vmsig_socket_list;

/* What processes have open of IPv4 and IPv6: of one, or with NULL of all. What belongs to nobody
 * any more (TIME_WAIT) is not among them; one that several processes share is there once for each.
 */
VMSIG_API VMSIG_MUST_USE int vmsig_os_sockets(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_socket_list **ret_list);
VMSIG_API void vmsig_socket_list_free(vmsig_socket_list *list);

/* ---- mounts ---- */

typedef struct {
	uint64_t object;
	const char *path;   /* where */
	const char *source; /* what: a device, or a word */
	char type[32];      /* of the file system */
	bool read_only;
} vmsig_mount;

typedef struct {
	vmsig_mount *mounts;
	size_t count;
	bool partial;
} vmsig_mount_list;

/* As the process sees them; the root of all is the first. -VMSIG_ERR_GONE: it has ended. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_mounts(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_mount_list **ret_list);
VMSIG_API void vmsig_mount_list_free(vmsig_mount_list *list);

/* ---- what the kernel has said ---- */

typedef struct {
	uint64_t sequence;
	uint64_t time_ns; /* since the guest was started */
	const char *text; /* may have several lines */
	uint32_t len;
	uint8_t facility, level; /* as syslog(3) has them */
} vmsig_log_record;

typedef struct {
	vmsig_log_record *records;
	size_t count;
	bool partial;
} vmsig_log_list;

/* The oldest first. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_log(vmsig_os_handle *os, vmsig_log_list **ret_list);
VMSIG_API void vmsig_log_list_free(vmsig_log_list *list);

/* ---- what is in modules ---- */

typedef struct {
	uint64_t addr;
	const char *name;
} vmsig_name;

typedef struct {
	vmsig_name *names;
	size_t count;
	bool partial;
} vmsig_name_list;

VMSIG_API void vmsig_name_list_free(vmsig_name_list *list);
/* Sections of a module, and where they are. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_sections(
	vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);
/* Symbols of a module, those that nobody else may use too. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_module_symbols(
	vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);
/* What other modules may use of a module; without one, of the kernel itself. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_exports(
	vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);

/* What a module uses of others, "ntoskrnl.exe!ZwClose", and where that leads now: of Windows. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_imports(
	vmsig_os_handle *os, const vmsig_module *module, vmsig_name_list **ret_list);

/* ---- programs and libraries ---- */

#define VMSIG_IMAGE_PROGRAM 0x1u /* what the process was started from */
#define VMSIG_IMAGE_ABSENT 0x2u  /* its headers are not resident: nothing is known of it */
#define VMSIG_IMAGE_UNLISTED                                                                       \
	0x4u /* of Windows: it is mapped as one, and the process' loader does not                  \
	      * list it, as of what is mapped for its resources alone, of 32-bit                   \
	      * libraries, and of what hides */

typedef struct {
	uint64_t object;  /* where the guest keeps the open file; 0: it is of none */
	uint64_t base;    /* where its headers are mapped */
	uint64_t size;    /* bytes from there to the end of what it is loaded to */
	uint64_t bias;    /* of an address in memory against the one in its headers */
	uint32_t flags;   /* VMSIG_IMAGE_* */
	const char *path; /* of its file, or "[vdso]" */
} vmsig_image;

typedef struct {
	vmsig_image *images;
	size_t count;
	bool partial;
} vmsig_image_list;

/* What a process has mapped that is a program or a library, in ascending order. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_images(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_image_list **ret_list);
VMSIG_API void vmsig_image_list_free(vmsig_image_list *list);
/* The file that a process was started from. -VMSIG_ERR_NOT_MAPPED: a kernel thread has none. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_program(
	vmsig_os_handle *os, const vmsig_proc *process, vmsig_file *ret_file);

/* What one says of itself, and the process may have changed: as its memory has it, and where no
 * page of it was touched yet, as the file's resident pages have it. A list is partial when
 * something of it is not resident. */

/* The sections that are loaded, and where. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_image_sections(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list **ret_list);
/* What it offers to others: addresses; of what each thread has its own, where that is in it. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_image_exports(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list **ret_list);
/* What it takes from others, and where that leads now; 0: nowhere yet. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_image_imports(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list **ret_list);
/* The libraries that it names, with addresses of 0. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_image_needed(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image *image, vmsig_name_list **ret_list);
/* The same of all in the list, with one look at what the process has mapped, where one by one takes
 * as many: `ret_lists` has room for images->count lists, the caller's to free; NULLs after an
 * error. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_images_needed(vmsig_os_handle *os, const vmsig_proc *process,
	const vmsig_image_list *images, vmsig_name_list **ret_lists);

/* ---- what does not fit together ---- */

enum vmsig_finding_kind {
	VMSIG_FINDING_PROCESS = 1, /* a process that not all of the kernel's tables have */
	VMSIG_FINDING_MODULE = 2,  /* the same of a module */
	VMSIG_FINDING_CALL = 3,    /* a system call that leads elsewhere */
	VMSIG_FINDING_MAP = 4,     /* memory of a process that may be run and came from no file */
	VMSIG_FINDING_THREAD = 5,  /* a thread that its process does not list */
};

typedef struct {
	uint32_t kind;
	uint32_t pid;      /* of what is about a process or its thread; else 0 */
	uint64_t addr;     /* of the object, the entry, or the memory */
	const char *text;  /* what was found */
	const char *basis; /* what that rests on */
} vmsig_finding;

typedef struct {
	vmsig_finding *findings;
	size_t count;
	bool partial;
} vmsig_finding_list;

/* Of Windows processes, threads, modules of the kernel, and memory of processes are compared.
 *
 * Compares what the kernel's lists say with what else tells of the same things; all of the guest's
 * memory is read for it. None is no proof: who changes all that is compared is not found. Memory of
 * the last kind is what compilers at run time make, too. What this kernel lacks is not compared,
 * and the list is partial then. */
VMSIG_API VMSIG_MUST_USE int vmsig_os_check(vmsig_os_handle *os, vmsig_finding_list **ret_list);
VMSIG_API void vmsig_finding_list_free(vmsig_finding_list *list);

/* The kernel's text by pages, as it was at one moment or nearly: to be compared with an earlier
 * look. Where the kernel rewrites itself as it runs (jump labels, static calls) there are zeros;
 * tracing and live patches change it nevertheless. Non-zero of `visit` stops and is returned. */
typedef int (*vmsig_text_fn)(void *ctx, uint64_t addr, const uint8_t *bytes, size_t len);
VMSIG_API VMSIG_MUST_USE int vmsig_os_text(vmsig_os_handle *os, vmsig_text_fn visit, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
