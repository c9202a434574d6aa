/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_QEMU_FAKE_QMP_H
#define TESTS_INTEGRATION_QEMU_FAKE_QMP_H

/*
 * A QEMU as far as its QMP socket shows it, on a uv loop: it serves one client, answers the
 * adapter's questions with a capture of a real one and sends the events it is told to. Any
 * failure aborts the test.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct fake_qmp {
	uv_pipe_t listener;
	uv_pipe_t client;
	bool connected;
	uint64_t hva;       /* where RAM is mapped; 0: it does not tell */
	const char *ram;    /* mem-path */
	const char *dimm;   /* that of a DIMM of FAKE_DIMM_SIZE at 4 GiB, NULL: none is plugged */
	uint64_t dimm_hva;  /* where that is mapped; 0: it does not tell */
	const char *status; /* of query-status */
	bool long_mode;     /* what `info registers` shows */
	uint64_t cr3;       /* likewise */
	bool mute;          /* answers nothing any more */
	bool refuses_cont;
	bool late;             /* begins with answers that the client before did not stay for */
	bool slow;             /* does what it is told in fake_qmp_go_on(); not for who has left */
	bool events_asked;     /* MIGRATION events were turned on */
	unsigned accepted;     /* clients so far */
	unsigned asked;        /* commands so far */
	unsigned maps;         /* of these, `info mtree` */
	const char *migration; /* status of query-migrate; NULL: there was none */
	bool is_source;        /* and it says how long it took */
	const char
		*stopped_by_other; /* status from the next cont on, as when somebody else stops */
	char log[1024];            /* "stop cont ...": those that change something */
	bool refuses_nodes;        /* an old QEMU: no list of snapshots */
	unsigned snapshots;        /* with VM state */
	int64_t snapshot_s;        /* date of the youngest */
	bool has_clock;            /* an HPET that counts */
	uint64_t clock_ns;         /* its value when the guest was stopped, or ... */
	uint64_t running_ns;       /* ... when it was continued here, by the host's clock */
	const char *job;           /* type and state of a job, NULL: there is none */
	const char *job_status;
	char mtree[64 << 10];
	char line[4096];
	size_t len;
};

#define FAKE_DIMM_SIZE (128l << 20)
/* The DIMM comes, or goes with a NULL path, and an event says so. */
void fake_qmp_plug(struct fake_qmp *fake, const char *path, uint64_t hva);

void fake_qmp_start(struct fake_qmp *fake, uv_loop_t *loop, const char *path, const char *ram);
void fake_qmp_say(struct fake_qmp *fake, const char *line);
/* What is shown by a QEMU that stops, loads a snapshot that is so old, and continues. */
void fake_qmp_load(struct fake_qmp *fake, uint64_t age_ns);
/* stop and cont by somebody else. */
void fake_qmp_pause(struct fake_qmp *fake);
void fake_qmp_resume(struct fake_qmp *fake);
void fake_qmp_go_on(struct fake_qmp *fake);
/* The client sees the end of the stream; the next one is welcome. */
void fake_qmp_hang_up(struct fake_qmp *fake);
/* Nobody else gets a connection. */
void fake_qmp_stop_listening(struct fake_qmp *fake);
void fake_qmp_stop(struct fake_qmp *fake);

#endif
