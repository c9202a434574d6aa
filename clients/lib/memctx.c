/* SPDX-License-Identifier: Apache-2.0 */
/* A MEMCTX message made into a delivery. Nothing of it is used before all of it was verified:
 * layout, descriptors, page. */
#include "clients/lib/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clients/lib/locator.h"
#include "proto/guest/physmap.h"
#include "proto/guest/span.h"
#include "vmsig/vmsig_coherence.h"

/* The descriptors of one message, owned until they are handed over. */
struct memctx_parcel {
	int fds[CHAN_FDS_PER_FRAME];
	size_t n;
	size_t rams[VMSIG_MEMFILES_MAX]; /* indices */
	size_t nrams;
	int coherence; /* index, -1 for none */
};

static int lie(vmsig *v, const Vmsig__Memctx *message, const char *what)
{
	return client_fail(v, VMSIG_ERR_PROTOCOL, "%s: %s", message->name, what);
}

static void parcel_deinit(struct memctx_parcel *parcel)
{
	for (size_t i = 0; i < parcel->n; i++) {
		if (parcel->fds[i] >= 0)
			close(parcel->fds[i]);
	}
}

static int parcel_add_ram(
	vmsig *v, const Vmsig__Memctx *message, struct memctx_parcel *parcel, size_t i)
{
	/* A broker that knows of several says what they are. */
	if (parcel->nrams && parcel->nrams >= message->n_files)
		return lie(v, message, "two descriptors have the same purpose");
	if (parcel->nrams == VMSIG_MEMFILES_MAX)
		return lie(v, message, "guest RAM has too many files");
	for (size_t j = 0; j < parcel->nrams; j++) {
		const Vmsig__Descriptor *other = message->descriptors[parcel->rams[j]];

		if (other->dev == message->descriptors[i]->dev &&
			other->ino == message->descriptors[i]->ino)
			return lie(v, message, "two of the RAM files are the same");
	}
	parcel->rams[parcel->nrams++] = i;
	return 0;
}

static int parcel_index(
	vmsig *v, const Vmsig__Memctx *message, struct memctx_parcel *parcel, size_t i)
{
	int r = 0;

	switch (message->descriptors[i]->purpose) {
	case VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM:
		r = parcel_add_ram(v, message, parcel, i);
		break;
	case VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE:
		if (parcel->coherence >= 0)
			r = lie(v, message, "two descriptors have the same purpose");
		parcel->coherence = (int)i;
		break;
	default:
		/* For newer holders; closed with the parcel. */
		return 0;
	}
	if (!r && message->descriptors[i]->access != O_RDONLY)
		r = lie(v, message, "a descriptor is not read-only");
	return r;
}

/* Others are for newer holders, and may be anything. */
static bool is_known(const Vmsig__Descriptor *descriptor)
{
	return descriptor->purpose == VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM ||
	       descriptor->purpose == VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE;
}

static int parcel_take(vmsig *v, const Vmsig__Memctx *message, struct memctx_parcel *parcel)
{
	struct chan_fd_claim claims[CHAN_FDS_PER_FRAME];
	int r;

	if (message->n_descriptors > CHAN_FDS_PER_FRAME)
		return lie(v, message, "the message announces too many descriptors");
	for (size_t i = 0; i < message->n_descriptors; i++) {
		const Vmsig__Descriptor *is = message->descriptors[i];

		claims[i] = (struct chan_fd_claim){.dev = is->dev,
			.ino = is->ino,
			.size = is->size,
			.access = is->access,
			.regular = is_known(is)};
	}
	r = chan_take_fds(v->link.chan, claims, message->n_descriptors, parcel->fds);
	if (r)
		return lie(v, message, chan_error(v->link.chan));
	parcel->n = message->n_descriptors;
	/* The broker sends the next parcel only when this one was acknowledged, if it is to be. */
	if (message->delivery && chan_pending_fds(v->link.chan))
		return lie(v, message, "more descriptors came than the message announced");
	for (size_t i = 0; i < parcel->n && r == 0; i++)
		r = parcel_index(v, message, parcel, i);
	if (r)
		return r;
	if (!parcel->nrams)
		return lie(v, message, "there is no descriptor of guest RAM");
	if (message->n_files && message->n_files != parcel->nrams)
		return lie(v, message, "there are more RAM files than descriptors of them");
	return 0;
}

/* chan_take_fds() has compared the size with what the kernel says, and that it is a file. */
static int page_check(vmsig *v, const Vmsig__Memctx *message, const struct memctx_parcel *parcel)
{
	if (parcel->coherence >= 0 &&
		message->descriptors[parcel->coherence]->size < VMSIG_COHERENCE_SIZE)
		return lie(v, message, "the coherence page is not one");
	return 0;
}

/* How much of each file counts. A single one has no line of its own. */
static int files_unpack(vmsig *v, const Vmsig__Memctx *message, const struct memctx_parcel *parcel,
	struct locator_files *files)
{
	struct span span;
	int r;

	files->n = parcel->nrams;
	for (size_t i = 0; i < files->n; i++) {
		uint64_t size = message->descriptors[parcel->rams[i]]->size;

		files->fds[i] = parcel->fds[parcel->rams[i]];
		files->sizes[i] = message->n_files ? message->files[i]->size : size;
		if (files->sizes[i] > size)
			return lie(v, message, "a RAM file is smaller than the message says");
	}
	r = span_init(&span, files->fds, files->sizes, files->n);
	if (r > 0)
		return lie(v, message, "the RAM files cannot lie end to end");
	if (!r)
		span_deinit(&span);
	return r;
}

static int layout_check(vmsig *v, const Vmsig__Memctx *message, const vmsig_memseg *segs,
	const struct locator_files *files)
{
	struct physmap map = PHYSMAP_INIT;
	uint64_t size = 0;
	int r;

	for (size_t i = 0; i < files->n; i++)
		size += files->sizes[i];
	if (message->n_segments)
		r = physmap_init(&map, segs, message->n_segments, size);
	else
		r = physmap_init_low(&map, message->low, size);
	physmap_deinit(&map);
	if (r == VMSIG_ERR_BAD_REQUEST)
		return lie(v, message,
			"the memory layout overlaps, wraps or reaches beyond the RAM file");
	return r;
}

static int payload_unpack(vmsig *v, const Vmsig__Memctx *message, const struct locator_files *files,
	vmsig_payload *ret_payload)
{
	vmsig_memseg *segs;
	int r;

	if (message->n_segments > PHYSMAP_MAX_SEGS)
		return lie(v, message, "the memory layout has too many segments");
	r = locator_new(ret_payload, (uint32_t)message->n_segments, (uint32_t)files->n);
	if (r)
		return r;
	segs = locator_segs(ret_payload);
	for (size_t i = 0; i < message->n_segments; i++) {
		const Vmsig__Segment *is = message->segments[i];

		segs[i] = (vmsig_memseg){.gpa = is->gpa, .len = is->len, .file_off = is->file_off};
	}
	return 0;
}

static int taken_send(vmsig *v, const Vmsig__Memctx *message)
{
	Vmsig__MemctxTaken body = VMSIG__MEMCTX_TAKEN__INIT;
	uint64_t id;

	if (!message->delivery)
		return 0;
	body.delivery = message->delivery;
	return uplink_request(&v->link, VMSIG__CTX_REQUEST__BODY_MEMCTX_TAKEN, &body, NULL, 0, &id);
}

static int fields_check(vmsig *v, const Vmsig__Memctx *message)
{
	if (!(message->flags & VMSIG_MEMCTX_RDONLY))
		return lie(v, message, "the context does not say that it is read-only");
	if (!message->epoch)
		return lie(v, message, "the context has no epoch");
	return 0;
}

/* The descriptors are the delivery's from here on. */
static void parcel_hand_over(struct memctx_parcel *parcel)
{
	for (size_t i = 0; i < parcel->nrams; i++)
		parcel->fds[parcel->rams[i]] = -1;
	if (parcel->coherence >= 0)
		parcel->fds[parcel->coherence] = -1;
}

static void tell(vmsig *v, const Vmsig__Memctx *message, const vmsig_payload *payload,
	const struct locator_files *files, struct memctx_parcel *parcel)
{
	const vmsig_memctx pod = {
		.kcr3 = message->kcr3,
		.low = message->low,
		.epoch = message->epoch,
		.nseg = (uint32_t)message->n_segments,
		.flags = (message->flags & ~VMSIG_MEMCTX_FILES) |
			 (files->n > 1 ? VMSIG_MEMCTX_FILES : 0),
	};
	vmsig_delivery *delivery = delivery_queue_add(&v->queue, VMSIG_EV_MEMCTX, message->name);

	delivery->event.endpoint = message->endpoint;
	delivery->guard = message->guard;
	system_take(&delivery->system, message->system);
	delivery->ram_fd = files->fds[0];
	delivery->coherence_fd = parcel->coherence < 0 ? -1 : parcel->fds[parcel->coherence];
	memcpy(delivery->event.inln, &pod, sizeof(pod));
	locator_set_files(payload, files);
	delivery->event.payload = *payload;
	parcel_hand_over(parcel);
}

int memctx_receive(vmsig *v, const Vmsig__Memctx *message)
{
	struct memctx_parcel parcel = {.coherence = -1};
	struct locator_files files;
	vmsig_payload payload = {0};
	int r;

	r = parcel_take(v, message, &parcel);
	if (r)
		goto out;
	r = page_check(v, message, &parcel);
	if (r)
		goto out;
	r = fields_check(v, message);
	if (r)
		goto out;
	r = files_unpack(v, message, &parcel, &files);
	if (r)
		goto out;
	r = payload_unpack(v, message, &files, &payload);
	if (r)
		goto out;
	r = layout_check(v, message, locator_segs(&payload), &files);
	if (r)
		goto out;
	r = taken_send(v, message);
	if (r)
		goto out;
	tell(v, message, &payload, &files, &parcel);
	payload = (vmsig_payload){0};
out:
	if (payload.release)
		payload.release((void *)(uintptr_t)payload.data);
	parcel_deinit(&parcel);
	return r;
}
