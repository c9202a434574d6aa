/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_WINDOWS_KERNEL_H
#define CLIENTS_OS_WINDOWS_KERNEL_H

/*
 * A Windows kernel for x86-64 as it lies in guest memory, from 7 SP1 and Server 2008 R2 on. No
 * version is looked up in a table: where members of objects are is told by the code of functions
 * that the kernel exports, and by what objects have in common. All of it was tried on images that
 * were constructed after published layouts, not on Windows. Functions return 0, a positive enum
 * vmsig_error or a negative errno.
 *
 *   kernel    all that is known of one
 *   reader    reading its objects
 *   image     PE images
 *   find      where the kernel's is
 *   exports   what an image offers
 *   imports   what it uses of others
 *   sections  what it is made of
 *   symbols   what the kernel exports, by name and address
 *   accessor  which member a function returns
 *   compare   members that are told by what all processes have in common
 *   learn     all of that, when a guest is opened
 *   ring      lists of objects
 *   text      UTF-16
 *   clock     times
 *   process   processes
 *   thread    threads
 *   thread_compare  members of threads that no function tells
 *   module    modules of the kernel
 *   images    programs and libraries of a process
 *   start     what a process was started with
 *   vad       trees of areas of address spaces
 *   area      where the root of such a tree is, and what an area says of itself
 *   space     address spaces
 *   memory    what the kernel has mapped, looked through
 *   hidden    what lists leave out
 *   intact    what should not change, and what should not be run
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmsig/vmsig_mem.h"
#include "vmsig/vmsig_os.h"

#define WINDOWS_PAGE 4096u

/* How often a walk that did not hold together is begun anew. */
#define WINDOWS_ATTEMPTS 5u

/* Reads of one walk: a few seconds. */
#define WINDOWS_READS_MAX 4000000u

/* More processes, threads of one, modules or areas than a guest has. */
#define WINDOWS_LIST_MAX 100000u

#define WINDOWS_USER_END 0x0000800000000000ull
#define WINDOWS_KERNEL_FIRST 0xffff800000000000ull

/* Of a PE image that is mapped. */
#define WINDOWS_DIRECTORIES 16u
#define WINDOWS_DIRECTORY_EXPORTS 0u
#define WINDOWS_DIRECTORY_IMPORTS 1u

struct windows_image {
	uint64_t root, base;
	uint32_t size;
	uint32_t sections_at; /* their table, from the base on */
	uint16_t sections;
	bool wide; /* PE32+ */
	struct windows_directory {
		uint32_t at, size;
	} directories[WINDOWS_DIRECTORIES];
};

/* Members of objects, in bytes from their start; 0: it is not known where that is. */
struct windows_offsets {
	uint32_t pid, links, parent, name, peb, section_base, created, exit_status; /* EPROCESS */
	uint32_t threads;                                                           /* KPROCESS */
	uint32_t thread_id, thread_process; /* ETHREAD, KTHREAD */
	uint32_t thread_links;
};

/* The nodes of a tree of areas: what of a few shapes this kernel has. */
struct windows_area_shape {
	uint32_t root;     /* in EPROCESS; 0: it is not known */
	uint32_t indirect; /* from there to the pointer to the top */
	uint32_t left, right;
	uint32_t page_bytes; /* of page numbers at 0x18: 8, 4, or 5 of which one is at 0x20 */
	uint32_t flags;      /* where the word of flags is; 0: it is not known */
	uint8_t type_bit, protection_bit, private_bit;
};

struct windows_symbols {
	vmsig_name *names; /* by address */
	size_t count;
};

struct windows_kernel {
	vmsig_mem *mem; /* borrowed */
	uint64_t root;
	struct windows_image image; /* the kernel's own */
	struct windows_symbols symbols;
	struct windows_offsets offset;
	struct windows_area_shape area;
	uint64_t system;  /* the first process */
	uint64_t modules; /* head of their list; 0: it was not found */
	int fault;        /* the first error of a read since windows_begin() */
	uint32_t left;    /* reads until the next one */
};

#endif
