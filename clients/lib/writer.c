/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/writer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t writer_boot_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- events ---- */

static bool events_grow(vmsig_writer *writer)
{
	uint32_t size = writer->events_size ? writer->events_size * 2 : 16;
	vmsig_writer_event *grown = calloc(size, sizeof(*grown));

	if (!grown)
		return false;
	for (uint32_t i = 0; i < writer->events_count; i++)
		grown[i] = writer->events[(writer->events_head + i) % writer->events_size];
	free(writer->events);
	writer->events = grown;
	writer->events_size = size;
	writer->events_head = 0;
	return true;
}

void writer_event(vmsig_writer *writer, enum vmsig_writer_event_kind kind, vmsig_lease *lease,
	int error, const char *text)
{
	vmsig_writer_event *event;

	if (writer->events_count == writer->events_size && !events_grow(writer)) {
		writer_fail(writer, 0, "out of memory; an event was lost");
		return;
	}
	event = &writer->events[(writer->events_head + writer->events_count++) %
				writer->events_size];
	*event = (vmsig_writer_event){.kind = kind, .lease = lease, .error = -error};
	client_clean_text(event->text, sizeof(event->text), text);
}

int vmsig_writer_next(vmsig_writer *writer, vmsig_writer_event *ret_event)
{
	if (!writer->events_count)
		return -VMSIG_ERR_WOULD_BLOCK;
	*ret_event = writer->events[writer->events_head];
	writer->events_head = (writer->events_head + 1) % writer->events_size;
	writer->events_count--;
	return 0;
}

/* ---- what the link asks ---- */

static void on_up(void *owner)
{
	writer_event(owner, VMSIG_WEV_CONNECTED, NULL, 0, "");
}

static void on_down(void *owner, int code, bool news)
{
	vmsig_writer *writer = owner;

	writer_list_fail(writer, VMSIG_ERR_DISCONNECTED, writer->link.error);
	for (vmsig_lease *lease = writer->leases; lease; lease = lease->next)
		writer_lease_disconnected(lease);
	if (news)
		writer_event(writer, VMSIG_WEV_DISCONNECTED, NULL, code, writer->link.error);
}

static int on_message(void *owner, const struct envelope *message)
{
	return writer_receive(owner, message);
}

static bool is_full(const void *owner)
{
	const vmsig_writer *writer = owner;

	return writer->events_count >= WRITER_EVENTS_MAX;
}

static int on_due(void *owner, int64_t now)
{
	const vmsig_writer *writer = owner;
	int r = 0;

	for (vmsig_lease *lease = writer->leases; lease && !r; lease = lease->next) {
		r = writer_lease_due(lease, now);
		if (!r)
			r = writer_writes_due(lease, now);
	}
	/* The send queue is full: the rest follows when the broker has read. */
	return r == VMSIG_ERR_QUOTA ? 0 : r;
}

static bool is_overdue(const void *owner, int64_t now)
{
	const vmsig_writer *writer = owner;

	if (writer->listing.request_id && writer->listing.until <= now)
		return true;
	for (const vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		if (writer_lease_is_overdue(lease, now))
			return true;
	}
	return false;
}

static int64_t next_deadline(const void *owner)
{
	const vmsig_writer *writer = owner;
	bool is_up = writer->link.phase == PHASE_READY;
	int64_t deadline = CLIENT_NEVER;

	if (is_up && writer->listing.request_id)
		deadline = writer->listing.until;
	for (const vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		int64_t moment = writer_lease_next_moment(lease, is_up);

		if (moment < deadline)
			deadline = moment;
	}
	return deadline;
}

static const struct uplink_ops write_ops = {
	.default_socket = VMSIG_WRITE_SOCKET,
	.request = &vmsig__write_request__descriptor,
	.message = &vmsig__write_message__descriptor,
	.up = on_up,
	.down = on_down,
	.take = on_message,
	.is_full = is_full,
	.due = on_due,
	.is_overdue = is_overdue,
	.deadline = next_deadline,
};

/* ---- the handle ---- */

int vmsig_writer_open(
	vmsig_writer **ret_writer, const vmsig_options *options, char *error, size_t error_size)
{
	vmsig_writer *writer = calloc(1, sizeof(*writer));
	int r = writer ? uplink_init(&writer->link, &write_ops, writer, options) : -ENOMEM;

	if (!r && getrandom(&writer->id, sizeof(writer->id), 0) != sizeof(writer->id))
		r = writer_fail(writer, VMSIG_ERR_IO, "getrandom: %s", strerror(errno));
	if (r) {
		r = uplink_refuse(writer ? &writer->link : NULL, r, error, error_size);
		vmsig_writer_close(writer);
		return r;
	}
	*ret_writer = writer;
	return 0;
}

vmsig_writer *vmsig_writer_close(vmsig_writer *writer)
{
	if (!writer)
		return NULL;
	while (writer->leases)
		vmsig_lease_free(writer->leases);
	uplink_deinit(&writer->link);
	vmsig_lease_entries_free(writer->listing.list);
	free(writer->events);
	spares_deinit(&writer->spares);
	free(writer);
	return NULL;
}

int vmsig_writer_fd(const vmsig_writer *writer)
{
	return writer->link.epoll;
}

short vmsig_writer_poll_events(const vmsig_writer *writer)
{
	return writer->link.armed ? POLLIN : 0;
}

int64_t vmsig_writer_deadline(const vmsig_writer *writer)
{
	int64_t deadline = uplink_deadline(&writer->link), own;

	/* A connection that failed for good renews no lease, and its end is still to be told. */
	if (writer->link.phase == PHASE_FAILED) {
		own = next_deadline(writer);
		deadline = own < deadline ? own : deadline;
	}
	return deadline == CLIENT_NEVER ? -1 : deadline;
}

int vmsig_writer_process(vmsig_writer *writer)
{
	writer_leases_expire(writer);
	return uplink_process(&writer->link);
}

bool vmsig_writer_is_connected(const vmsig_writer *writer)
{
	return writer->link.phase == PHASE_READY;
}

const char *vmsig_writer_last_error(const vmsig_writer *writer)
{
	return writer->link.error;
}
