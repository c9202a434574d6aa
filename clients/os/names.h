/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_NAMES_H
#define CLIENTS_OS_NAMES_H

/* Lists of named addresses, which own their names. */

#include "vmsig/vmsig_os.h"

/* 0 or VMSIG_ERR_NO_MEMORY. The name is copied. */
__attribute__((warn_unused_result)) int names_append(
	vmsig_name_list *list, uint64_t addr, const char *name);
/* Forgets all. */
void names_clear(vmsig_name_list *list);

#endif
