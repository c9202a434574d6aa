/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_FINDING_H
#define CLIENTS_OS_FINDING_H

/* Lists of findings, which own what they say. */

#include <stdint.h>

#include "vmsig/vmsig_os.h"

/* No more are kept: the list is partial then. A guest may make each of its pages one. */
#define FINDINGS_MAX 10000u

/* 0 or VMSIG_ERR_NO_MEMORY. `basis` is static. */
__attribute__((warn_unused_result, format(printf, 6, 7))) int finding_add(vmsig_finding_list *list,
	enum vmsig_finding_kind kind, uint32_t pid, uint64_t addr, const char *basis,
	const char *format, ...);
/* Forgets all. */
void finding_clear(vmsig_finding_list *list);

#endif
