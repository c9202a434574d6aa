/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_COMMON_COREINFO_H
#define CLIENTS_COMMON_COREINFO_H

/*
 * VMCOREINFO: a Linux kernel's own description of itself for tools that know its layout, lines of
 * NAME=VALUE (Documentation/admin-guide/kdump/vmcoreinfo.rst).
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/common/context.h"
#include "vmsig/vmsig_os.h"

#define COREINFO_MAX 16384u /* bytes that are taken of it; kernels have up to 4096 */

struct coreinfo {
	uint32_t len; /* 0: the kernel has none */
	char text[COREINFO_MAX + 1];
};

void coreinfo_read(struct coreinfo *info, const struct context *context, const vmsig_os_handle *os);
/* A value in hexadecimal digits; false: there is none of that name. */
bool coreinfo_hex(const struct coreinfo *info, const char *name, uint64_t *ret_value);

#endif
