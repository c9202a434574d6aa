/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What QEMU says of migrations, in the steps that a fleet knows. The run state, asked before, and
 * the migration's state decide together: what has changed in between cancels the inquiry by an
 * event. A source is where a guest has left for good when its migration is complete, unless
 * somebody has it run on there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/adapters/qemu/qemu.h"

#define KERNEL_MAX 64 /* bytes of a kernel's name with its NUL */

static void tell(struct qemu *q, enum passage_step step)
{
	const struct passage *passage = q->env.passage;

	if (q->voyage == step)
		return;
	q->voyage = step;
	if (passage && passage->step && !q->removed)
		passage->step(passage->ctx, q->env.endpoint, step);
}

static enum passage_step step_of(const struct qemu *q)
{
	const struct inquiry *inquiry = &q->inquiry;

	if (strcmp(inquiry->status, "inmigrate") == 0)
		return PASSAGE_COMES;
	/* In postcopy the target runs already. */
	if (inquiry->migrating)
		return q->voyage == PASSAGE_COMES && !q->ready ? PASSAGE_COMES : PASSAGE_LEAVES;
	if (strcmp(inquiry->status, "postmigrate") == 0)
		return PASSAGE_LEFT;
	if (!inquiry->migrated)
		return PASSAGE_STAYS;
	if (!inquiry->outgoing)
		return PASSAGE_COMES;
	return inquiry->look.running ? PASSAGE_STAYS : PASSAGE_LEFT;
}

void qemu_voyage_look(struct qemu *q)
{
	const struct passage *passage = q->env.passage;
	bool waits = strcmp(q->inquiry.status, "inmigrate") == 0;
	bool arrives = q->awaits && !waits;

	if (waits)
		q->arrival = true;
	q->awaits = waits;
	tell(q, step_of(q));
	if (arrives && passage && passage->arrived && !q->removed)
		passage->arrived(passage->ctx, q->env.endpoint);
}

/* Whoever moves it may end QEMU at once, and a small guest has left before QEMU can be asked. One
 * that is served runs here, so it can only be leaving. */
void qemu_voyage_event(struct qemu *q, const char *status)
{
	bool completed = status && strcmp(status, "completed") == 0;

	if (!status)
		return;
	if (q->ready && q->voyage == PASSAGE_STAYS && !completed && strcmp(status, "failed") != 0 &&
		strcmp(status, "cancelled") != 0 && strcmp(status, "none") != 0)
		tell(q, PASSAGE_LEAVES);
	if (q->voyage == PASSAGE_LEAVES && completed)
		tell(q, PASSAGE_LEFT);
}

void qemu_voyage_over(struct qemu *q)
{
	const struct passage *passage = q->env.passage;

	if (q->voyage != PASSAGE_LEFT && passage && passage->over && !q->removed)
		passage->over(passage->ctx, q->env.endpoint);
}

void qemu_voyage_distrust(struct qemu *q)
{
	q->arrival = false;
}

void qemu_voyage_end(struct qemu *q)
{
	q->arrival = false;
	if (q->voyage == PASSAGE_LEAVES)
		tell(q, PASSAGE_ENDED);
}

/* By what does not change while the kernel runs: where its root is, and its own notes, which say
 * where a boot has put it at random. Where that is at no random place, the next boot looks the
 * same; a source knows its guest's resets by itself, a target those since the guest has arrived. */
void qemu_voyage_identify(struct qemu *q)
{
	const struct passage *passage = q->env.passage;
	char kernel[KERNEL_MAX] = "";
	bool lasts = q->proof.placement || q->voyage != PASSAGE_COMES;

	if (!passage || !passage->kernel)
		return;
	if (lasts || q->arrival)
		snprintf(kernel, sizeof(kernel), "kernel-%" PRIx64 "-%" PRIx64, q->proof.kcr3,
			q->proof.digest);
	passage->kernel(passage->ctx, q->env.endpoint, kernel, lasts);
}
