/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_SENSORS_GUESTS_H
#define CLIENTS_SENSORS_GUESTS_H

/*
 * What sensors have in common that look into guests again and again: one handle for each guest,
 * made anew for each of its epochs. Stands on the public headers alone, to be copied with the
 * sensor.
 *
 *   banner  a sensor that prints the kernel's banner
 *   guests  what those have in common that look again and again
 *   launch  a provider: makes a guest's RAM, offers it, runs a VMM
 *   intact  a sensor that watches text, system calls and modules
 *   procs   a sensor that reports new processes
 */

#include <stdint.h>

#include "vmsig/vmsig.h"
#include "vmsig/vmsig_mem.h"
#include "vmsig/vmsig_os.h"

struct sensor_guest {
	char name[VMSIG_NAME_MAX + 1];
	uint32_t epoch;
	uint64_t root; /* the kernel's, for vmsig_gva_read() */
	vmsig_mem *mem;
	vmsig_os_handle *os;
	void *seen; /* the sensor's, of this epoch; calloc()ed */
};

struct sensor {
	const char *program; /* for messages */
	size_t seen_size;
	/* 0, or a negated enum vmsig_error: of an epoch that is over, the next one will come. */
	int (*look)(struct sensor_guest *guest);
	void (*forget)(void *seen); /* what `seen` owns; not `seen` */
};

/* Follows all guests that the pattern names, and looks at each of them once a second, until nobody
 * reads standard output any more. The exit status. */
int guests_run(const struct sensor *sensor, int argc, char **argv);
/* A guest's bytes as a JSON string. */
void guests_print_text(const char *text);

#endif
