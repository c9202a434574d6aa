/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_CHECK_H
#define CLIENTS_CTL_CHECK_H

/*
 * The kernel's text against its first sight: a digest of each page, which is kept in the user's
 * folder for state (VMSIG_SIGHT_DIR) from the first check of an epoch on. What had been changed by
 * then is not seen.
 */

#include "clients/ctl/guest.h"

/* A page that is not what it was. */
typedef void (*check_text_fn)(void *ctx, uint64_t addr);

/* *ret_first: there was nothing to compare with, and now there is. EXIT_OK, or the exit code after
 * a message. */
int check_text(struct ctl_guest *guest, check_text_fn changed, void *ctx, bool *ret_first);

#endif
