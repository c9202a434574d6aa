/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_MONITOR_H
#define BROKER_ADAPTERS_LIBVIRT_MONITOR_H

/*
 * A domain's QMP through libvirt: a transport (qemu/transport.h). At the other end of the socket is
 * a thread of its own that has a connection of its own to libvirtd: libvirt's calls wait, and for
 * as long as a QEMU likes, so one domain must not wait behind another. The thread is left alone
 * when it hangs; nothing of the broker waits for it.
 *
 *   libvirt       the adapter
 *   monitor       QMP spoken for a domain
 *   rescue        has a domain go on when the broker has died
 *   contact       libvirt, connected to
 *   event_loop    the thread that libvirt's events come from
 *   domains       which domains there are
 *   labels        and what they are labelled with
 *
 * Order: an event that QEMU sent before it answered comes before the answer, as on a socket of
 * QEMU's. libvirtd hands its events over by a timer of its loop and answers from a pool, and its
 * library does likewise here, so after each command the thread makes two more trips to libvirtd and
 * lets its own event loop turn twice before it passes the answer on.
 *
 * `stop` and `cont` are given as libvirt's own suspend and resume, so that it knows and does what
 * it does besides (locks of disks, say). A `cont` that libvirt has no time for is given again.
 *
 * Identity: libvirtd starts a domain anew only when the QEMU before has ended. What is passed on
 * after a look at that process's pidfd that found it alive is therefore of that process. The pid is
 * in the file that libvirt itself keeps, in a folder that QEMU may not write to.
 */

#include <stddef.h>
#include <sys/types.h>

struct config_endpoint;
struct transport_line;

/* As struct transport has them. */
__attribute__((warn_unused_result)) int monitor_open(
	struct transport_line **ret_line, int *ret_socket, const struct config_endpoint *config);
pid_t monitor_pid(const struct transport_line *line);
int monitor_ward(const struct transport_line *line, char *ward, size_t size);
void monitor_why(const struct transport_line *line, char *why, size_t why_size);
struct transport_line *monitor_close(struct transport_line *line);

#endif
