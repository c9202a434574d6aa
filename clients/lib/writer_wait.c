/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a writer that wait, and what is over by the clock. */
#include "clients/lib/writer.h"

#include <stdlib.h>
#include <string.h>

/* One round: as uplink_step(), and what is over by the clock. */
static int step(vmsig_writer *writer, int64_t until)
{
	int r;

	if (writer->events_count >= WRITER_EVENTS_MAX)
		return writer_fail(writer, VMSIG_ERR_BUSY,
			"%u events wait; take some with vmsig_writer_next()", writer->events_count);
	writer_leases_expire(writer);
	r = uplink_step(&writer->link, until);
	writer_leases_expire(writer);
	return r;
}

int vmsig_writer_wait_connected(vmsig_writer *writer, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = -vmsig_writer_process(writer);

	while (!r && !vmsig_writer_is_connected(writer))
		r = step(writer, until);
	return client_result(r);
}

int vmsig_writer_wait(vmsig_writer *writer, vmsig_writer_event *ret_event, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = 0;

	if (!writer->events_count)
		r = -vmsig_writer_process(writer);
	while (!r && !writer->events_count)
		r = step(writer, until);
	return writer->events_count ? vmsig_writer_next(writer, ret_event) : client_result(r);
}

/* ---- leases ---- */

static bool is_held(const vmsig_lease *lease)
{
	return lease->phase == VMSIG_LEASE_HELD;
}

/* Until it is there, or over, which is told by the result and not by an event. */
static int lease_await(vmsig_lease *lease, bool (*is_there)(const vmsig_lease *), int64_t until)
{
	int r;

	lease->silent = true;
	r = -vmsig_writer_process(lease->writer);
	while (!r && !is_there(lease) && lease->phase != VMSIG_LEASE_OVER)
		r = step(lease->writer, until);
	lease->silent = false;
	if (!r && lease->phase == VMSIG_LEASE_OVER)
		r = lease->error ? lease->error : VMSIG_ERR_NO_LEASE;
	return r;
}

int vmsig_lease_acquire_wait(vmsig_writer *writer, const vmsig_lease_request *request,
	vmsig_lease **ret_lease, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	vmsig_lease *lease;
	int r = -vmsig_lease_acquire(writer, request, &lease);

	if (r)
		return client_result(r);
	r = lease_await(lease, is_held, until);
	if (!r) {
		*ret_lease = lease;
		return 0;
	}
	/* A request that still waits goes with its lease. */
	lease->releasing = true;
	if (lease->phase == VMSIG_LEASE_QUEUED)
		(void)!vmsig_writer_process(writer);
	vmsig_lease_free(lease);
	return client_result(r);
}

/* One that the broker lists as this tenant's, of nobody here. */
static int lease_find(
	vmsig_writer *writer, uint64_t id, uint64_t token, vmsig_lease **ret_lease, int timeout_ms)
{
	vmsig_lease_request request = {0};
	vmsig_lease_entries *entries;
	vmsig_lease *lease = NULL;
	int r = vmsig_lease_list(writer, &entries, timeout_ms);

	if (r)
		return r;
	r = -VMSIG_ERR_NO_LEASE;
	for (size_t i = 0; i < entries->count; i++) {
		const vmsig_lease_entry *entry = &entries->entries[i];

		if (entry->id != id || !entry->mine)
			continue;
		request.endpoint = entry->endpoint;
		r = vmsig_lease_acquire(writer, &request, &lease);
		if (r)
			break;
		lease->phase = VMSIG_LEASE_HELD;
		lease->id = id;
		lease->token = token;
		lease->endpoint_id = entry->endpoint_id;
		lease->epoch = entry->epoch;
		lease->granted_ttl_ms = entry->ttl_ms;
		lease->deadline = WRITER_NO_DEADLINE;
	}
	vmsig_lease_entries_free(entries);
	if (r == -VMSIG_ERR_NO_LEASE)
		writer_fail(writer, r, "there is no such lease of this tenant any more");
	*ret_lease = lease;
	return r;
}

int vmsig_lease_use(
	vmsig_writer *writer, uint64_t id, uint64_t token, vmsig_lease **ret_lease, int timeout_ms)
{
	int r = lease_find(writer, id, token, ret_lease, timeout_ms);

	if (!r)
		(*ret_lease)->borrowed = true;
	return r;
}

/* The broker has said that it is this connection's. */
static bool is_resumed(const vmsig_lease *lease)
{
	return is_held(lease) && lease->asking == ASK_NONE &&
	       lease->connection == lease->writer->link.number;
}

int vmsig_lease_resume(
	vmsig_writer *writer, uint64_t id, uint64_t token, vmsig_lease **ret_lease, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	vmsig_lease *lease;
	int r = lease_find(writer, id, token, &lease, timeout_ms);

	if (r)
		return r;
	r = lease_await(lease, is_resumed, until);
	if (!r) {
		*ret_lease = lease;
		return 0;
	}
	/* It is not ours to give back. */
	lease->borrowed = true;
	vmsig_lease_free(lease);
	return client_result(r);
}

int vmsig_lease_release_wait(vmsig_lease *lease, int timeout_ms)
{
	vmsig_writer *writer = lease->writer;
	int64_t until = uplink_until(timeout_ms);
	int r = -vmsig_lease_release(lease);

	while (!r && lease->phase != VMSIG_LEASE_OVER)
		r = step(writer, until);
	if (!r)
		r = lease->error;
	return client_result(r);
}

/* ---- writes ---- */

struct answer {
	vmsig_write_result result;
	bool there;
};

static void copy_result(vmsig_write_result *to, const vmsig_write_result *from)
{
	size_t text = strlen(from->text) + 1;
	unsigned char *owned = malloc(from->old_len + text);

	*to = *from;
	to->owned = owned;
	to->old = owned;
	to->text = owned ? (char *)owned + from->old_len : "";
	if (!owned) {
		to->old_len = 0;
		return;
	}
	if (from->old_len)
		memcpy(owned, from->old, from->old_len);
	memcpy(owned + from->old_len, from->text, text);
}

static void on_done(void *arg, const vmsig_write_result *result)
{
	struct answer *answer = arg;

	copy_result(&answer->result, result);
	answer->there = true;
}

void vmsig_write_result_clear(vmsig_write_result *result)
{
	free(result->owned);
	*result = (vmsig_write_result){.text = ""};
}

/* Nobody is left to take its outcome. */
static void forget(vmsig_lease *lease, const struct answer *answer)
{
	for (struct writer_write *write = lease->writes; write; write = write->next) {
		if (write->arg == answer)
			write->done = NULL;
	}
}

static int await(
	vmsig_lease *lease, struct answer *answer, vmsig_write_result *ret_result, int timeout_ms)
{
	int64_t until = uplink_until(timeout_ms);
	int r = -uplink_send(&lease->writer->link);

	while (!r && !answer->there)
		r = step(lease->writer, until);
	if (!answer->there) {
		forget(lease, answer);
		return client_result(r);
	}
	if (answer->result.outcome)
		writer_fail(lease->writer, 0, "%s: %s", lease->endpoint,
			answer->result.text[0] ? answer->result.text
					       : vmsig_error_text(answer->result.outcome));
	*ret_result = answer->result;
	return answer->result.outcome;
}

int vmsig_write_wait(vmsig_lease *lease, const vmsig_write_op *ops, size_t nops, uint32_t flags,
	vmsig_write_result *ret_result, int timeout_ms)
{
	struct answer answer = {.there = false};
	int r;

	*ret_result = (vmsig_write_result){.text = ""};
	r = vmsig_write(lease, ops, nops, flags, on_done, &answer);
	return r ? r : await(lease, &answer, ret_result, timeout_ms);
}

int vmsig_write_bulk_wait(vmsig_lease *lease, uint64_t addr, uint32_t op_flags, uint64_t cr3,
	int memfd, uint64_t offset, uint64_t len, uint32_t flags, vmsig_write_result *ret_result,
	int timeout_ms)
{
	struct answer answer = {.there = false};
	int r;

	*ret_result = (vmsig_write_result){.text = ""};
	r = vmsig_write_bulk(
		lease, addr, op_flags, cr3, memfd, offset, len, flags, on_done, &answer);
	return r ? r : await(lease, &answer, ret_result, timeout_ms);
}
