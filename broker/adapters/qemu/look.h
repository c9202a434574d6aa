/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKER_ADAPTERS_QEMU_LOOK_H
#define BROKER_ADAPTERS_QEMU_LOOK_H

/*
 * Reads QEMU's answers for what restore.h judges: its snapshots, its virtual clock, its jobs.
 * Pure; the answers are foreign, and what makes no sense counts as not known.
 */

#include <stddef.h>

#include <jansson.h>

#include "broker/adapters/qemu/restore.h"

/* Where QEMU's PC machines have the HPET's main counter (hw/timer/hpet.c), two words of 32 bits,
 * low one first. */
#define LOOK_CLOCK_COMMAND "xp /2xw 0xfed000f0"
#define LOOK_JOB_MAX 96

/* `nodes` is what query-named-block-nodes returned, NULL when it was refused. */
void look_snapshots(struct restore_look *look, const json_t *nodes);
/* `text` is what LOOK_CLOCK_COMMAND printed between asked_ns and answered_ns of `look`. */
void look_clock(struct restore_look *look, const char *text);
/* `jobs` is what query-jobs returned. `ret_load` gets what tells the state of the last job that
 * loads a snapshot from others, "" when there is none. */
void look_jobs(char ret_load[static LOOK_JOB_MAX], const json_t *jobs);

#endif
