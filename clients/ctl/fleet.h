/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_FLEET_H
#define CLIENTS_CTL_FLEET_H

/*
 * `vmsigctl fleet`, of which each file has what it is called for.
 *
 *   fleet         ls, hosts, where, bump
 *   fleet_ask     what is asked
 *   fleet_leases  leases
 *   fleet_watch   watch
 */

#include "clients/ctl/admin.h"

/* The fleet as the broker has it, which stays until the next question. EXIT_OK, or the exit code
 * after a message. */
int ctl_fleet_ask(const struct ctl *ctl, vmsig_admin *admin, const Vmsig__FleetView **ret_view);
/* Of its endpoint here, or, when it has none, of that at the host that has it. */
const char *ctl_fleet_name(const Vmsig__FleetGuest *guest);
/* What is wrong, on standard error, so that it does not get into what a script reads. */
void ctl_fleet_complain(const Vmsig__FleetView *view);

extern const struct ctl_command ctl_fleet_leases, ctl_fleet_watch;

#endif
