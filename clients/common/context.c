/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/common/context.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The context is over; what is known of the endpoint stays. */
static void void_it(struct context *context)
{
	context->mem = vmsig_mem_close(context->mem);
	context->segs = NULL;
	context->nseg = 0;
	vmsig_delivery_clear(&context->delivery);
}

void context_close(struct context *context)
{
	void_it(context);
	vmsig_close(context->connection);
	*context = CONTEXT_INIT;
}

/* ---- deliveries ---- */

static void take_epoch(struct context *context, uint32_t epoch)
{
	if (epoch <= context->epoch)
		return;
	context->epoch = epoch;
	void_it(context);
}

static int take_memctx(struct context *context, vmsig_delivery *delivery)
{
	int r;

	memcpy(&context->pod, delivery->event.inln, sizeof(context->pod));
	take_epoch(context, context->pod.epoch);
	void_it(context);
	context->root = context->pod.kcr3;
	context->guard = delivery->guard;
	context->state = VMSIG_STATE_READY;
	context->reason[0] = '\0';
	context->delivery = *delivery;
	*delivery = VMSIG_DELIVERY_INIT;
	context->segs = vmsig_memctx_segs(&context->delivery.event, &context->nseg);
	r = vmsig_mem_from_event(&context->mem, &context->delivery.event, context->delivery.ram_fd,
		context->delivery.coherence_fd);
	/* A guest that ends while we look must not end us by SIGBUS. */
	if (!r)
		r = vmsig_mem_set_mode(context->mem, VMSIG_MEM_PREAD);
	if (r) {
		void_it(context);
		snprintf(context->reason, sizeof(context->reason),
			"its context cannot be opened: %s", vmsig_error_text(r));
	}
	return r;
}

static void take_state(struct context *context, const vmsig_delivery *delivery)
{
	vmsig_endpoint_status status;

	memcpy(&status, delivery->event.inln, sizeof(status));
	take_epoch(context, status.epoch);
	context->state = status.state;
	context->guard = status.guard;
	snprintf(context->reason, sizeof(context->reason), "%s", vmsig_delivery_text(delivery));
}

int context_take(struct context *context, vmsig_delivery *delivery)
{
	vmsig_memctx_inv inv;
	int r = 0;

	switch (delivery->event.kind) {
	case VMSIG_EV_MEMCTX:
		r = take_memctx(context, delivery);
		break;
	case VMSIG_EV_MEMCTX_INVALIDATED:
		memcpy(&inv, delivery->event.inln, sizeof(inv));
		context->state = VMSIG_STATE_INVALID;
		take_epoch(context, inv.epoch);
		void_it(context);
		break;
	case VMSIG_EV_ENDPOINT_STATE:
		take_state(context, delivery);
		break;
	default:
		break;
	}
	vmsig_delivery_clear(delivery);
	return r;
}

uint32_t context_state(const struct context *context)
{
	vmsig_coherence page;
	ssize_t n = pread(context->delivery.coherence_fd, &page, sizeof(page), 0);

	return n == (ssize_t)sizeof(page) ? page.state : context->state;
}

const char *context_why(const struct context *context)
{
	return context->reason[0] ? context->reason : "it is still booting";
}

/* ---- memory ---- */

int context_read(struct context *context, bool physical, uint64_t addr, void *buf, size_t len)
{
	return physical ? vmsig_phys_read(context->mem, addr, buf, len)
			: vmsig_gva_read(context->mem, context->root, addr, buf, len);
}

int context_scan(const struct context *context, bool physical, const vmsig_lease_range *range,
	const unsigned char *pattern, size_t len, vmsig_match_fn match, void *ctx)
{
	return physical ? vmsig_scan_phys(context->mem, range->start, range->last, pattern, NULL,
				  len, match, ctx)
			: vmsig_scan_virt(context->mem, context->root, range->start, range->last,
				  pattern, NULL, len, match, ctx);
}
