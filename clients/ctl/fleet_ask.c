/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmsigctl fleet` asks the broker, and what it says is wrong. */
#include <stdio.h>

#include "clients/ctl/fleet.h"

int ctl_fleet_ask(const struct ctl *ctl, vmsig_admin *admin, const Vmsig__FleetView **ret_view)
{
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	const Vmsig__AdminMessage *answer;
	int code = ctl_admin_ask(ctl, admin, VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY, &body,
		VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW, &answer, "cannot ask for the fleet");

	if (!code)
		*ret_view = answer->fleet_view;
	return code;
}

void ctl_fleet_complain(const Vmsig__FleetView *view)
{
	char text[512];

	if (view->more)
		fputs("vmsigctl: there are more guests than these\n", stderr);
	if (!view->problem[0])
		return;
	snprintf(text, sizeof(text), "%s", view->problem);
	text_clean(text);
	fprintf(stderr, "vmsigctl: %s\n", text);
}
