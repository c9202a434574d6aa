/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/rescue.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/libvirt.h>

#include "broker/adapters/qemu/guardian.h"

#define SEPARATOR '\n'
/* What a client has asked for before it died may still be under way in libvirtd. */
#define LOOKS 5
#define LOOK_MS 200
/* libvirtd lets a request wait for its turn for 30 s, and refuses it then. */
#define BUSY_LOOKS 150

int rescue_ward(const char *uri, const char *uuid, char *ward, size_t size)
{
	int n = snprintf(ward, size, "%s%c%s", uuid, SEPARATOR, uri);

	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static bool has_ended(int process)
{
	struct pollfd pidfd = {.fd = process, .events = POLLIN};

	return poll(&pidfd, 1, 0) != 0;
}

/* An unknown reason is what a libvirtd that was started meanwhile gives. */
static bool is_ours(int state, int reason)
{
	return state == VIR_DOMAIN_PAUSED &&
	       (reason == VIR_DOMAIN_PAUSED_USER || reason == VIR_DOMAIN_PAUSED_UNKNOWN);
}

/* QEMU owes libvirtd an answer: that may be to our suspend, which the broker has asked for before
 * it died. */
static bool is_busy(virDomainPtr domain)
{
	virDomainControlInfo info;

	return virDomainGetControlInfo(domain, &info, 0) == 0 &&
	       info.state == VIR_DOMAIN_CONTROL_OCCUPIED;
}

/* Looks for as long as a suspend may still come into effect, and no longer: a guest that another
 * broker stops after that is none of ours. */
static bool resume(virDomainPtr domain, int process)
{
	int state, reason, looks = 0;

	for (int busy = 0; looks < LOOKS && busy < BUSY_LOOKS && !has_ended(process);) {
		if (virDomainGetState(domain, &state, &reason, 0) < 0)
			return false;
		if (is_ours(state, reason))
			return virDomainResume(domain) == 0;
		if (state != VIR_DOMAIN_RUNNING)
			return true;
		(void)poll(NULL, 0, LOOK_MS);
		if (is_busy(domain))
			busy++;
		else
			looks++;
	}
	return true;
}

bool rescue_domain(const char *ward, int process)
{
	const char *uri = strchr(ward, SEPARATOR);
	char uuid[VIR_UUID_STRING_BUFLEN];
	virConnectPtr conn;
	virDomainPtr domain;
	bool settled = false;

	if (!uri || has_ended(process))
		return true;
	snprintf(uuid, sizeof(uuid), "%.*s", (int)(uri - ward), ward);
	/* The library would start a daemon that does not run; that is the administrator's. */
	setenv("LIBVIRT_AUTOSTART", "0", 1);
	conn = virConnectOpen(uri + 1);
	domain = conn ? virDomainLookupByUUIDString(conn, uuid) : NULL;
	if (domain) {
		settled = resume(domain, process);
		virDomainFree(domain);
	}
	if (conn)
		virConnectClose(conn);
	return settled;
}
