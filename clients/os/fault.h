/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_OS_FAULT_H
#define CLIENTS_OS_FAULT_H

/* What may go wrong with reading a guest that runs meanwhile, or that lies. */

#include <stdbool.h>

#include "vmsig/vmsig_error.h"

/* Whether a page was not there. */
static inline bool fault_missing(int error)
{
	return error == VMSIG_ERR_NOT_MAPPED || error == VMSIG_ERR_OUT_OF_RANGE ||
	       error == VMSIG_ERR_BAD_PAGE_TABLE;
}

/* Whether walking again may help. */
static inline bool fault_again(int error)
{
	return error == VMSIG_ERR_TORN || fault_missing(error);
}

#endif
