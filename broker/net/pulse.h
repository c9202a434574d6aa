/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_NET_PULSE_H
#define BROKER_NET_PULSE_H

/*
 * The loop as net/ has it: its time, ticks for whatever has a deadline, and the count of handles
 * whose end a shutdown waits for. It ticks only while something is expected: an idle broker
 * sleeps.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Embedded in what looks at its deadlines. Whether there is more to wait for. */
struct pulse_beat {
	bool (*beat)(struct pulse_beat *beat, uint64_t now_ms);
	struct pulse_beat *prev, *next;
};

struct pulse {
	uv_loop_t *loop;
	uv_timer_t timer;
	struct pulse_beat *beats; /* in the order they came */
	uint32_t handles;         /* its own timer among them */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

void pulse_init(struct pulse *pulse, uv_loop_t *loop);
/* From now on it has a handle, and ends with pulse_close(). */
void pulse_start(struct pulse *pulse);
/* The beat stays until the end. */
void pulse_add(
	struct pulse *pulse, struct pulse_beat *beat, bool (*run)(struct pulse_beat *, uint64_t));
/* Something has got a deadline: ticks until nothing has. */
void pulse_hurry(struct pulse *pulse);

/* On the loop's own clock, of this turn. */
uint64_t pulse_now_ms(const struct pulse *pulse);
uint64_t pulse_now_ns(const struct pulse *pulse);

/* A handle is there that has to be closed, and it has been. */
void pulse_opened(struct pulse *pulse);
void pulse_closed(struct pulse *pulse);
/* No more ticks; `closed` (may be NULL) is called from the loop when no handle is left. */
void pulse_close(struct pulse *pulse, void (*closed)(void *arg), void *arg);

#endif
