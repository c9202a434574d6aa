/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker says on the write plane, message by message; anything else ends the connection.
 */
#include "clients/lib/writer.h"

#include <stdio.h>
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

static int on_error(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__Error *error = message->body;
	char text[CLIENT_TEXT_MAX + 1];
	uint32_t code = error->code;
	vmsig_lease *lease;
	struct writer_write *write;

	if (!code || code > INT16_MAX)
		code = VMSIG_ERR_INTERNAL;
	client_clean_text(
		text, sizeof(text), error->detail[0] ? error->detail : vmsig_error_text((int)code));
	if (!message->request_id)
		return writer_fail(writer, (int)code, "the broker says: %s", text);
	lease = lease_asking(writer, message->request_id);
	write = lease ? NULL : writer_write_find(writer, message->request_id);
	if (lease)
		writer_lease_answer(lease, (int)code, text);
	else if (write)
		writer_write_failed(write, (int)code, text);
	else if (message->request_id == writer->listing.request_id)
		writer_list_fail(writer, (int)code, text);
	else
		return check_id(writer, message->request_id);
	return 0;
}

static int on_done(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_RELEASE)
		return wrong_answer(writer);
	writer_lease_answer(lease, 0, "");
	return 0;
}

static int on_waiting(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__LeaseWaiting *waiting = message->body;
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_ACQUIRE || !waiting->lease)
		return wrong_answer(writer);
	writer_lease_waiting(lease, waiting->lease);
	return 0;
}

static int on_info(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_ACQUIRE && lease->asking != ASK_RESUME)
		return wrong_answer(writer);
	return writer_lease_granted(lease, message->body);
}

static int on_renewed(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__LeaseRenewed *renewed = message->body;
	vmsig_lease *lease = lease_asking(writer, message->request_id);

	if (!lease)
		return check_id(writer, message->request_id);
	if (lease->asking != ASK_RENEW || renewed->lease != lease->id)
		return wrong_answer(writer);
	writer_lease_renewed(lease, renewed->remaining_ms);
	return 0;
}

static int on_infos(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	if (message->request_id && message->request_id == writer->listing.request_id)
		return writer_list_page(writer, message->body);
	return check_id(writer, message->request_id);
}

static int on_result(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__WriteResult *result = message->body;
	struct writer_write *write = writer_write_find(writer, message->request_id);
	uint64_t asked = 0;

	if (!message->request_id || !write)
		return check_id(writer, message->request_id);
	for (size_t i = 0; i < write->body.n_ops; i++)
		asked += write->ops[i].data.len;
	if (write->body.bulk)
		asked = write->bulk.len;
	if (result->written > asked || result->old.len > asked)
		return wrong_answer(writer);
	writer_write_outcome(write, result);
	return 0;
}

static int on_notice(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__LeaseNotice *notice = message->body;
	vmsig_lease *lease = lease_by_id(writer, notice->lease);
	uint32_t before = writer->events_count;

	if (!lease)
		return 0;
	writer_event(writer, VMSIG_WEV_NOTICE, lease, 0,
		"somebody of higher priority waits; the lease is going to be revoked");
	if (writer->events_count > before)
		writer->events[(writer->events_head + before) % writer->events_size].revoke_in_ms =
			notice->revoke_in_ms;
	return 0;
}

static int on_ended(void *ctx, const struct envelope *message)
{
	vmsig_writer *writer = ctx;
	const Vmsig__LeaseEnded *ended = message->body;
	uint32_t reason = ended->reason;
	vmsig_lease *lease = lease_by_id(writer, ended->lease);
	char where[128] = "";

	if (reason == VMSIG_ERR_MOVED)
		snprintf(where, sizeof(where),
			"the guest runs on the host '%.63s' now, and so does its lease",
			ended->host);
	if (lease && !lease->borrowed)
		writer_lease_lose(
			lease, reason > INT16_MAX ? VMSIG_ERR_INTERNAL : (int)reason, where);
	return 0;
}

static const uplink_handler handlers[] = {
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
	return uplink_dispatch(handlers, sizeof(handlers) / sizeof(handlers[0]), writer, message);
}
