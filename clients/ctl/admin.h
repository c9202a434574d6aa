/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_CTL_ADMIN_H
#define CLIENTS_CTL_ADMIN_H

/* The administrator's connection of a subcommand. */

#include "clients/ctl/ctl.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig_admin.h"

/* Opens and connects. EXIT_OK, or the exit code after a message. */
int ctl_admin_connect(const struct ctl *ctl, vmsig_admin **ret_admin);
/* The same after a connection was lost: waits for a broker for as long as there is none and
 * somebody reads the output. */
int ctl_admin_reconnect(const struct ctl *ctl, vmsig_admin **admin);

/* Asks what vmsig.proto has: the answer stays until the next question. EXIT_OK, or the exit code
 * after a message that begins with `what`. */
int ctl_admin_ask(const struct ctl *ctl, vmsig_admin *admin,
	Vmsig__AdminRequest__BodyCase body_case, void *body, Vmsig__AdminMessage__BodyCase wanted,
	const Vmsig__AdminMessage **ret_answer, const char *what);

#endif
