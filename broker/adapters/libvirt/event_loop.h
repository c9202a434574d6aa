/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_LIBVIRT_EVENT_LOOP_H
#define BROKER_ADAPTERS_LIBVIRT_EVENT_LOOP_H

/*
 * libvirt's event loop: one for the process, on a thread that runs until the process ends. All of
 * libvirt's callbacks are called there, so none of them may wait.
 */

/* Starts it unless it runs; before the first connection. From any thread. -errno. */
__attribute__((warn_unused_result)) int event_loop_start(void);
/* Waits until it has turned: what was to be called before, has been. Not from the loop itself. */
void event_loop_pass(void);

#endif
