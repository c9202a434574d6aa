/* SPDX-License-Identifier: Apache-2.0 */
/* What `vmsigctl fleet` asks the broker, and what it says is wrong. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "clients/ctl/fleet.h"
#include "clients/ctl/pki_cert.h"
#include "clients/lib/ask.h"

/* ---- connections ---- */

/* What the certificate says; 0: that cannot be read, and who connects with it says why. */
static enum identity_role role_of(const struct ctl *ctl)
{
	char path[PATH_MAX], uri[PKI_URI_MAX], text[256];
	struct pki_sentence sentence = {text, sizeof(text)};
	struct identity identity = {0};
	X509 *cert;

	if (!ctl->identity)
		return 0;
	pki_path(path, ctl->identity, "cert.pem");
	cert = pki_read_cert(&sentence, path);
	if (!cert || pki_cert_uri(&sentence, path, cert, uri) ||
		identity_parse(uri, strlen(uri), &identity))
		identity.role = 0;
	X509_free(cert);
	return identity.role;
}

static bool is_tenant(const struct ctl_fleet *fleet)
{
	return fleet->role == IDENTITY_SENSOR || fleet->role == IDENTITY_OPERATOR;
}

int ctl_fleet_open(const struct ctl *ctl, struct ctl_fleet *ret_fleet)
{
	*ret_fleet = (struct ctl_fleet){.ctl = ctl, .role = role_of(ctl)};
	return is_tenant(ret_fleet) ? ctl_connect(ctl, &ret_fleet->tenant)
				    : ctl_admin_connect(ctl, &ret_fleet->admin);
}

int ctl_fleet_reopen(struct ctl_fleet *fleet)
{
	return is_tenant(fleet) ? ctl_reconnect(fleet->ctl, &fleet->tenant)
				: ctl_admin_reconnect(fleet->ctl, &fleet->admin);
}

void ctl_fleet_close(struct ctl_fleet *fleet)
{
	fleet->admin = vmsig_admin_close(fleet->admin);
	fleet->tenant = vmsig_close(fleet->tenant);
}

/* ---- asking ---- */

#define CANNOT_ASK "cannot ask for the fleet"

static int ask_tenant(const struct ctl_fleet *fleet, const Vmsig__FleetView **ret_view)
{
	int r = ask_fleet(fleet->tenant, ret_view, (int)fleet->ctl->wait_ms);

	return r ? ctl_fail(r, CANNOT_ASK ": %s", vmsig_last_error(fleet->tenant)) : EXIT_OK;
}

int ctl_fleet_ask(const struct ctl_fleet *fleet, const Vmsig__FleetView **ret_view)
{
	Vmsig__FleetQuery body = VMSIG__FLEET_QUERY__INIT;
	const Vmsig__AdminMessage *answer;
	int code;

	if (fleet->tenant)
		return ask_tenant(fleet, ret_view);
	body.whole = true;
	code = ctl_admin_ask(fleet->ctl, fleet->admin, VMSIG__ADMIN_REQUEST__BODY_FLEET_QUERY,
		&body, VMSIG__ADMIN_MESSAGE__BODY_FLEET_VIEW, &answer, CANNOT_ASK);
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
