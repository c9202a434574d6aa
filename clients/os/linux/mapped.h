/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_LINUX_MAPPED_H
#define CLIENTS_OS_LINUX_MAPPED_H

/*
 * What a process has mapped of a file, page by page: as its memory has it, and where nobody has
 * touched a page yet, as the file has it, while that page is resident. Only what lies in the part
 * that was chosen is read, whatever the file's headers say, and no more than LINUX_MAPPED_PAGES of
 * it.
 */

#include <stddef.h>
#include <stdint.h>

#include "clients/os/linux/kernel.h"
#include "vmsig/vmsig_os.h"

/* Pages that are read for one list: half a gigabyte, more than any library has of headers. */
#define LINUX_MAPPED_PAGES (1u << 17)

struct mapped_page;

struct linux_mapped {
	struct linux_kernel *kernel;
	uint64_t root;
	vmsig_map_list maps; /* of the process, all */
	uint64_t object;     /* the open file; 0: what is mapped has none */
	uint64_t base, size; /* the part that is read */
	vmsig_file file;     /* object 0: its pages cannot be asked for */
	struct mapped_page *pages;
	uint32_t left; /* pages */
	int fault;     /* the first error since it was set to 0 */
};

/* 0 or a positive enum vmsig_error, with nothing to release. */
__attribute__((warn_unused_result)) int linux_mapped_init(
	struct linux_mapped *mapped, struct linux_kernel *kernel, const vmsig_proc *process);
void linux_mapped_deinit(struct linux_mapped *mapped);
/* From here on it is that part of the address space, mapped from that file, that is read. */
void linux_mapped_choose(
	struct linux_mapped *mapped, uint64_t object, uint64_t base, uint64_t size);

/* Zeros after the first fault. */
void linux_mapped_read(struct linux_mapped *mapped, uint64_t addr, void *ret_bytes, size_t len);
/* By its offset in the file; without a file, in what is mapped. */
void linux_mapped_read_file(
	struct linux_mapped *mapped, uint64_t offset, void *ret_bytes, size_t len);
/* Up to a NUL, or size - 1 bytes of it. */
void linux_mapped_text(struct linux_mapped *mapped, uint64_t addr, char *ret_text, size_t size);
void linux_mapped_text_file(
	struct linux_mapped *mapped, uint64_t offset, char *ret_text, size_t size);

/* Whether the fault only says that something is not resident, or makes no sense; it is forgotten
 * then. */
bool linux_mapped_misses(struct linux_mapped *mapped);

#endif
