/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/pulse.h"

#include <utlist.h>

#define TICK_MS 50 /* resolution of time-outs and of retries after EMFILE */

uint64_t pulse_now_ms(const struct pulse *pulse)
{
	return uv_now(pulse->loop);
}

uint64_t pulse_now_ns(const struct pulse *pulse)
{
	return uv_now(pulse->loop) * 1000000u;
}

void pulse_init(struct pulse *pulse, uv_loop_t *loop)
{
	*pulse = (struct pulse){.loop = loop};
}

void pulse_start(struct pulse *pulse)
{
	pulse->timer.data = pulse;
	pulse->handles = 1;
	(void)uv_timer_init(pulse->loop, &pulse->timer); /* cannot fail */
}

void pulse_add(
	struct pulse *pulse, struct pulse_beat *beat, bool (*run)(struct pulse_beat *, uint64_t))
{
	beat->beat = run;
	DL_APPEND(pulse->beats, beat);
}

static void on_tick(uv_timer_t *timer)
{
	struct pulse *pulse = timer->data;
	struct pulse_beat *beat;
	bool expecting = false;

	DL_FOREACH (pulse->beats, beat)
		expecting |= beat->beat(beat, pulse_now_ms(pulse));
	if (!expecting)
		uv_timer_stop(&pulse->timer);
}

void pulse_hurry(struct pulse *pulse)
{
	if (!pulse->closing && !uv_is_active((uv_handle_t *)&pulse->timer))
		uv_timer_start(&pulse->timer, on_tick, TICK_MS, TICK_MS);
}

void pulse_opened(struct pulse *pulse)
{
	pulse->handles++;
}

void pulse_closed(struct pulse *pulse)
{
	pulse->handles--;
	if (pulse->closing && !pulse->handles && pulse->closed)
		pulse->closed(pulse->closed_arg);
}

static void on_closed(uv_handle_t *handle)
{
	pulse_closed(handle->data);
}

void pulse_close(struct pulse *pulse, void (*closed)(void *arg), void *arg)
{
	pulse->closing = true;
	pulse->closed = closed;
	pulse->closed_arg = arg;
	uv_close((uv_handle_t *)&pulse->timer, on_closed);
}
