/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/lib/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/guest/physmap.h"
#include "vmsig/vmsig_coherence.h"

/* The descriptors of one message, owned until they are handed over. */
struct parcel {
	int fds[CHAN_FDS_PER_FRAME];
	size_t n;
	int ram;       /* index, -1 for none */
	int coherence; /* index, -1 for none */
};

static int lie(vmsig *v, const Vmsig__Memctx *message, const char *what)
{
	return client_fail(v, VMSIG_ERR_PROTOCOL, "%s: %s", message->name, what);
}

static void parcel_deinit(struct parcel *parcel)
{
	for (size_t i = 0; i < parcel->n; i++) {
		if (parcel->fds[i] >= 0)
			close(parcel->fds[i]);
	}
}

static int parcel_index(vmsig *v, const Vmsig__Memctx *message, struct parcel *parcel, size_t i)
{
	int *index;

	switch (message->descriptors[i]->purpose) {
	case VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM:
		index = &parcel->ram;
		break;
	case VMSIG__DESCRIPTOR__PURPOSE__COHERENCE_PAGE:
		index = &parcel->coherence;
		break;
	default:
		/* For newer holders; closed with the parcel. */
		return 0;
	}
	if (*index >= 0)
		return lie(v, message, "two descriptors have the same purpose");
	if (message->descriptors[i]->access != O_RDONLY)
		return lie(v, message, "a descriptor is not read-only");
	*index = (int)i;
	return 0;
}

static int parcel_take(vmsig *v, const Vmsig__Memctx *message, struct parcel *parcel)
{
	struct chan_fd_claim claims[CHAN_FDS_PER_FRAME];
	int r;

	if (message->n_descriptors > CHAN_FDS_PER_FRAME)
		return lie(v, message, "the message announces too many descriptors");
	for (size_t i = 0; i < message->n_descriptors; i++) {
		const Vmsig__Descriptor *is = message->descriptors[i];

		claims[i] = (struct chan_fd_claim){
			.dev = is->dev, .ino = is->ino, .size = is->size, .access = is->access};
	}
	r = chan_take_fds(v->link.chan, claims, message->n_descriptors, parcel->fds);
	if (r)
		return lie(v, message, chan_error(v->link.chan));
	parcel->n = message->n_descriptors;
	/* The broker sends the next parcel only when this one was acknowledged. */
	if (chan_pending_fds(v->link.chan))
		return lie(v, message, "more descriptors came than the message announced");
	for (size_t i = 0; i < parcel->n && r == 0; i++)
		r = parcel_index(v, message, parcel, i);
	if (r == 0 && parcel->ram < 0)
		return lie(v, message, "there is no descriptor of guest RAM");
	return r;
}

/* chan_take_fds() has compared the size with what the kernel says. */
static int parcel_check(vmsig *v, const Vmsig__Memctx *message, const struct parcel *parcel)
{
	struct stat st;

	if (fstat(parcel->fds[parcel->ram], &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return lie(v, message, "guest RAM is not a regular file");
	if (parcel->coherence < 0)
		return 0;
	if (fstat(parcel->fds[parcel->coherence], &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)VMSIG_COHERENCE_SIZE)
		return lie(v, message, "the coherence page is not one");
	return 0;
}

static int layout_check(vmsig *v, const Vmsig__Memctx *message, const vmsig_memseg *segs)
{
	uint64_t size = 0;
	struct physmap map = PHYSMAP_INIT;
	int r;

	for (size_t i = 0; i < message->n_descriptors; i++) {
		if (message->descriptors[i]->purpose == VMSIG__DESCRIPTOR__PURPOSE__GUEST_RAM)
			size = message->descriptors[i]->size;
	}
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

static int segments_unpack(vmsig *v, const Vmsig__Memctx *message, vmsig_memseg **ret_segs)
{
	vmsig_memseg *segs;

	if (!message->n_segments) {
		*ret_segs = NULL;
		return 0;
	}
	if (message->n_segments > PHYSMAP_MAX_SEGS)
		return lie(v, message, "the memory layout has too many segments");
	segs = calloc(message->n_segments, sizeof(*segs));
	if (!segs)
		return -ENOMEM;
	for (size_t i = 0; i < message->n_segments; i++) {
		const Vmsig__Segment *is = message->segments[i];

		segs[i] = (vmsig_memseg){.gpa = is->gpa, .len = is->len, .file_off = is->file_off};
	}
	*ret_segs = segs;
	return 0;
}

static int taken_send(vmsig *v, const Vmsig__Memctx *message)
{
	Vmsig__MemctxTaken body = VMSIG__MEMCTX_TAKEN__INIT;
	uint64_t id;

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

static int taken_fd(struct parcel *parcel, int index)
{
	return index < 0 ? -1 : vmsig_delivery_take_fd(&parcel->fds[index]);
}

static void tell(vmsig *v, const Vmsig__Memctx *message, vmsig_memseg *segs, struct parcel *parcel)
{
	const vmsig_memctx pod = {
		.kcr3 = message->kcr3,
		.low = message->low,
		.epoch = message->epoch,
		.nseg = (uint32_t)message->n_segments,
		.flags = message->flags,
	};
	vmsig_delivery *delivery = delivery_queue_add(&v->queue, VMSIG_EV_MEMCTX, message->name);

	delivery->event.endpoint = message->endpoint;
	delivery->guard = message->guard;
	receive_system(&delivery->system, message->system);
	delivery->ram_fd = taken_fd(parcel, parcel->ram);
	delivery->coherence_fd = taken_fd(parcel, parcel->coherence);
	memcpy(delivery->event.inln, &pod, sizeof(pod));
	if (segs)
		delivery->event.payload = (vmsig_payload){
			.data = segs, .len = pod.nseg * sizeof(*segs), .release = free};
}

int memctx_receive(vmsig *v, const Vmsig__Memctx *message)
{
	struct parcel parcel = {.ram = -1, .coherence = -1};
	vmsig_memseg *segs = NULL;
	int r;

	r = parcel_take(v, message, &parcel);
	if (r)
		goto out;
	r = parcel_check(v, message, &parcel);
	if (r)
		goto out;
	r = fields_check(v, message);
	if (r)
		goto out;
	r = segments_unpack(v, message, &segs);
	if (r)
		goto out;
	r = layout_check(v, message, segs);
	if (r)
		goto out;
	r = taken_send(v, message);
	if (r)
		goto out;
	tell(v, message, segs, &parcel);
	segs = NULL;
out:
	free(segs);
	parcel_deinit(&parcel);
	return r;
}
