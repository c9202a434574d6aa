/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENTS_LIB_CLIENT_H
#define CLIENTS_LIB_CLIENT_H

/*
 * The inside of a libvmsig handle, shared by the files of clients/lib/ and by nobody else.
 *
 *   vmsig.c         the handle: opening, accessors, what its link (uplink.h) asks
 *   receive.c       messages of the broker
 *   memctx.c        a MEMCTX message: everything in it is verified here
 *   locator.c       what its event's payload is made of
 *   subscription.c  what the holder wants to be told of
 *   system.c        names of endpoints, and what runs in one, as the broker says
 *   epochs.c        what it was told last: order across reconnections
 *   listing.c       a list that arrives in pages
 *   lookout.c       the fleet
 *   delivery.c      what waits for the holder
 *   blocking.c      calls that wait
 *
 * Internal functions return 0, a positive enum vmsig_error or a negative errno; what ends
 * the connection goes through uplink_down().
 *
 *   admin     the admin plane
 *   ask       of which anything can be asked
 *   settings  options
 *   uplink    a connection that is made again
 *   dial      connecting
 *   backoff   pauses
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/lib/uplink.h"
#include "proto/wire/vmsig.pb-c.h"
#include "vmsig/vmsig.h"

#define CLIENT_SUBSCRIPTIONS_MAX 1024u
#define CLIENT_ENDPOINTS_MAX 65536u /* in a list, and in the book of epochs */

/* Deliveries that one step can add after the queue was found to have room: a step says at
 * most that an epoch is over, what is new, and that the connection has ended. */
#define CLIENT_QUEUE_SPARE 4u

struct client_subscription {
	struct client_subscription *next;
	uint64_t request_id; /* of the question that is out, or 0 */
	int64_t asked_until; /* when the answer is due */
	int64_t retry_at;    /* when to ask (again); CLIENT_NEVER: not needed */
	struct backoff backoff;
	int answer;    /* last answer: 0, positive enum vmsig_error; -1: none yet */
	bool granted;  /* in this connection */
	bool proven;   /* was granted in some connection */
	bool blocking; /* somebody waits in vmsig_subscribe_wait(): no delivery */
	char pattern[VMSIG_NAME_MAX + 1];
};

struct listing {
	uint64_t request_id; /* 0: none is under way */
	int64_t until;
	bool blocking;
	vmsig_endpoint_list *list;   /* pages so far */
	vmsig_endpoint_list *result; /* of a blocking call */
	int error;                   /* of a blocking call: positive, 0, -1 while it goes on */
};

/* One question about the fleet. */
struct lookout {
	uint64_t request_id; /* 0: none is under way */
	int64_t until;
	Vmsig__FleetView *view; /* the answer */
	int error;              /* positive: there is none */
};

struct delivery_queue {
	vmsig_delivery *ring; /* size entries */
	uint32_t size;
	uint32_t limit; /* reading stops here */
	uint32_t head;
	uint32_t count;
};

struct told; /* epochs.c */

struct vmsig {
	struct uplink link;
	struct client_subscription *subscriptions;
	uint32_t nsubscriptions;
	struct listing listing;
	struct lookout lookout;
	struct delivery_queue queue;
	struct told *told;
};

/* Remembers the sentence and returns `code` as it is. */
#define client_fail(v, ...) uplink_fail(&(v)->link, __VA_ARGS__)

/* ---- receive.c ---- */

/* One message after hello. Anything but 0 ends the connection. */
__attribute__((warn_unused_result)) int receive_message(vmsig *v, const struct envelope *message);

/* ---- system.c ---- */

/* 1 to VMSIG_NAME_MAX visible ASCII characters. */
bool system_name_ok(const char *name);
/* What a message says of the system; NULL: nothing. */
void system_take(vmsig_system *system, const Vmsig__System *message);

/* ---- memctx.c ---- */

__attribute__((warn_unused_result)) int memctx_receive(vmsig *v, const Vmsig__Memctx *message);

/* ---- subscription.c ---- */

struct client_subscription *client_subscription_find(const vmsig *v, const char *pattern);
void client_subscription_free(vmsig *v, struct client_subscription *subscription);
/* A connection is there or gone: all have to be asked for anew. */
void client_subscription_all_reset(vmsig *v);
/* Asks for what is due. */
__attribute__((warn_unused_result)) int client_subscription_all_ask(vmsig *v, int64_t now);
/* The earliest moment at which one is to be asked for or an answer is overdue. */
int64_t client_subscription_all_deadline(const vmsig *v);
bool client_subscription_all_overdue(const vmsig *v, int64_t now);
/* Whether the answer with this id is one of a subscription. */
bool client_subscription_answer(vmsig *v, uint64_t request_id, int error, const char *text);

/* ---- epochs.c ---- */

/* The broker has said something of `epoch` about the endpoint. *ret_invalidated: a context
 * of another epoch was told, and the holder must hear first that it is over.
 * VMSIG_ERR_PROTOCOL: older than what it said in this connection. */
__attribute__((warn_unused_result)) int epochs_note(
	vmsig *v, const char *name, uint32_t epoch, bool *ret_invalidated);
/* A context of the noted epoch is being told, or is over. */
void epochs_set_context(vmsig *v, const char *name, bool told);
/* The endpoint is gone: its line is not kept for ever, unless a context has to be taken back. */
void epochs_forget(vmsig *v, const char *name);
void epochs_deinit(vmsig *v);

/* ---- listing.c ---- */

__attribute__((warn_unused_result)) int listing_start(vmsig *v, bool blocking);
__attribute__((warn_unused_result)) int listing_page(vmsig *v, const Vmsig__EndpointList *page);
/* Ends it with a positive error; nothing when none is under way. */
void listing_fail(vmsig *v, int error, const char *text);
void listing_deinit(vmsig *v);

/* ---- lookout.c ---- */

/* The view is borrowed. */
__attribute__((warn_unused_result)) int lookout_take(vmsig *v, const Vmsig__FleetView *view);
/* Ends it with a positive error; nothing when none is under way. */
void lookout_fail(vmsig *v, int error, const char *text);
void lookout_deinit(vmsig *v);

/* ---- delivery.c ---- */

__attribute__((warn_unused_result)) int delivery_queue_init(
	struct delivery_queue *queue, uint32_t limit);
void delivery_queue_deinit(struct delivery_queue *queue);
bool delivery_queue_is_full(const struct delivery_queue *queue);
/* A cleared delivery at the end of the queue, to be filled in. Never fails: see
 * CLIENT_QUEUE_SPARE. */
vmsig_delivery *delivery_queue_add(struct delivery_queue *queue, uint32_t kind, const char *name);
/* Copies text into the payload, control characters replaced, cut at CLIENT_TEXT_MAX. Without
 * memory the delivery goes without its text. */
void delivery_set_text(vmsig_delivery *delivery, const char *text);

#endif
