/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_CONTACT_H
#define BROKER_ADAPTERS_LIBVIRT_CONTACT_H

/*
 * A connection to libvirtd for one domain: the domain, its QEMU's process, and the events of its
 * monitor. For threads that may wait.
 */

#include <stddef.h>
#include <sys/types.h>

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>

#define CONTACT_WHY_MAX 300

struct contact_wanted {
	const char *uri, *domain; /* a name or a UUID */
	const char *pids;         /* the folder of pid files */
	virConnectDomainQemuMonitorEventCallback on_event;
	virFreeCallback release; /* of `arg`, when no event comes any more; also after a failure */
	void *arg;
};

struct contact {
	virConnectPtr conn;
	virDomainPtr domain;
	int events; /* -1: not registered */
	int pidfd;
	pid_t pid;
};

/* 0, or a positive enum vmsig_error with a sentence in `why`. contact_end() in every case. */
__attribute__((warn_unused_result)) int contact_begin(
	struct contact *ret_dial, const struct contact_wanted *wanted, char *why, size_t why_size);
void contact_end(struct contact *contact);
/* libvirt's last error on this thread. */
const char *contact_error(void);

#endif
