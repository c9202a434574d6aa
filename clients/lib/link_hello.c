/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/link.h"

#include "proto/wire/unpack.h"
#include "proto/wire/vmsig.pb-c.h"

#define PROTOCOL_VERSION 1u

/* The broker is believed what it says of guests, not how much of it there is: a page of 256
 * leases with 256 ranges each is the largest of its messages. */
static const struct unpack_budget budget = {.parts = 1u << 17, .bytes = 16u << 20};

int link_hello_send(struct client_link *link)
{
	Vmsig__Hello body = VMSIG__HELLO__INIT;
	char software[] = "libvmsig/" VMSIG_VERSION;
	uint64_t id;

	body.version = PROTOCOL_VERSION;
	body.software = software;
	return link_request(link, ENVELOPE_HELLO, &body, NULL, 0, &id);
}

static int on_hello(struct client_link *link, const Vmsig__Hello *hello)
{
	if (hello->version != PROTOCOL_VERSION)
		return link_fail(link, VMSIG_ERR_UNSUPPORTED,
			"the broker speaks version %u of the protocol, this library version %u",
			hello->version, PROTOCOL_VERSION);
	client_clean_text(link->software, sizeof(link->software), hello->software);
	link->phase = PHASE_READY;
	link->ready_at = client_now();
	link->told = 0;
	link->number++;
	link->ops->up(link->owner);
	return 0;
}

/* An error in answer to our hello, or instead of one, is the broker's refusal. */
static int on_refusal(struct client_link *link, const Vmsig__Error *error)
{
	char text[CLIENT_TEXT_MAX + 1];

	client_clean_text(text, sizeof(text), error->detail);
	return link_fail(link,
		error->code && error->code <= INT16_MAX ? (int)error->code : VMSIG_ERR_PROTOCOL,
		"the broker refused the connection: %s", text);
}

static int dispatch(struct client_link *link, const struct envelope *message)
{
	bool is_hello = message->body_case == ENVELOPE_HELLO;

	if (link->phase == PHASE_READY)
		return is_hello ? link_fail(link, VMSIG_ERR_PROTOCOL, "the broker says hello twice")
				: link->ops->take(link->owner, message);
	if (is_hello)
		return on_hello(link, message->body);
	if (message->body_case == ENVELOPE_ERROR)
		return on_refusal(link, message->body);
	return link_fail(link, VMSIG_ERR_PROTOCOL, "the broker says something before hello");
}

int link_take_frame(struct client_link *link, const uint8_t *data, size_t len)
{
	ProtobufCMessage *message;
	int r = unpack_message(&message, link->ops->message, &budget, data, len);

	if (r < 0)
		return link_fail(link, VMSIG_ERR_NO_MEMORY,
			"out of memory for a message of %zu bytes from the broker", len);
	if (r)
		return link_fail(link, VMSIG_ERR_PROTOCOL,
			r == VMSIG_ERR_PROTOCOL
				? "the broker sent %zu bytes that are not a message"
				: "the broker sent a message of %zu bytes with more in it than "
				  "any that it may send",
			len);
	r = dispatch(link, (const struct envelope *)(const void *)message);
	unpack_free(message);
	return r;
}
