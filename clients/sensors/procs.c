/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vmsig-procs: an example of a sensor, meant to be copied. A JSON line for each process that is new
 * in a guest since the last look:
 *
 *	{"endpoint": "web1", "epoch": 3, "pid": 812, "parent": 1, "uid": 33, "name": "nginx"}
 *
 * Those that were there at the first look are not new. What lives shorter than it takes until the
 * next look is not seen.
 *
 *	cc -o procs procs.c guests.c $(pkg-config --cflags --libs libvmsig)
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "guests.h"

struct procs_seen {
	vmsig_proc_list *list;
};

/* A number is given out again: its process is the same when it also began at the same moment. */
static int by_process(const void *a, const void *b)
{
	const vmsig_proc *one = a, *two = b;

	if (one->pid != two->pid)
		return one->pid < two->pid ? -1 : 1;
	return one->start_ns < two->start_ns ? -1 : one->start_ns > two->start_ns;
}

static void print(const struct sensor_guest *guest, const vmsig_proc *process)
{
	printf("{\"endpoint\": ");
	guests_print_text(guest->name);
	printf(", \"epoch\": %" PRIu32 ", \"pid\": %" PRIu32 ", \"parent\": %" PRIu32
	       ", \"uid\": %" PRIu32 ", \"name\": ",
		guest->epoch, process->pid, process->parent, process->uid);
	guests_print_text(process->name);
	printf("}\n");
}

static int look(struct sensor_guest *guest)
{
	struct procs_seen *seen = guest->seen;
	vmsig_proc_list *list, *before = seen->list;
	int r = vmsig_os_processes(guest->os, &list);

	if (r)
		return r;
	qsort(list->processes, list->count, sizeof(*list->processes), by_process);
	for (size_t i = 0; before && i < list->count; i++) {
		if (!bsearch(&list->processes[i], before->processes, before->count,
			    sizeof(*before->processes), by_process))
			print(guest, &list->processes[i]);
	}
	/* What a list that is not whole lacks would be new the next time. */
	if (list->partial && before) {
		vmsig_proc_list_free(list);
		return 0;
	}
	vmsig_proc_list_free(before);
	seen->list = list;
	return 0;
}

static void forget(void *ctx)
{
	struct procs_seen *seen = ctx;

	vmsig_proc_list_free(seen->list);
}

int main(int argc, char **argv)
{
	static const struct sensor sensor = {.program = "vmsig-procs",
		.seen_size = sizeof(struct procs_seen),
		.look = look,
		.forget = forget};

	return guests_run(&sensor, argc, argv);
}
