/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

/*
 * What the rows of the benchmark share. A row measures the product and, in the same rounds, the
 * bare work that it cannot do without; `run` takes the medians and judges.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_GVA 0xffff888000000000ull /* the image maps its RAM here, in pages of 4 KiB */
#define BENCH_TABLES 0x100000ull        /* the image's page tables begin here: its kcr3 */
#define BENCH_SLICES 10u                /* of a round: what is compared takes turns */
#define BENCH_WAIT_MS 60000             /* for anything that must happen */

/* What a broker is loaded with while others measure. */
struct bench_load {
	unsigned endpoints, tenants, connections;
};

/* What the command line says. Strings are paths. */
struct bench {
	const char *row;
	const char *run;      /* folder of the broker's sockets */
	const char *ram;      /* folder of the endpoints' RAM files, NAME.ram */
	const char *pki;      /* folder of identities: broker, sensor, operator */
	const char *scratch;  /* folder for sockets of our own */
	const char *baseline; /* folder of another broker's sockets, or NULL */
	struct bench_load grown;
	const char *guest; /* folder of a real guest's sockets bench.qmp and bench.gdb, or NULL */
	const char *guest_ram; /* its RAM file */
	pid_t qemu;            /* which runs it */
	uint64_t at;           /* guest-physical, of a page of it that nobody else uses */
	pid_t broker;
	unsigned rounds;
	bool quick; /* as little as shows that it works */
};

/* CLOCK_MONOTONIC, ns. */
uint64_t bench_now(void);
/* `many`, or `few` when it has to be quick. */
unsigned bench_count(const struct bench *bench, unsigned many, unsigned few);
/* Room for so many latencies; the caller frees it. */
uint64_t *bench_times(unsigned n);
/* Sorts them; the one that `percent` of them do not exceed, us. */
double bench_percentile(uint64_t *times, unsigned n, unsigned percent);
/* One round's result; a baseline below 0 is none. */
void bench_report(const char *name, double value, double baseline);
/* Says what is wrong and ends the program. */
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *format, ...);
/* Joins folder and name; ends the program when it does not fit. Returns `path`. */
const char *bench_path(char path[], size_t size, const char *folder, const char *name);

/* The rows, each in a file of its own. */
void row_write_8b(const struct bench *bench);
void row_write_grown(const struct bench *bench);
void row_reset_all(const struct bench *bench);
void row_write_storm(const struct bench *bench);
void row_echo_storm(const struct bench *bench);
void row_write_4k(const struct bench *bench);
void row_bulk(const struct bench *bench);
void row_fanout(const struct bench *bench);
void row_idle(const struct bench *bench);
void row_subscribe(const struct bench *bench);
void row_read_4k(const struct bench *bench);
void row_read_8b(const struct bench *bench);
/* Several rows: the name tells which flood. */
void row_flood(const struct bench *bench);
/* The name tells which of today's ways. */
void row_today(const struct bench *bench);
/* Two rows: the first look at a real guest, and its list of processes. */
void row_percept(const struct bench *bench);
/* Not a row: writes the RAM image that the rows of reading and writing use. */
void row_floor_8b(const struct bench *bench);
void row_floor_4k(const struct bench *bench);
void row_floor_fanout(const struct bench *bench);
void row_floor_subscribe(const struct bench *bench);
void row_floor_read_4k(const struct bench *bench);

void row_image(const struct bench *bench);

#endif
