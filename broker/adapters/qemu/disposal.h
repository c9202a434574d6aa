/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_DISPOSAL_H
#define BROKER_ADAPTERS_QEMU_DISPOSAL_H

/*
 * Closes descriptors whose last close may take its time: an inotify instance waits for the kernel
 * to be done with its marks, and many at once are not for the loop. Neither are thousands of
 * watches that end.
 */

#include <stddef.h>

#include "broker/jobs.h"

/* Takes over the descriptors, and the array, which malloc() made; negative ones are passed over.
 * Nobody is told when it is done. Closes them at once when there is no memory for that. */
void disposal_start(int *fds, size_t n, struct job_line *line);
/* Ends watches of an inotify instance, which is duplicated. Takes over the array. Ends them at once
 * when there is no memory or descriptor for that: nobody would know them any more. */
void disposal_watches(int inotify, int *watches, size_t n, struct job_line *line);

#endif
