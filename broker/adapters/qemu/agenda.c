/* SPDX-License-Identifier: Apache-2.0 */
/* What is under way with one QEMU and what comes next, and whether there is nothing left. */
#include <stdlib.h>

#include "broker/adapters/qemu/qemu.h"
#include "broker/policy/share.h"

void qemu_schedule(struct qemu *q, uint64_t ms)
{
	if (q->timer_open)
		(void)uv_timer_start(&q->timer, q->due, ms, 0); /* only fails while closing */
}

void qemu_schedule_retry(struct qemu *q)
{
	uint64_t max = q->env.config->retry_max_ms;

	qemu_schedule(q, q->backoff_ms);
	q->backoff_ms = q->backoff_ms < max / 2 ? q->backoff_ms * 2 : max;
}

void qemu_flow_cancel(struct qemu *q)
{
	inquiry_reset(&q->inquiry);
	q->flow = q->queued = FLOW_NONE;
	if (q->job && !q->job_void) {
		q->job_void = true;
		errand_cancel(&q->job->errand);
	}
}

void qemu_maybe_stopped(struct qemu *q)
{
	adapter_stopped_fn stopped = q->stopped;
	void *arg = q->stopped_arg;

	if (!stopped || q->timer_open || q->link.closing || q->closing || q->job ||
		quiesce_is_open(&q->quiesce))
		return;
	inquiry_reset(&q->inquiry);
	guest_unref(q->guest);
	if (q->spoken)
		q->transport->close(q->spoken);
	share_unref(q->share);
	job_line_free(q->line);
	free(q);
	stopped(arg);
}
