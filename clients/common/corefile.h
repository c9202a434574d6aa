/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_COREFILE_H
#define CLIENTS_COMMON_COREFILE_H

/*
 * Guest memory as a file that other tools read: where its bytes come from, without any of them
 * being copied. A file is a row of extents, each of bytes that were made here or of RAM; what is
 * between them is zeros.
 *
 *   elf    ELF core as crash, drgn, LeechCore and Volatility take it: the kernel's map of all
 * memory and, cut out of that, its image, so that no physical byte is there twice; loads ascend by
 *          p_paddr, have p_align 0 (else crash takes it for a netdump and finds no KASLR offset)
 * and whole pages; the guest's own VMCOREINFO as a note kcore  ELF core as /proc/kcore: every range
 * that the kernel maps, by its virtual address, modules included; for gdb lime   LiME: a header
 * before each range of RAM raw    guest-physical memory: the byte at address N is byte N
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

enum corefile_format { COREFILE_ELF, COREFILE_KCORE, COREFILE_LIME, COREFILE_RAW };

struct corefile_extent {
	uint64_t at, len;
	const uint8_t *bytes; /* NULL: RAM */
	uint64_t ram_off;     /* into the RAM files as they lie end to end */
};

struct corefile {
	struct corefile_extent *extents; /* ascending, without overlap */
	size_t count;
	uint64_t size;
	uint8_t *head; /* the bytes that were made */
	size_t head_len;
};

/* Of a context that is there; `os` may be NULL for lime and raw. Positive enum vmsig_error;
 * `error` says what is missing (UNSUPPORTED). */
__attribute__((warn_unused_result)) int corefile_init(struct corefile *file,
	const struct context *context, vmsig_os_handle *os, enum corefile_format format,
	char *error, size_t error_size);
void corefile_deinit(struct corefile *file);

/* The descriptor of the file that has a byte of RAM (as they lie end to end), where in it that is,
 * and how many bytes follow there at most. */
int corefile_ram(
	const struct context *context, uint64_t ram_off, uint64_t *ret_off, uint64_t *ret_len);
/* The file's bytes from `at` on: how many, fewer than `len` only at its end, or -errno. */
__attribute__((warn_unused_result)) ssize_t corefile_read(const struct corefile *file,
	const struct context *context, uint8_t *buf, size_t len, uint64_t at);

#endif
