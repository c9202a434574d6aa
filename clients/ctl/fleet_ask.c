/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmsigctl fleet` asks the broker, and what it says is wrong. */
#include <stdio.h>

#include "clients/ctl/fleet.h"

int ctl_fleet_ask(const struct ctl *ctl, vmsig_admin *admin, const Vmsig__FleetView **ret_view)
{
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	const Vmsig__AdminMessage *answer;
	int code;

	body.whole = true;
	code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY, &body,
		VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW, &answer, "cannot ask for the fleet");

	if (!code)
		*ret_view = answer->fleet_view;
	return code;
}

const char *ctl_fleet_name(const Vmsig__FleetGuest *guest)
{
	if (guest->endpoint[0])
		return guest->endpoint;
	return guest->name[0] ? guest->name : "-";
}

void ctl_fleet_complain(const Vmsig__FleetView *view)
{
	char text[512];

	if (view->more)
		fputs("vmsigctl: there are more guests or leases than these\n", stderr);
	if (view->alone)
		fputs("vmsigctl: the fleet's etcd did not answer: these are the guests of this "
		      "host "
		      "only\n",
			stderr);
	if (!view->problem[0])
		return;
	snprintf(text, sizeof(text), "%s", view->problem);
	text_clean(text);
	fprintf(stderr, "vmsigctl: %s\n", text);
}
