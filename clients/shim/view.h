/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SHIM_VIEW_H
#define CLIENTS_SHIM_VIEW_H

/* What is told of the endpoint as shim->context follows it, and waiting for it to be readable. */

#include "vmsig/vmsig.h"

struct shim;

/* A delivery about the endpoint, which is taken over. */
void shim_view_take(struct shim *shim, vmsig_delivery *delivery);
/* Waits for a context, as long as --wait says, and not for one that is older than the lease.
 * Then shim->context.mem is there. */
int shim_view_await(struct shim *shim);

#endif
