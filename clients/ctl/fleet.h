/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_FLEET_H
#define CLIENTS_CTL_FLEET_H

/*
 * `vmsigctl fleet`, of which each file has what it is called for. Administrators and monitors ask
 * the admin plane, sensors and operators the read plane: what their certificate says.
 *
 *   fleet         ls, hosts, where, bump
 *   fleet_ask     what is asked, and of which plane
 *   fleet_leases  leases
 *   fleet_watch   watch
 */

#include "clients/ctl/admin.h"
#include "proto/wire/identity.h"

struct ctl_fleet {
	const struct ctl *ctl;
	enum identity_role role; /* 0: not known */
	vmsig_admin *admin;      /* one of these */
	vmsig *tenant;
};

/* Connects. EXIT_OK, or the exit code after a message. */
int ctl_fleet_open(const struct ctl *ctl, struct ctl_fleet *ret_fleet);
/* After the connection was lost: waits for a broker for as long as there is none and somebody reads
 * the output. As above. */
int ctl_fleet_reopen(struct ctl_fleet *fleet);
void ctl_fleet_close(struct ctl_fleet *fleet);
/* The fleet as the broker has it, which stays until the next question. EXIT_OK, or the exit code
 * after a message. */
int ctl_fleet_ask(const struct ctl_fleet *fleet, const Vmsig__FleetView **ret_view);
/* Of its endpoint here, or, when it has none, of that at the host that has it. */
const char *ctl_fleet_name(const Vmsig__FleetGuest *guest);
/* What is wrong, on standard error, so that it does not get into what a script reads. */
void ctl_fleet_complain(const Vmsig__FleetView *view);

extern const struct ctl_command ctl_fleet_leases, ctl_fleet_watch;

#endif
