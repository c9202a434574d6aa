/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of what a holder finds out of a real guest: its first look, and its list of processes. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/sensor.h"
#include "vmsig/vmsig_os.h"

#define LISTED 100.0 /* processes, whatever number the guest has */

struct percept_times {
	double open, list; /* ms */
};

static double took_ms(uint64_t began)
{
	return (double)(bench_now() - began) / 1e6;
}

static void look(const struct bench *bench, struct percept_times *ret_times)
{
	vmsig_proc_list *list;
	vmsig_os_handle *os;
	char error[256];
	uint64_t kcr3, began;
	vmsig_mem *mem = sensor_context(bench, &kcr3);

	began = bench_now();
	if (vmsig_os_open(&os, mem, kcr3, error, sizeof(error)))
		bench_die("%s", error);
	ret_times->open = took_ms(began);
	began = bench_now();
	if (vmsig_os_processes(os, &list) || !list->count)
		bench_die("no list of processes");
	ret_times->list = took_ms(began) * LISTED / (double)list->count;
	vmsig_proc_list_free(list);
	vmsig_os_close(os);
	vmsig_mem_close(mem);
}

/* In a process of its own: what was learnt of a kernel is kept for the next look. */
static void look_anew(const struct bench *bench, struct percept_times *ret_times)
{
	int ends[2], status;
	pid_t pid;

	if (pipe(ends) < 0)
		bench_die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (!pid) {
		look(bench, ret_times);
		_exit(write(ends[1], ret_times, sizeof(*ret_times)) != sizeof(*ret_times));
	}
	close(ends[1]);
	if (read(ends[0], ret_times, sizeof(*ret_times)) != sizeof(*ret_times))
		bench_die("a look at the guest failed");
	close(ends[0]);
	(void)waitpid(pid, &status, 0);
}

void row_percept(const struct bench *bench)
{
	struct percept_times times;

	for (unsigned i = 0; i < bench->rounds; i++) {
		look_anew(bench, &times);
		bench_report(bench->row,
			strcmp(bench->row, "percept_open") == 0 ? times.open : times.list, -1);
	}
}
