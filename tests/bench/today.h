/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_TODAY_H
#define TESTS_BENCH_TODAY_H

/*
 * How tools get at a guest's memory without a broker: by QEMU's monitor, by its debugger stub, by
 * the process's own memory. Each as its own users do it, with the connection open. What fails ends
 * the program.
 */

#include "tests/bench/bench.h"

struct today;

/* Connects to what the way needs. NULL: there is no way of that name. */
struct today *today_open(const struct bench *bench, const char *way);
void today_close(struct today *today);
/* Reads guest-physical memory. */
void today_read(struct today *today, uint64_t gpa, void *buf, size_t len);
/* Writes it; only some ways can. */
void today_write(struct today *today, uint64_t gpa, const void *buf, size_t len);

#endif
