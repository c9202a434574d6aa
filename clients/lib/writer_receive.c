/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/writer.h"

#include <string.h>

static vmsig_lease *lease_asking(vmsig_writer *writer, uint64_t request_id)
{
	for (vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		if (lease->asking != ASK_NONE && lease->request_id == request_id)
			return lease;
	}
	return NULL;
}

static vmsig_lease *lease_by_id(vmsig_writer *writer, uint64_t id)
{
	for (vmsig_lease *lease = writer->leases; lease; lease = lease->next) {
		if (lease->id == id && lease->phase != VMSIG_LEASE_OVER)
			return lease;
	}
	return NULL;
}

/* Answers to what nobody cares about any more come late; to what was never asked, not at all. */
static int check_id(vmsig_writer *writer, uint64_t request_id)
{
	if (request_id && request_id <= writer->link.last_id)
		return 0;
	return writer_fail(writer, VMSIG_ERR_PROTOCOL, "the broker answers what it was not asked");
}

static int wrong_answer(vmsig_writer *writer)
{
	return writer_fail(
		writer, VMSIG_ERR_PROTOCOL, "the broker's answer does not fit the question");
}

static int on_error(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	char text[CLIENT_TEXT_MAX + 1];
	uint32_t code = message->error->code;
	vmsig_lease *lease;
	struct write *write;

	if (!code || code > INT16_MAX)
		code = VMSIG_ERR_INTERNAL;
	client_clean_text(text, sizeof(text),
		message->error->detail[0] ? message->error->detail : vmsig_error_text((int)code));
	if (!message->request_id)
		return writer_fail(writer, (int)code, "the broker says: %s", text);
	lease = lease_asking(writer, message->request_id);
	write = lease ? NULL : write_find(writer, message->request_id);
	if (lease)
		lease_answer(lease, (int)code, text);
	else if (write)
		write_failed(write, (int)code, text);
	else if (message->request_id == writer->listing.request_id)
		writer_list_fail(writer, (int)code, text);
	else
		return check_id(writer, message->request_id);
	return 0;
}

static int on_done(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_RELEASE)
		return wrong_answer(writer);
	lease_answer(lease, 0, "");
	return 0;
}

static int on_waiting(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_ACQUIRE || !message->lease_waiting->lease)
		return wrong_answer(writer);
	lease_waiting(lease, message->lease_waiting->lease);
	return 0;
}

static int on_info(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_ACQUIRE && lease->asking != ASK_RESUME)
		return wrong_answer(writer);
	return lease_granted(lease, message->lease_info);
}

static int on_renewed(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_RENEW || message->lease_renewed->lease != lease->id)
		return wrong_answer(writer);
	lease_renewed(lease, message->lease_renewed->remaining_ms);
	return 0;
}

static int on_infos(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	if (message->request_id && message->request_id == writer->listing.request_id)
		return writer_list_page(writer, message->lease_infos);
	return check_id(writer, message->request_id);
}

static int on_result(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	struct write *write = write_find(writer, message->request_id);
	uint64_t asked = 0;

	if (!message->request_id || !write)
		return check_id(writer, message->request_id);
	for (size_t i = 0; i < write->body.n_ops; i++)
		asked += write->ops[i].data.len;
	if (write->body.bulk)
		asked = write->bulk.len;
	if (message->write_result->written > asked || message->write_result->old.len > asked)
		return wrong_answer(writer);
	write_outcome(write, message->write_result);
	return 0;
}

static int on_notice(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	vmsig_lease *lease = lease_by_id(writer, message->lease_notice->lease);
	uint32_t before = writer->events_count;

	if (!lease)
		return 0;
	writer_event(writer, VMSIG_WEV_NOTICE, lease, 0,
		"somebody of higher priority waits; the lease is going to be revoked");
	if (writer->events_count > before)
		writer->events[(writer->events_head + before) % writer->events_size].revoke_in_ms =
			message->lease_notice->revoke_in_ms;
	return 0;
}

static int on_ended(vmsig_writer *writer, const Vmsig__WriteMessage *message)
{
	uint32_t reason = message->lease_ended->reason;
	vmsig_lease *lease = lease_by_id(writer, message->lease_ended->lease);

	if (lease && !lease->borrowed)
		lease_lose(lease, reason > INT16_MAX ? VMSIG_ERR_INTERNAL : (int)reason, "");
	return 0;
}

static int (*const handlers[])(vmsig_writer *, const Vmsig__WriteMessage *) = {
	[VMSIG__WRITE_MESSAGE__BODY_ERROR] = on_error,
	[VMSIG__WRITE_MESSAGE__BODY_DONE] = on_done,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_WAITING] = on_waiting,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_INFO] = on_info,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_RENEWED] = on_renewed,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_INFOS] = on_infos,
	[VMSIG__WRITE_MESSAGE__BODY_WRITE_RESULT] = on_result,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_NOTICE] = on_notice,
	[VMSIG__WRITE_MESSAGE__BODY_LEASE_ENDED] = on_ended,
};

int writer_receive(vmsig_writer *writer, const struct envelope *message)
{
	size_t kind = (size_t)message->body_case;

	/* A newer broker may have more to say. */
	if (kind >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[kind])
		return 0;
	return handlers[kind](writer, (const Vmsig__WriteMessage *)(const void *)message);
}
