/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_GUEST_VMCOREINFO_H
#define PROTO_GUEST_VMCOREINFO_H

/*
 * The text of a Linux kernel's VMCOREINFO note, as the guest's RAM holds it: lines KEY=VALUE,
 * NUL-terminated or filling its page. The guest wrote it; nothing in it is trusted. Pure.
 * Keys: Documentation/admin-guide/kdump/vmcoreinfo.rst of the kernel. Before 4.13 the text lay
 * somewhere in the kernel's image; since then it has pages of its own, where it is looked for.
 */

#include <stddef.h>
#include <stdint.h>

#include "proto/guest/kcr3.h"

#define VMCOREINFO_MAX 8192 /* bytes of text that are looked at */

struct vmcoreinfo {
	char release[VMSIG_RELEASE_MAX]; /* OSRELEASE */
	uint64_t swapper_pg_dir;         /* SYMBOL(swapper_pg_dir) */
	uint64_t init_uts_ns;            /* SYMBOL(init_uts_ns) */
	uint64_t uts_name;               /* OFFSET(uts_namespace.name), from 5.11 on; 4 before */
	int64_t phys_base;               /* NUMBER(phys_base) */
	uint64_t sme_mask;               /* NUMBER(sme_mask); 0 when absent */
	unsigned levels;                 /* 5 or 4 by NUMBER(pgtable_l5_enabled); 0
					  * when absent: the tables must say */
	uint64_t kernel_offset;          /* KERNELOFFSET: how far KASLR moved it; 0 when absent */
	size_t len; /* bytes of the text, but for the time of a crash at its end */
};

/* 0, or VMSIG_ERR_BAD_REQUEST: does not begin with OSRELEASE=, lacks a key, has one twice, or
 * has a value that is no number. Lines that are cut off are not part of the text. */
__attribute__((warn_unused_result)) int vmcoreinfo_parse(
	const char *text, size_t size, struct vmcoreinfo *ret_info);

#endif
