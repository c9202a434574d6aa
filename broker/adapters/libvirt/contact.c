/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/adapters/libvirt/contact.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libvirt/virterror.h>

#include "broker/adapters/libvirt/event_loop.h"
#include "vmsig/vmsig_error.h"

/* A libvirtd that says nothing for 15 s is given up. */
#define KEEPALIVE_S 5
#define KEEPALIVE_COUNT 3

const char *contact_error(void)
{
	const char *text = virGetLastErrorMessage();

	return text && *text ? text : "libvirt does not say why";
}

static int connect_to(
	struct contact *contact, const struct contact_wanted *wanted, char *why, size_t size)
{
	int r = event_loop_start();

	if (r) {
		snprintf(why, size, "cannot start libvirt's event loop: %s", strerror(-r));
		return VMSIG_ERR_UNSUPPORTED;
	}
	contact->conn = virConnectOpen(wanted->uri);
	if (!contact->conn) {
		snprintf(why, size, "cannot connect to libvirt at %s: %s", wanted->uri,
			contact_error());
		return VMSIG_ERR_NOT_READY;
	}
	/* Not with a driver inside of this process, which cannot fall silent. */
	(void)virConnectSetKeepAlive(contact->conn, KEEPALIVE_S, KEEPALIVE_COUNT);
	return 0;
}

static int find_domain(
	struct contact *contact, const struct contact_wanted *wanted, char *why, size_t size)
{
	contact->domain = virDomainLookupByName(contact->conn, wanted->domain);
	if (!contact->domain)
		contact->domain = virDomainLookupByUUIDString(contact->conn, wanted->domain);
	if (!contact->domain) {
		snprintf(why, size,
			"libvirt at %s knows no domain '%s'; define it, or correct the "
			"name",
			wanted->uri, wanted->domain);
		return VMSIG_ERR_NOT_READY;
	}
	if (virDomainIsActive(contact->domain) == 1)
		return 0;
	snprintf(why, size, "the domain '%s' is not running", wanted->domain);
	return VMSIG_ERR_NOT_READY;
}

static pid_t read_pid(const char *path)
{
	FILE *file = fopen(path, "re");
	char text[32] = "";

	if (!file)
		return 0;
	(void)!fgets(text, sizeof(text), file);
	fclose(file);
	return (pid_t)strtol(text, NULL, 10);
}

static int find_process(
	struct contact *contact, const struct contact_wanted *wanted, char *why, size_t size)
{
	char path[512];
	int n = snprintf(
		path, sizeof(path), "%s/%s.pid", wanted->pids, virDomainGetName(contact->domain));

	contact->pid = n > 0 && (size_t)n < sizeof(path) ? read_pid(path) : 0;
	if (contact->pid > 0)
		contact->pidfd = (int)syscall(SYS_pidfd_open, contact->pid, 0);
	/* The number was still QEMU's when it was opened: libvirt removes the file at its end. */
	if (contact->pidfd >= 0 && read_pid(path) == contact->pid &&
		virDomainIsActive(contact->domain) == 1)
		return 0;
	snprintf(why, size,
		"%s does not name the domain's QEMU, so its RAM cannot be proven to be its own; "
		"let vmsigd read that file, or write 'pids: FOLDER' where libvirt keeps it",
		path);
	return VMSIG_ERR_UNSUPPORTED;
}

static int hear_events(
	struct contact *contact, const struct contact_wanted *wanted, char *why, size_t size)
{
	contact->events = virConnectDomainQemuMonitorEventRegister(contact->conn, contact->domain,
		NULL, wanted->on_event, wanted->arg, wanted->release, 0);
	if (contact->events >= 0)
		return 0;
	wanted->release(wanted->arg);
	snprintf(why, size, "libvirt does not pass QEMU's events on: %s", contact_error());
	return VMSIG_ERR_UNSUPPORTED;
}

int contact_begin(
	struct contact *ret_dial, const struct contact_wanted *wanted, char *why, size_t why_size)
{
	int r;

	*ret_dial = (struct contact){.events = -1, .pidfd = -1};
	r = connect_to(ret_dial, wanted, why, why_size);
	if (!r)
		r = find_domain(ret_dial, wanted, why, why_size);
	if (r) {
		wanted->release(wanted->arg);
		return r;
	}
	/* First, so that nothing that happens to the process found after it is missed. */
	r = hear_events(ret_dial, wanted, why, why_size);
	return r ? r : find_process(ret_dial, wanted, why, why_size);
}

void contact_end(struct contact *contact)
{
	if (contact->events >= 0)
		(void)virConnectDomainQemuMonitorEventDeregister(contact->conn, contact->events);
	if (contact->domain)
		virDomainFree(contact->domain);
	if (contact->conn)
		virConnectClose(contact->conn);
	if (contact->pidfd >= 0)
		close(contact->pidfd);
}
