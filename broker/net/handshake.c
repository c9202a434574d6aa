/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/net/handshake.h"

#include <time.h>

#include "broker/net/crew.h"
#include "broker/net/door.h"
#include "vmsig/vmsig_error.h"

/* Work on such a thread takes this part of its time from the loop when both want the CPU: the
 * kernel's weights of the two nice values. */
#define POOL_WEIGHT 10u

/* ---- on a thread of the crew ---- */

static uint64_t thread_ns(void)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct conn *conn_of(struct crew_task *task)
{
	return (struct conn *)((char *)task - offsetof(struct conn, handshake.task));
}

static void on_work(struct crew_task *task)
{
	struct conn *conn = conn_of(task);
	uint64_t start_ns = thread_ns();

	conn->handshake.result = chan_handshake(conn->chan);
	conn->handshake.work_ns = thread_ns() - start_ns;
}

/* ---- on the loop ---- */

static void on_worked(struct crew_task *task)
{
	struct conn *conn = conn_of(task);

	conn->handshake.worked = true;
	conn_worked(conn);
}

/* The client has brought it on if there is something to answer; what the crew took is not the
 * client's time. */
static void note_progress(struct conn *conn)
{
	struct handshake *handshake = &conn->handshake;
	uint64_t now_ms = pulse_now_ms(conn->conns->pulse);

	handshake->moved_ms = chan_output_bytes(conn->chan)
				      ? now_ms
				      : handshake->moved_ms + now_ms - handshake->step_ms;
}

/* The crew has come back with a part of it. */
static int worked(struct conn *conn)
{
	int r = conn->handshake.result;

	conn->handshake.worked = false;
	note_progress(conn);
	share_charge(conn->share, conn->handshake.work_ns / POOL_WEIGHT);
	if (r && r != VMSIG_ERR_WOULD_BLOCK)
		return r;
	if (!r) {
		struct conns_counts *counts = &conn->conns->counts;

		conn->handshake.is_done = true;
		counts->handshakes_good++;
		histogram_add(
			&counts->handshake, pulse_now_ns(conn->conns->pulse) - conn->since_ns);
		conn->handshake.established(conn);
	}
	return conn->phase ? conn_flush(conn) : 0;
}

/* Something came from the peer. */
static int step(struct conn *conn)
{
	struct handshake *handshake = &conn->handshake;
	int r = chan_fill(conn->chan);

	conn->wants_read = false;
	conn->heard_again = 0;
	if (r == VMSIG_ERR_WOULD_BLOCK)
		return conn_flush(conn);
	if (r == VMSIG_ERR_BUSY)
		return conn_fetch_rights(conn);
	if (r)
		return r;
	r = conn_watch(conn, 0);
	if (r)
		return r;
	handshake->has_spoken = true;
	handshake->step_ms = pulse_now_ms(conn->conns->pulse);
	handshake->task = (struct crew_task){.work = on_work, .done = on_worked};
	r = crew_give(conn->conns->crew, &handshake->task);
	conn->working = !r;
	return r;
}

static int run(struct conn *conn)
{
	return conn->handshake.worked ? worked(conn) : step(conn);
}

/* It is over, well or badly. */
static void leave(struct conn *conn)
{
	conn->handshake.by_ms = 0;
	conn->conns->counts.handshakes_bad += !conn->handshake.is_done;
	charge_refund(&conn->entry.unproven);
	door_leave(conn);
}

void handshake_begin(struct conn *conn, struct door *door, uint64_t by_ms,
	void (*established)(struct conn *conn))
{
	static const struct conn_phase phase = {.run = run, .leave = leave};

	conn->phase = &phase;
	conn->handshake.established = established;
	conn->handshake.by_ms = by_ms;
	conn->handshake.moved_ms = pulse_now_ms(conn->conns->pulse);
	door_enter(door, conn);
}
