/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_HOSTED_H
#define CLIENTS_CTL_HOSTED_H

/* The broker's endpoints as administrators see them: all pages of the list. */

#include "clients/ctl/admin.h"

struct hosted_list {
	Vmsig__Hosted **endpoints; /* by name */
	size_t n;
	Vmsig__HostedInfos **pages; /* that they are in */
	size_t npages;
};

/* Into an empty list. EXIT_OK, or the exit code after a message; ctl_hosted_clear() in any case. */
int ctl_hosted_list(const struct ctl *ctl, vmsig_admin *admin, struct hosted_list *list);
/* One of them, with the names of its state and guard; NULL without memory. */
json_t *ctl_hosted_json(const Vmsig__Hosted *endpoint);
void ctl_hosted_clear(struct hosted_list *list);

#endif
