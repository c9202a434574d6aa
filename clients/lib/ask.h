/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_ASK_H
#define CLIENTS_LIB_ASK_H

/*
 * Any request of the admin plane as vmsig.proto has it, and what is asked of the fleet at the read
 * plane, for the programs of this tree: what is asked there grows with every version, so it is no
 * interface of the installed library.
 */

#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig.h"
#include "vmsig/vmsig_admin.h"

/* Sends AdminRequest.`body_case` and waits for an answer of the kind `wanted`, which stays until
 * the next call with this handle. 0 or a negated enum vmsig_error; vmsig_admin_last_error() has the
 * sentence. */
VMSIG_MUST_USE int ask_admin(vmsig_admin *admin, Vmsig__AdminRequest__BodyCase body_case,
	void *body, Vmsig__AdminMessage__BodyCase wanted, const Vmsig__AdminMessage **ret_answer,
	int timeout_ms);

/* The fleet as a sensor or an operator may see it, of all hosts; the view stays until the next call
 * with this handle. Deliveries that come meanwhile wait in it. 0 or a negated enum vmsig_error;
 * vmsig_last_error() has the sentence. */
VMSIG_MUST_USE int ask_fleet(vmsig *v, const Vmsig__FleetView **ret_view, int timeout_ms);

#endif
